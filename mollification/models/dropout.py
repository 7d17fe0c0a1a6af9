"""Dropout whose draws belong to the examples, as all draws do here, and not to the batch."""
import jax
import jax.numpy as jnp

from mollification import rng


def dropout(h, rate, keys):
  """h [B, D] with units set to 0 at probability `rate` and the others divided by 1 - rate.

  Srivastava et al., Dropout, JMLR 2014, in the inverted form: the mean is that of h. `keys` [B]:
  which units example i loses is a function of its own key. Without keys, h as it is.
  """
  if keys is None or not rate:
    return h
  kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1. - rate, h.shape[1:]))(keys)
  return jnp.where(kept, h / (1. - rate), 0.)


def part_keys(keys, part):
  """Keys [B] of part number `part` (a layer, a net) of what `keys` [B] are for; None without."""
  return None if keys is None else rng.folded(keys, part)


def check(rate):
  """Raise ValueError unless `rate` is a share of units that leaves some."""
  if not 0 <= rate < 1:
    raise ValueError(f'dropout must lie in [0, 1), got {rate}; 0 is without.')
