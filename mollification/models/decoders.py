"""Observation models p(x | z) of VAEs, as pure functions of the decoder network's output."""
import jax.numpy as jnp

from mollification.models.gaussian import LOG_2PI


def gaussian_log_prob(x, mean, log_var):
  """log N(x; mean, exp(log_var)) [B] in nats, for x and mean [B, *event].

    -1/2 sum_i [(x_i - mean_i)^2 / v_i + log v_i + log 2 pi],  v = exp(log_var)

  `log_var` is one number or of x's shape. At a variance of 1/2 this is -sum (x - mean)^2 plus a
  constant, the reconstruction term of the paper's VAE library; the constant stays in, so that an
  ELBO made of it bounds a log-density.
  """
  log_var = jnp.asarray(log_var)
  if mean.shape != x.shape or log_var.shape not in ((), x.shape):
    raise ValueError(f'mean must have the shape of x, {x.shape}, and log_var that shape or (), got '
                     f'{mean.shape} and {log_var.shape}; broadcast them first.')
  log_var = jnp.broadcast_to(log_var, x.shape)
  terms = (x - mean)**2 * jnp.exp(-log_var) + log_var + LOG_2PI
  return -.5 * jnp.sum(terms, axis=tuple(range(1, x.ndim)))
