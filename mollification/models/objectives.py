"""Objectives of latent variable models, per example, in nats.

K draws of a latent give log-weights [K, B], log w = log p(x | z) - beta (log q(z | x) - log p(z)).
"""
import math

import jax
import jax.numpy as jnp

# How gradients of a bound reach the parameters of q: through all of it; 'stl', without the score
# of q (Roeder et al. 2017), for one draw alone: of more it would be biased (Tucker et al. 2019);
# 'dreg', that one with doubly reparameterised weights.
ESTIMATORS = ('standard', 'stl', 'dreg')


def gaussian_kl_terms(mean, log_var):
  """KL(N(mean, exp(log_var)) || N(0, 1)) of each latent, [B, Z] in nats, for [B, Z].

    1/2 [mean_i^2 + exp(log_var_i) - log_var_i - 1]

  (Kingma & Welling 2014, appendix B).
  """
  # expm1: exp(log_var) - 1 loses its digits in float32 where the posterior is near the prior.
  return .5 * (mean**2 + jnp.expm1(log_var) - log_var)


def gaussian_kl(mean, log_var):
  """KL(N(mean, diag exp(log_var)) || N(0, I)) [B] in nats, for mean and log_var [B, Z]."""
  return jnp.sum(gaussian_kl_terms(mean, log_var), axis=-1)


def free_bits(terms, floor):
  """sum_i max(terms_i, floor) [B] of KL terms [B, Z]: no gradient below `floor` nats a latent.

  Kingma et al. 2016 (arXiv 1606.04934), eq. 15, with the floor per example, not per batch.
  """
  return jnp.sum(jnp.maximum(terms, floor), axis=-1)


def kl_weight(progress, beta, warmup):
  """Weight [] of the KL: beta min(1, progress / warmup); `warmup` 0 is beta throughout.

  `progress` [] is the share of updates done, `warmup` the share over which the weight rises
  (Sønderby et al. 2016).
  """
  if not warmup:
    return beta
  return beta * jnp.clip(progress / warmup, 0., 1.)


def check_kl_weight(beta, warmup):
  """Raise ValueError unless `kl_weight` makes sense of them."""
  if beta < 0.:
    raise ValueError(f'beta must not be negative, got {beta}; 1 is the bound.')
  if not 0. <= warmup <= 1.:
    raise ValueError(f'warmup is a share of the updates, in [0, 1], got {warmup}; 0 is without.')


def elbo(log_prob_x, kl, beta=1.):
  """Evidence lower bound [B], log p(x | z) - beta KL, from its two terms [B].

  A bound on log p(x) for beta >= 1; with beta < 1 (beta-VAE, Higgins et al. 2017) it is an
  objective only.
  """
  return log_prob_x - beta * kl


def importance_bound(log_weights):
  """log 1/K sum_k w_k [B] of log-weights [K, B]; one draw of the IWAE bound.

  Burda et al. 2016 (arXiv 1509.00519), eq. 8: E[.] rises with K towards log p(x).
  """
  return jax.scipy.special.logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def normalized_weights(log_weights):
  """w_k / sum_j w_j [K, B] of log-weights [K, B], as constants."""
  return jax.lax.stop_gradient(jax.nn.softmax(log_weights, axis=0))


def dreg_weights(log_weights, beta=1.):
  """Factors [K, B] of the doubly reparameterised gradient for log-weights [K, B], see
  `scale_gradient`: 1 - beta + beta w_k, for the normalised weights w_k, as constants.

  The score of q is left out of a term that `beta` multiplies, and given back by the weights: of
  sum_k beta w_k d log q(z_k) / dphi, sum_k beta w_k (1 - w_k) d log w_k / dz_k dz_k / dphi.
  """
  return 1. - beta + beta * normalized_weights(log_weights)


def effective_samples(log_weights):
  """1 / sum_k w_k^2 [B], in [1, K], of the normalised weights of log-weights [K, B]."""
  return 1. / jnp.sum(normalized_weights(log_weights)**2, axis=0)


def scale_gradient(z, factor):
  """z itself, whose gradient is multiplied by `factor` (a constant that broadcasts to z's shape).

  With `dreg_weights` as factors, and the score of q left out, the gradient of `importance_bound` is
  the doubly reparameterised one: at beta = 1 sum_k w_k^2 d log w_k / dz_k dz_k / dphi for q and
  sum_k w_k d log w_k / dtheta for p (Tucker et al. 2019, arXiv 1810.04152, eq. 8).
  """
  fixed = jax.lax.stop_gradient(z)
  return fixed + jnp.broadcast_to(factor, z.shape) * (z - fixed)
