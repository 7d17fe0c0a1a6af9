"""Normalising flow: a bijector onto a standard normal."""
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from mollification import rng
from mollification.models import gaussian
from mollification.models.base import Model, check_events
from mollification.models.flows.bijector import Bijector


class Flow(Model, kw_only=True):
  """log p(x) = log N(f(x); 0, I) + log |det df/dx| with f = `bijector`.

  f maps events of `event_shape` to vectors [D], D the event's size; a flow of several scales
  concatenates its latents. The base has no parameters: a learned diagonal Gaussian is an affine
  last layer of f, and is scaled by `temperature` about its mean in the same way.

  `conditions` is the size K of the condition [B, K] that f takes, 0 for none: every method raises
  ValueError for a cond of another shape, for one that f would ignore and for one that is missing.
  Of a flow `of_level` the condition [B, 1] is the root of the level of noise in each example, and
  a missing one is 0: what is asked for without it is the density, and samples, of clean data.
  `dropout` says whether f drops units in training, by the `keys` of `loss`; nothing else does.
  `inverse_error`: of how many examples of a batch the loss also reports the largest
  |f^-1(f(x)) - x|, under running statistics, as metric 'inverse_error'; 0 for none. They are the
  first of the global batch, on however many devices (with `accumulate`: of each part, of which the
  metric is then the mean); an inverse that is NaN counts as infinitely wrong. `gain_penalty` times
  the sum of squares of all parameters called 'gain' (weight normalisation) is the `penalty`.
  Raises ValueError where one of these three is negative.
  """
  EXACT_LIKELIHOOD: ClassVar[bool] = True

  bijector: Bijector
  conditions: int = 0
  of_level: bool = False
  dropout: bool = False
  inverse_error: int = 0
  gain_penalty: float = 0.
  starts_from_data: bool = False

  def __post_init__(self):
    super().__post_init__()
    for name in ('conditions', 'inverse_error', 'gain_penalty'):
      if getattr(self, name) < 0:
        raise ValueError(f'{name} must not be negative, got {getattr(self, name)}; 0 is without.')

  def log_prob(self, x, cond=None):
    """Log-density [B] in nats of x [B, *event]; running statistics.

    Raises ValueError, as `loss` does, for an x of another shape.
    """
    check_events(self, x)
    cond = self._condition(cond, x.shape[0])
    z, log_det = self.bijector.forward_and_log_det(x, cond=cond)
    return gaussian.standard_normal_log_prob(z) + log_det

  def log_likelihood(self, x, keys, cond=None):
    """`log_prob`: exact, so `keys` are ignored and may be None."""
    return self.log_prob(x, cond)

  def bits_per_dim(self, x, cond=None):
    """-log_prob / (D log 2), [B], of x [B, *event]: in model space, without prepare's log-det.

    Bits/dim of pixels, on their own scale, are those of `evaluation/likelihood.py`.
    """
    return -self.log_prob(x, cond) / (math.prod(self.event_shape) * math.log(2.))

  def score(self, x, cond=None):
    """Gradient of the log-density by x, [B, *event], at x [B, *event]; running statistics."""
    # Examples do not meet where statistics are the running ones: the sum's gradient is per example.
    (gradient,) = nn.grad(lambda flow, v: flow.log_prob(v, cond).sum(), self, x)
    return gradient

  def loss(self, x, keys, *, train, progress=1., cond=None, mask=None):
    """See `Model.loss`; `keys` are the noise of dropout, None leaves it out, and of no use else.

    Metrics: 'log_base' and 'log_det' [B].
    """
    check_events(self, x)
    cond = self._condition(cond, x.shape[0])
    draws = self.dropout and keys is not None
    noise = {'keys': rng.batch_keys(keys, x.shape[0])} if draws else {}
    z, log_det = self.bijector.forward_and_log_det(x, train=train, mask=mask, cond=cond, **noise)
    log_base = gaussian.standard_normal_log_prob(z)
    metrics = {'log_base': log_base, 'log_det': log_det}
    if self.inverse_error and not self.is_initializing():
      # Only training passes run under the collective axis.
      error = self._largest_error(x, cond, mask, self.axis_name if train else None)
      metrics['inverse_error'] = jnp.broadcast_to(error, x.shape[:1])
    return -(log_base + log_det), metrics

  def sample(self, keys, *, temperature=1., cond=None):
    """Samples [N, *event] from z ~ N(0, temperature^2 I), one per key of `keys` [N]."""
    cond = self._condition(cond, keys.size)
    z = temperature * gaussian.standard_normal(keys, (math.prod(self.event_shape),))
    return self.bijector.inverse_and_log_det(z, cond=cond)[0]

  def penalty(self):
    """`gain_penalty` times the sum of squared gains, []."""
    if not self.gain_penalty:
      return jnp.zeros(())
    params = traverse_util.flatten_dict(self.variables['params'])
    return self.gain_penalty * sum((v**2).sum() for path, v in params.items() if path[-1] == 'gain')

  def _condition(self, cond, size):
    """`cond` as f takes it, for `size` examples: float32, since whole numbers have no gradient."""
    if self.of_level and cond is None:
      return jnp.zeros((size, 1))
    if not self.conditions and cond is not None:
      raise ValueError(f'this flow takes no condition, got cond of shape {cond.shape}; leave it '
                       'out, or make a flow with classes.')
    if self.conditions and (cond is None or cond.shape != (size, self.conditions)):
      raise ValueError(f'this flow has a condition of {self.conditions} numbers: pass cond [B, '
                       f'{self.conditions}], got {None if cond is None else cond.shape} for B = '
                       f'{size}.')
    return None if cond is None else cond.astype(jnp.float32)

  def _largest_error(self, x, cond, mask, axis_name):
    """Largest |f^-1(f(x)) - x| [] of the batch's first `inverse_error` examples; no gradient.

    Masked rows do not count. The same on every shard of `axis_name`.
    """
    first, size = 0, x.shape[0]
    if axis_name is not None:
      first = jax.lax.axis_index(axis_name) * size
    counted = first + jnp.arange(size) < self.inverse_error
    if mask is not None:
      counted &= mask
    x, cond, counted = jax.tree.map(lambda a: a[:self.inverse_error],
                                    jax.lax.stop_gradient((x, cond, counted)))
    z, _ = self.bijector.forward_and_log_det(x, cond=cond)
    back, _ = self.bijector.inverse_and_log_det(z, cond=cond)
    errors = jax.lax.stop_gradient(jnp.abs(back - x).reshape(x.shape[0], -1).max(axis=1))
    errors = jnp.where(jnp.isnan(errors), jnp.inf, errors)   # a maximum over devices may drop NaN
    error = jnp.where(counted, errors, 0.).max()
    return error if axis_name is None else jax.lax.pmax(error, axis_name)
