"""Coupling layers: one half of the coordinates is transformed by a function of the other."""
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mollification.models import nets
from mollification.models.dropout import part_keys
from mollification.models.flows.bijector import Bijector


class MaskedAffineCoupling(Bijector):
  """Affine coupling of events [D] with an alternating mask (Dinh et al. 2017, eq. 9).

    m_i = (i + parity) mod 2;  log s = scale(m x) (1 - m);  t = translate(m x) (1 - m)
    z = x e^{log s} + t,  log det = sum log s;  x = (z - t) e^{-log s}

  Coordinates with m = 1 pass unchanged. `scale` and `translate` are nets D -> hidden -> hidden ->
  D, the first with tanh, the second with ReLU between its layers, both with linear output,
  orthogonal kernels and zero biases. A condition [B, K] is appended to the input of both, and
  `dropout` is that of their hidden units, where keys are given, `dtype` the type in which they
  compute, 'float32' or 'bfloat16'; parameters, e^{log s} and log det are float32. What is said of
  precision in `ImageCoupling` holds here. Raises ValueError for another type, and for events that
  are no vectors.
  """
  parity: int = 0
  hidden: int = 512
  dropout: float = 0.
  dtype: str = 'float32'
  draws: ClassVar[bool] = True

  def __post_init__(self):
    super().__post_init__()
    nets.check_type(self.dtype)

  @nn.compact
  def _log_scale_and_shift(self, x, cond, keys=None):
    """(log s, t), each [B, D], of x [B, D]; only the coordinates with m = 1 are read."""
    if x.ndim != 2:
      raise ValueError(f'a masked coupling needs vectors [B, D], got shape {x.shape}; flatten '
                       'events first, or take ImageCoupling.')
    mask = jnp.broadcast_to((jnp.arange(x.shape[-1]) + self.parity) % 2, x.shape).astype(x.dtype)
    inputs = x * mask if cond is None else jnp.concatenate([x * mask, cond], axis=-1)
    if self.dtype != 'float32':   # float64, where it is enabled, stays
      inputs = inputs.astype(self.dtype)

    def net(activation, name, part):
      return nets.MLP((self.hidden, self.hidden), x.shape[-1], activation,
                      nn.initializers.orthogonal(), self.dropout, name=name)(
                        inputs, part_keys(keys, part)).astype(x.dtype)

    return net(nn.tanh, 'scale', 0) * (1. - mask), net(nn.relu, 'translate', 1) * (1. - mask)

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None, keys=None):
    log_scale, shift = self._log_scale_and_shift(x, cond, keys)
    return x * jnp.exp(log_scale) + shift, log_scale.sum(axis=-1)

  def inverse_and_log_det(self, z, *, cond=None):
    log_scale, shift = self._log_scale_and_shift(z, cond)
    return (z - shift) * jnp.exp(-log_scale), -log_scale.sum(axis=-1)
