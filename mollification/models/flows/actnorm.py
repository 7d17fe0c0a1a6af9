"""ActNorm: a per-channel affine layer whose first values come from the data."""
import flax.linen as nn
import jax.numpy as jnp

from mollification.models.flows.bijector import Bijector, positions
from mollification.models.moments import batch_moments


class ActNorm(Bijector):
  """Per-channel affine map of events [..., C] (Kingma & Dhariwal 2018, section 3.1).

    z = (x - mean) e^{-log_std},  log det = -P sum_c log_std_c,  P positions of an image

  `init` sets `mean` and `log_std` to the moments of the batch that it is given, over all shards of
  `axis_name` and without masked rows, so that the output starts with mean 0 and variance 1;
  afterwards both are ordinary parameters. `epsilon` is added to that variance: a constant channel
  starts with a scale of 1000, not of infinity.
  """
  axis_name: str | None = None
  epsilon: float = 1e-6

  @nn.compact
  def _affine(self, x, mask=None):
    """(mean, log_std), each of x's shape, and log det [B] of the forward map."""
    mean, log_std = jnp.zeros(x.shape[-1:]), jnp.zeros(x.shape[-1:])
    if self.is_initializing():
      moments = batch_moments(x, epsilon=self.epsilon, mask=mask, axis_name=self.axis_name)
      mean, log_std = moments.mean, .5 * jnp.log(moments.var)
    mean = self.param('mean', lambda _: mean)
    log_std = self.param('log_std', lambda _: log_std)
    log_det = jnp.broadcast_to(-positions(x) * log_std.sum(), x.shape[:1])
    return jnp.broadcast_to(mean, x.shape), jnp.broadcast_to(log_std, x.shape), log_det

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    mean, log_std, log_det = self._affine(x, mask)
    return (x - mean) * jnp.exp(-log_std), log_det

  def inverse_and_log_det(self, z, *, cond=None):
    mean, log_std, log_det = self._affine(z)
    return z * jnp.exp(log_std) + mean, -log_det
