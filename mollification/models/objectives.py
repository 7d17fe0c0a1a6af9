"""Objectives of latent variable models, per example, in nats."""
import jax.numpy as jnp


def gaussian_kl(mean, log_var):
  """KL(N(mean, diag exp(log_var)) || N(0, I)) [B] in nats, for mean and log_var [B, Z].

    1/2 sum_i [mean_i^2 + exp(log_var_i) - log_var_i - 1]

  (Kingma & Welling 2014, appendix B).
  """
  # expm1: exp(log_var) - 1 loses its digits in float32 where the posterior is near the prior.
  return .5 * jnp.sum(mean**2 + jnp.expm1(log_var) - log_var, axis=-1)


def elbo(log_prob_x, kl, beta=1.):
  """Evidence lower bound [B], log p(x | z) - beta KL, from its two terms [B].

  A bound on log p(x) for beta >= 1; with beta < 1 (beta-VAE, Higgins et al. 2017) it is an
  objective only.
  """
  return log_prob_x - beta * kl
