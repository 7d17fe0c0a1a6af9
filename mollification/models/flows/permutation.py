"""Fixed permutations of the coordinates, so that each comes first in some layer."""
import jax.numpy as jnp
import numpy as np

from mollification.models.flows.bijector import Bijector, positions


class Reverse(Bijector):
  """z_i = x_{D-1-i} for events [..., D], along the last axis; log-determinant 0.

  Raises ValueError for an x that is no batch.
  """

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    positions(x)
    return x[..., ::-1], jnp.zeros(x.shape[0])

  def inverse_and_log_det(self, z, *, cond=None):
    return self.forward_and_log_det(z)


class RandomPermutation(Bijector):
  """z_i = x_{p(i)} along the last axis, p drawn once from `seed`; log-determinant 0.

  p is a constant of the program: a function of (seed, D), neither trained nor in a checkpoint.
  Raises ValueError for an x that is no batch.
  """
  seed: int = 0

  def _order(self, size):
    return np.random.default_rng(self.seed).permutation(size)

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    positions(x)
    return x[..., self._order(x.shape[-1])], jnp.zeros(x.shape[0])

  def inverse_and_log_det(self, z, *, cond=None):
    positions(z)
    return z[..., np.argsort(self._order(z.shape[-1]))], jnp.zeros(z.shape[0])
