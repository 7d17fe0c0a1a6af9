"""Families of q(z | x), as modules.

  z, log_q, log_prob_x = posterior(stats, noise, potential, weights)

turns `noise` [B, noise_dim], standard normal, into draws z [B, Z] and log q(z | x) [B], such that
E[p(x, z) / q(z | x)] = p(x). `stats` are (mean, log_var) [B, Z] of the encoder; `potential` knows
log p(x, z), see `Potential`. A family that found log p(x | z) [B] at z on its way returns it, any
other None. `weights` [B, 1], or None, multiply gradients that reach `stats` through z, for
a family whose `estimator` is 'dreg'. `code(mean, potential)` [B, Z] is where the encoder's mean
goes, without noise. `kl(stats, draw)` gives (KL [B], the KL as it is penalised
[B]), in closed form where there is one, else the `draw` [B] of it. `check()` raises ValueError for
options that make no sense, as every other method does.
"""
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import decoders, objectives


class Potential(NamedTuple):
  """What a family may ask about p(x, z): `force` and `last` of z [B, Z].

  `force(z)` [B, Z] is the gradient of log p(x, z) by z, a pure function. `last(z)` is (log p(x | z)
  [B], force): from one pass of the decoder, which moves running statistics; to be called once.
  """
  force: Callable
  last: Callable


class GaussianPosterior(nn.Module):
  """N(mean, diag exp(log_var)), by z = mean + exp(log_var / 2) noise.

  `estimator` is one of `objectives.ESTIMATORS`; `free_bits` is a floor in nats under the KL of each
  latent, where it is in closed form: with the standard estimator and one draw.

  Raises ValueError for an unknown estimator, 'stl' of several draws, whose gradient is biased, a
  negative floor, and a floor without such a KL.
  """
  latent_dim: int
  num_samples: int = 1
  estimator: str = 'standard'
  free_bits: float = 0.

  def setup(self):
    self.check()

  def check(self):
    """See the module's text."""
    if self.estimator not in objectives.ESTIMATORS:
      raise ValueError(f'estimator must be one of {objectives.ESTIMATORS}, got '
                       f'{self.estimator!r}.')
    if self.estimator == 'stl' and self.num_samples > 1:
      raise ValueError("estimator 'stl' is for one draw, got num_samples "
                       f"{self.num_samples}, of which its gradient is biased; take 'dreg'.")
    if self.free_bits < 0.:
      raise ValueError(f'free_bits must not be negative, got {self.free_bits}.')
    if self.free_bits and (self.num_samples > 1 or self.estimator != 'standard'):
      raise ValueError('free_bits are a floor under the KL in closed form, got num_samples '
                       f'{self.num_samples} and estimator {self.estimator!r}; set 1 and '
                       "'standard', or free_bits=0.")

  @property
  def noise_dim(self):
    """Standard normal numbers that a draw takes."""
    return self.latent_dim

  def __call__(self, stats, noise, potential, weights=None):
    """See the module's text."""
    del potential
    mean, log_var = stats
    z = mean + jnp.exp(.5 * log_var) * noise
    if weights is not None:
      z = objectives.scale_gradient(z, weights)
    if self.estimator != 'standard':
      mean, log_var = jax.lax.stop_gradient(stats)
    return z, decoders.gaussian_log_prob(z, mean, log_var), None

  def code(self, mean, potential):
    """See the module's text."""
    del potential
    return mean

  def kl(self, stats, draw):
    """See the module's text."""
    if self.estimator != 'standard':
      return draw, draw
    terms = objectives.gaussian_kl_terms(*stats)
    penalised = objectives.free_bits(terms, self.free_bits) if self.free_bits else terms.sum(-1)
    return terms.sum(-1), penalised
