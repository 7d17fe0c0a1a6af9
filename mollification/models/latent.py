"""What a trained VAE's latents are used for, from `encode` of many examples."""
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mollification.models import objectives

# Variance of a posterior mean over the data above which a latent counts as used, as in Burda et al.
ACTIVE = .01


class Aggregate(NamedTuple):
  """Moments of the aggregated posterior q(z) = 1/N sum_n q(z | x_n), each [Z].

  `mean` and `var` are those of q(z), which are 0 and 1 where it matches the prior; `kl` is the mean
  KL(q(z_i | x) || p(z_i)) in nats; `active` says whether Var_x E[z_i | x] exceeds `ACTIVE`.
  """
  mean: jax.Array
  var: jax.Array
  kl: jax.Array
  active: jax.Array

  @property
  def active_units(self):
    """Number [] of latents that the model uses (Burda et al. 2016, arXiv 1509.00519, §2)."""
    return self.active.sum()


def aggregate(mean, log_var):
  """Aggregate of the posteriors N(mean, exp(log_var)) of N examples, both [N, Z].

    var = E_n[exp(log_var_n)] + Var_n[mean_n]

  Raises ValueError for other shapes and for fewer than two examples.
  """
  if mean.ndim != 2 or mean.shape != log_var.shape or len(mean) < 2:
    raise ValueError('aggregate takes mean and log_var [N, Z] of at least two examples, got '
                     f'{mean.shape} and {log_var.shape}.')
  spread = jnp.var(mean, axis=0)
  return Aggregate(mean.mean(0), jnp.exp(log_var).mean(0) + spread,
                   objectives.gaussian_kl_terms(mean, log_var).mean(0), spread > ACTIVE)
