"""Masked autoregressive flow (Papamakarios et al. 2017)."""
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mollification.models.flows import tabular
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Bijector
from mollification.models.flows.made import MADE
from mollification.models.flows.permutation import Reverse


class MaskedAutoregressive(Bijector):
  """Affine autoregressive layer of events [D] (Papamakarios et al. 2017, eqs. 2 to 5).

    z_i = (x_i - m_i) e^{-a_i},  (m_i, a_i) = MADE(x_{<i}),  log det = -sum a

  The inverse has to find x_{<i} before x_i: D passes through the network, a `lax.scan` over the
  coordinates, from which the a_i come too, so that its log-determinant takes no further pass.
  Forward the network sees x_{<i} themselves, in the inverse what was found of them. Its products
  have precision 'highest': rounded to bfloat16, as a TPU's are by default, the two would differ
  wherever a rounding flips, which is passed on to all later coordinates. What that costs there was
  not measured; makers say six products of bfloat16 for one. `dropout` is that of the network's
  hidden units, where keys are given.
  """
  widths: tuple[int, ...] = (512, 512)
  dropout: float = 0.
  draws: ClassVar[bool] = True

  def setup(self):
    self.net = MADE(2, self.widths, dropout=self.dropout, precision='highest')

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None, keys=None):
    shift, log_scale = jnp.moveaxis(self.net(x, cond, keys), 1, 0)
    return (x - shift) * jnp.exp(-log_scale), -log_scale.sum(axis=-1)

  def inverse_and_log_det(self, z, *, cond=None):
    def coordinate(net, x, i):
      shift, log_scale = jnp.moveaxis(net(x, cond)[:, :, i], 1, 0)
      return x.at[:, i].set(z[:, i] * jnp.exp(log_scale) + shift), log_scale

    scan = nn.scan(coordinate, variable_broadcast='params', split_rngs={'params': False})
    x, log_scales = scan(self.net, jnp.zeros_like(z), jnp.arange(z.shape[-1]))   # [D, B]
    return x, log_scales.sum(axis=0)


def maf(event_shape, num_blocks=5, hidden=512, momentum=.9, learned_base=False, classes=0,
        inverse_error=0, dropout=0., level_condition=False, axis_name=None):
  """The tabular MAF: `num_blocks` × [MADE, BatchNorm, Reverse] on the flat event.

  Each MADE has two hidden layers of `hidden` ReLU units. `momentum` is that of the running
  statistics; the other options are those of `tabular_flow` (an `inverse_error` takes D passes
  through every MADE). Raises ValueError for events of fewer than two numbers and for less than one
  block or hidden unit.
  """
  tabular.check(event_shape, num_blocks, hidden, 'an autoregressive flow')

  def block(_):
    return (MaskedAutoregressive((hidden, hidden), dropout), BatchNorm(axis_name, momentum),
            Reverse())

  return tabular.tabular_flow(event_shape, tabular.alternating(block, num_blocks),
                              learned_base=learned_base, classes=classes,
                              inverse_error=inverse_error, dropout=dropout,
                              level_condition=level_condition, axis_name=axis_name)
