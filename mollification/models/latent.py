"""What a trained VAE's latents are used for: `LatentModel` has them, `aggregate` sums them up."""
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mollification.models import moments, objectives
from mollification.models.base import Model

# Variance of a posterior mean over the data above which a latent counts as used, as in Burda et al.
ACTIVE = .01


class LatentModel(Model, kw_only=True):
  """A VAE, whatever its latents: as vectors [B, Z] with the prior N(0, I). Abstract.

  Statistics are the running ones. `GAUSSIAN_POSTERIOR` says whether q(z | x) is the Gaussian of
  `encode` itself, or what becomes of it.
  """
  EXACT_LIKELIHOOD: ClassVar[bool] = False
  GAUSSIAN_POSTERIOR: ClassVar[bool] = True

  @property
  def draws(self):
    """How many draws of z the bound of `log_likelihood` is of."""
    return 1

  def encode(self, x):
    """(mean [B, Z], log_var [B, Z]) of the Gaussian that q(z | x) starts from; x [B, *event]."""
    raise NotImplementedError

  def code(self, x):
    """The latents [B, Z] that stand for x [B, *event]: those of the encoder's mean, nothing drawn.

    It is the mean itself, or what the family of q(z | x) makes of it.
    """
    return self.encode(x)[0]

  def decode(self, z):
    """Mean [B, *event] of p(x | z) for z [B, Z]."""
    raise NotImplementedError

  def reconstruct(self, x):
    """Decoder mean [B, *event] at the code of x [B, *event]."""
    return self.decode(self.code(x))

  def interpolate(self, a, b, steps):
    """Decoder means [steps, B, *event] on the straight line between the codes of two.

    a and b are [B, *event]; the ends are their reconstructions.
    """
    ends = jnp.stack([self.code(a), self.code(b)])              # [2, B, Z]
    share = jnp.linspace(0., 1., steps)
    z = jnp.einsum('sk,kbz->sbz', jnp.stack([1. - share, share], axis=1), ends)
    return self.decode(z.reshape(-1, z.shape[-1])).reshape(steps, *a.shape)


class Aggregate(NamedTuple):
  """Moments of the aggregated posterior q(z) = 1/N sum_n q(z | x_n), each [Z].

  `mean` and `var` are those of q(z), which are 0 and 1 where it matches the prior; `kl` is the mean
  KL(q(z_i | x) || p(z_i)) in nats, NaN where q(z | x) is no Gaussian; `active` says whether
  Var_x E[z_i | x] exceeds `ACTIVE`.
  """
  mean: jax.Array
  var: jax.Array
  kl: jax.Array
  active: jax.Array

  @property
  def active_units(self):
    """Number [] of latents that the model uses (Burda et al. 2016, arXiv 1509.00519, §2)."""
    return self.active.sum()


def aggregate(posteriors):
  """Aggregate of the posteriors N(mean, exp(log_var)) of N examples, in parts.

    var = E_n[exp(log_var_n)] + Var_n[mean_n]

  `posteriors` are (mean, log_var), both [n, Z]; their moments are pooled, so that one part at a
  time is in memory. Raises ValueError for other shapes and for fewer than two examples in all.
  """
  empty = moments.Moments(0., 0., 0.)
  found = functools.reduce(moments.merge, map(_moments, posteriors), empty)
  if found.count < 2:
    raise ValueError('aggregate takes mean and log_var [n, Z] of at least two examples, got '
                     f'{int(found.count)}; pass more.')
  mean, var, kl = jnp.split(found.mean, 3)
  spread = jnp.split(found.var, 3)[0]
  return Aggregate(mean, var + spread, kl, spread > ACTIVE)


def aggregate_draws(pairs):
  """Aggregate of a q(z | x) of any family, of two draws of it for each of N examples, in parts.

    Var_n E[z | x_n] = Cov(z, z') = Var((z + z') / 2) - Var((z - z') / 2)

  `pairs` are (z, z'), both [n, Z]. Raises ValueError as `aggregate`.
  """
  empty = moments.Moments(0., 0., 0.)
  found = functools.reduce(moments.merge, map(_moments_of_draws, pairs), empty)
  if found.count < 2:
    raise ValueError('aggregate_draws takes two draws [n, Z] of at least two examples, got '
                     f'{int(found.count)}; pass more.')
  (mean, _), (common, apart) = (jnp.split(a, 2) for a in (found.mean, found.var))
  spread = common - apart
  return Aggregate(mean, common + apart, jnp.full_like(mean, jnp.nan), spread > ACTIVE)


def _moments_of_draws(pair):
  """Moments over the examples of half the sum and half the difference, side by side [2 Z]."""
  a, b = pair
  if a.ndim != 2 or a.shape != b.shape:
    raise ValueError(f'aggregate_draws takes draws of one shape [n, Z], got {a.shape} and '
                     f'{b.shape}; flatten latents first.')
  return moments.batch_moments(jnp.concatenate([(a + b) / 2, (a - b) / 2], axis=1))


def _moments(posterior):
  """Moments over the examples of mean, variance and KL, side by side [3 Z]."""
  mean, log_var = posterior
  if mean.ndim != 2 or mean.shape != log_var.shape:
    raise ValueError('aggregate takes mean and log_var of one shape [n, Z], got '
                     f'{mean.shape} and {log_var.shape}; flatten latents first.')
  terms = objectives.gaussian_kl_terms(mean, log_var)
  return moments.batch_moments(jnp.concatenate([mean, jnp.exp(log_var), terms], axis=1))
