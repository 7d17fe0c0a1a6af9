"""Keys of a run: every draw is a function of (seed, purpose, step, global example index).

A draw that depends on nothing else is the same on one device and on eight, in one process and
in many, and in a run that was cut and resumed.
"""
import jax
import jax.numpy as jnp

# The number of a purpose is part of every result; append, never reorder.
PURPOSES = ('init', 'train', 'evaluate', 'sample', 'refresh')


def purpose_key(seed, purpose):
  """Root key of one purpose of a run: `seed` is an int, `purpose` one of `PURPOSES`."""
  if purpose not in PURPOSES:
    raise ValueError(f'purpose must be one of {PURPOSES}, got {purpose!r}.')
  return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))


def range_keys(key, first, count):
  """Keys [count] of examples first, ..., first + count - 1; `first` may be traced."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def folded(keys, number):
  """Keys [B], each of `keys` [B] with `number` folded in: the same draws' part of that number."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def step_keys(key, step, first, count):
  """(data_keys, noise_keys, model_keys), each [count], of one update.

  `first` is the position of the first example in the *global* batch, so that the draw does not
  depend on how many devices share the batch. The three kinds are split before the examples are
  folded in: two runs of one seed share data order and model noise whatever their mollifier.
  """
  return tuple(range_keys(k, first, count)
               for k in jax.random.split(jax.random.fold_in(key, step), 3))


def batch_keys(keys, batch_size):
  """Keys [batch_size] from `keys`: already that many, or one key, which is split over the batch.

  Takes typed keys (`jax.random.key`) and raw uint32 ones (`jax.random.PRNGKey`).
  """
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    keys = jax.random.wrap_key_data(keys)
  if keys.ndim == 0:
    return jax.random.split(keys, batch_size)
  if keys.shape != (batch_size,):
    raise ValueError(f'keys must be one key or one per example: batch of {batch_size}, got keys '
                     f'of shape {keys.shape}; pass a single key to have it split.')
  return keys
