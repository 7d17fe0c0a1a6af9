"""The standard normal that priors and bases share: one draw per key, and its log-density."""
import math

import jax
import jax.numpy as jnp

LOG_2PI = math.log(2. * math.pi)


def standard_normal(keys, event_shape):
  """Draws [N, *event_shape], each from its own key of `keys` [N] (typed keys)."""
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1:
    raise ValueError(f'keys must be typed keys [N], one per draw, got {keys.dtype} of shape '
                     f'{keys.shape}; use jax.random.split(jax.random.key(seed), n).')
  return jax.vmap(lambda key: jax.random.normal(key, event_shape))(keys)


def standard_normal_log_prob(z):
  """log N(z; 0, I) [B] in nats of z [B, ...]: -1/2 sum(z^2 + log 2 pi)."""
  return -.5 * jnp.sum(z**2 + LOG_2PI, axis=tuple(range(1, z.ndim)))
