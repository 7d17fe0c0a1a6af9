"""Hamiltonian VAE (Caterini, Doucet & Sejdinovic 2018, arXiv 1805.11328)."""
import itertools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import decoders
from mollification.models.autoencoder import Autoencoder


class HVAE(Autoencoder, kw_only=True):
  """`Autoencoder` with q(z | x) a Gaussian that `leapfrog_steps` of Hamiltonian dynamics transform.

  `step_size` is epsilon, `beta0` in (0, 1] the inverse temperature that the momentum starts at;
  with `learn_dynamics` both are where learning starts. Raises ValueError for values that make no
  sense.
  """
  leapfrog_steps: int = 3
  step_size: float = 1e-3
  beta0: float = .3
  learn_dynamics: bool = True

  def make_posterior(self):
    """The family of the dynamics."""
    return HamiltonianPosterior(self.latent_dim, self.leapfrog_steps, self.step_size, self.beta0,
                                self.learn_dynamics)


class HamiltonianPosterior(nn.Module):
  """z_0 ~ N(mean, diag exp(log_var)), rho_0 = gamma / sqrt(beta0), gamma ~ N(0, I), then K steps.

  A step is a `leapfrog` on U(z) = -log p(x, z) and a cooling rho <- rho sqrt(beta_{k-1} / beta_k),
  1 / sqrt(beta_k) = (1 - 1 / sqrt(beta0)) (k / K)^2 + 1 / sqrt(beta0). Leapfrog keeps volumes, and
  what the cooling changes of them is what the variance of rho_0 changed, so that with

    log q = log q(z_0 | x) - |gamma|^2 / 2 + |rho_K|^2 / 2

  E[p(x, z_K) / q] = p(x). The KL is drawn. See `posteriors` for the interface.
  """
  estimator: ClassVar[str] = 'standard'

  latent_dim: int
  steps: int
  step_size: float
  beta0: float
  learn: bool

  def setup(self):
    self._check()
    log_step = math.log(self.step_size)
    if self.learn:
      logit = math.log(self.beta0 / (1. - self.beta0))
      self.log_step = self.param('log_step', nn.initializers.constant(log_step), ())
      self.root = jnp.sqrt(nn.sigmoid(
          self.param('logit_beta0', nn.initializers.constant(logit), ())))
    else:
      self.log_step = log_step
      self.root = math.sqrt(self.beta0)

  @property
  def noise_dim(self):
    """Standard normal numbers that a draw takes: those of z_0 and of the momentum."""
    return 2 * self.latent_dim

  def __call__(self, stats, noise, log_joint, weights=None):
    """(z [B, Z], log_q [B])."""
    del weights
    mean, log_var = stats
    start, gamma = jnp.split(noise, 2, axis=-1)
    z = mean + jnp.exp(.5 * log_var) * start
    log_q = decoders.gaussian_log_prob(z, mean, log_var)
    if self.is_initializing():
      return z, log_q   # the decoder has no parameters yet that could be differentiated
    # Of a sum over examples each gets its own gradient; batch statistics do couple them.
    force = jax.grad(lambda z: log_joint(z).sum())
    z, rho = dynamics(force, z, gamma / self.root, jnp.exp(self.log_step), self.root, self.steps)
    return z, log_q + .5 * jnp.sum(rho**2 - gamma**2, axis=-1)

  def kl(self, stats, draw):
    """(the drawn log q - log p(z) [B], the same)."""
    del stats
    return draw, draw

  def _check(self):
    if self.steps < 1:
      raise ValueError(f"leapfrog_steps must be at least 1, got {self.steps}; without any, use "
                       "'vae'.")
    if self.step_size <= 0.:
      raise ValueError(f'step_size must be positive, got {self.step_size}.')
    if not 0. < self.beta0 <= 1. or (self.learn and self.beta0 == 1.):
      raise ValueError(f'beta0 must lie in (0, 1), or be 1 and not learned, got {self.beta0}; 1 '
                       'with learn_dynamics=False is no tempering.')


def dynamics(force, z, rho, step_size, root, steps):
  """(z, rho) [B, Z] after `steps` leapfrog steps, each cooled; `root` is sqrt(beta0)."""
  heat = [(1. - 1. / root) * (k / steps)**2 + 1. / root for k in range(steps + 1)]
  push = force(z)
  for before, after in itertools.pairwise(heat):
    z, rho, push = leapfrog(force, z, rho, step_size, push)
    rho = rho * (after / before)
  return z, rho


def leapfrog(force, z, rho, step_size, push):
  """(z, rho, force at z) [B, Z] after one step; `push` is the force -dU/dz at the z given.

    rho <- rho + epsilon/2 force(z),  z <- z + epsilon rho,  rho <- rho + epsilon/2 force(z)

  Reversible, by the same step with the momentum turned, and volume-preserving: the drift takes the
  momentum *after* the first half kick.
  """
  rho = rho + .5 * step_size * push
  z = z + step_size * rho
  push = force(z)
  return z, rho + .5 * step_size * push, push
