"""Hamiltonian VAE (Caterini, Doucet & Sejdinovic 2018, arXiv 1805.11328)."""
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import decoders
from mollification.models.autoencoder import Autoencoder
from mollification.models.posteriors import Potential


class HVAE(Autoencoder, kw_only=True):
  """`Autoencoder` with q(z | x) a Gaussian that `leapfrog_steps` of Hamiltonian dynamics transform.

  `step_size` is epsilon, `beta0` in (0, 1] the inverse temperature that the momentum starts at;
  with `learn_dynamics` both are where learning starts. Gradients go through the forces, which takes
  second derivatives of the decoder; with `through_forces` False they hold the forces constant, as
  pythae's model does: in 10 passes' worth of products in place of 24 for three steps, but biased.
  Raises ValueError for values that make no sense.
  """
  GAUSSIAN_POSTERIOR: ClassVar[bool] = False

  leapfrog_steps: int = 3
  step_size: float = 1e-3
  beta0: float = .3
  learn_dynamics: bool = True
  through_forces: bool = True

  def make_posterior(self):
    """The family of the dynamics."""
    return HamiltonianPosterior(self.latent_dim, self.leapfrog_steps, self.step_size, self.beta0,
                                self.learn_dynamics, self.through_forces)


class HamiltonianPosterior(nn.Module):
  """z_0 ~ N(mean, diag exp(log_var)), rho_0 = gamma / sqrt(beta0), gamma ~ N(0, I), then K steps.

  A step is one of `dynamics` on U(z) = -log p(x, z), then a cooling rho <- rho sqrt(beta_{k-1} /
  beta_k), 1 / sqrt(beta_k) = (1 - 1 / sqrt(beta0)) (k / K)^2 + 1 / sqrt(beta0). Leapfrog keeps
  volumes, and what the cooling changes of them is what the variance of rho_0 changed, so that with

    log q = log q(z_0 | x) - |gamma|^2 / 2 + |rho_K|^2 / 2

  E[p(x, z_K) / q] = p(x). The KL is drawn. See `posteriors` for the interface.
  """
  estimator: ClassVar[str] = 'standard'

  latent_dim: int
  steps: int
  step_size: float
  beta0: float
  learn: bool
  through_forces: bool

  def setup(self):
    self.check()
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

  def __call__(self, stats, noise, potential, weights=None):
    """(z [B, Z], log_q [B], log p(x | z) [B]); the last from the pass that the last force takes."""
    del weights
    mean, log_var = stats
    start, gamma = jnp.split(noise, 2, axis=-1)
    z = mean + jnp.exp(.5 * log_var) * start
    log_q = decoders.gaussian_log_prob(z, mean, log_var)
    if self.is_initializing():
      return z, log_q, None   # the decoder has no parameters yet that could be differentiated
    if not self.through_forces:
      potential = _held(potential)
    z, rho, log_prob_x = dynamics(potential, z, gamma / self.root, jnp.exp(self.log_step),
                                  self.root, self.steps)
    return z, log_q + .5 * jnp.sum(rho**2 - gamma**2, axis=-1), log_prob_x

  def code(self, mean, potential):
    """z_K [B, Z] of the mean of z_0, without a momentum at first."""
    return dynamics(potential, mean, jnp.zeros_like(mean), jnp.exp(self.log_step), self.root,
                    self.steps)[0]

  def kl(self, stats, draw):
    """(the drawn log q - log p(z) [B], the same)."""
    del stats
    return draw, draw

  def check(self):
    """See `posteriors`."""
    if self.steps < 1:
      raise ValueError(f"leapfrog_steps must be at least 1, got {self.steps}; without any, use "
                       "'vae'.")
    if self.step_size <= 0.:
      raise ValueError(f'step_size must be positive, got {self.step_size}; the default is 0.001.')
    if not 0. < self.beta0 <= 1. or (self.learn and self.beta0 == 1.):
      raise ValueError(f'beta0 must lie in (0, 1), or be 1 and not learned, got {self.beta0}; 1 '
                       'with learn_dynamics=False is no tempering.')


def dynamics(potential, z, rho, step_size, root, steps):
  """(z, rho [B, Z], log p(x | z) [B]) after `steps` leapfrog steps, each cooled.

    rho <- rho + epsilon/2 force(z),  z <- z + epsilon rho,  rho <- rho + epsilon/2 force(z)

  A step is reversible, by itself with the momentum turned, and volume-preserving: the drift takes
  the momentum *after* the first half kick. Its second force is the next one's first. `potential` is
  a `posteriors.Potential`, `root` is sqrt(beta0).
  """
  heat = [(1. - 1. / root) * (k / steps)**2 + 1. / root for k in range(steps + 1)]
  push = potential.force(z)
  for k in range(1, steps + 1):
    rho = rho + .5 * step_size * push
    z = z + step_size * rho
    if k < steps:
      push = potential.force(z)
    else:
      log_prob_x, push = potential.last(z)
    rho = (rho + .5 * step_size * push) * (heat[k] / heat[k - 1])
  return z, rho, log_prob_x


def _held(potential):
  """The `potential` with forces that are constants to any gradient."""
  def last(z):
    log_prob_x, push = potential.last(z)
    return log_prob_x, jax.lax.stop_gradient(push)
  return Potential(lambda z: jax.lax.stop_gradient(potential.force(z)), last)
