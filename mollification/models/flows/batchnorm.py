"""Batch normalisation as an invertible layer."""
import flax.linen as nn
import jax.numpy as jnp

from mollification.models.flows.bijector import Bijector, positions
from mollification.models.moments import RunningMoments


class BatchNorm(Bijector):
  """Batch normalisation of events [..., C] with its log-determinant (Dinh et al. 2017, eq. 18).

    v = biased variance + epsilon;  z = e^{log_gamma} (x - mean) / sqrt(v) + beta
    log det = P sum_c (log_gamma_c - 1/2 log v_c),  P positions of an image, 1 of a vector

  Training uses the batch's mean and v, with gradients through them; the inverse, and everything
  outside training, the running ones (`RunningMoments`, which stores v itself). Hence the inverse
  undoes the forward map with train=False only. Raises ValueError for a `momentum` that would not
  average.
  """
  axis_name: str | None = None
  momentum: float = .9
  epsilon: float = 1e-5

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.momentum < 1:
      raise ValueError(f'momentum must lie in [0, 1), got {self.momentum}; 0 keeps the statistics '
                       'of the last batch.')

  @nn.compact
  def _affine(self, x, *, train=False, mask=None):
    """(log scale, mean, beta), each of x's shape, and log det [B] of the forward map."""
    mean, var = RunningMoments(self.momentum, self.epsilon, self.axis_name, name='moments')(
        x, train=train, mask=mask)
    log_gamma = self.param('log_gamma', nn.initializers.zeros, x.shape[-1:])
    beta = self.param('beta', nn.initializers.zeros, x.shape[-1:])
    log_scale = log_gamma - .5 * jnp.log(var)
    log_det = jnp.broadcast_to(positions(x) * log_scale.sum(), x.shape[:1])
    return *(jnp.broadcast_to(v, x.shape) for v in (log_scale, mean, beta)), log_det

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    log_scale, mean, beta, log_det = self._affine(x, train=train, mask=mask)
    return jnp.exp(log_scale) * (x - mean) + beta, log_det

  def inverse_and_log_det(self, z, *, cond=None):
    log_scale, mean, beta, log_det = self._affine(z)
    return jnp.exp(-log_scale) * (z - beta) + mean, -log_det
