"""From stored batches to model space and back: flip, dequantise, scale, logit.

All of it happens inside the compiled step, from the data keys; each change of units has its
inverse and its log-det in nats. The order is dequantise, scale, (logit,) and only then mollify,
so that a level means the same in every run: a variance in model units.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp

from mollification import rng

DEQUANTIZE = ('uniform', 'none')
QUANTIZE = ('floor', 'round')


def flip(x, keys):
  """Each image [H, W, C] of the batch mirrored left to right with probability ½."""
  keys = rng.batch_keys(keys, x.shape[0])
  heads = jax.vmap(jax.random.bernoulli)(keys)
  return jnp.where(heads[:, None, None, None], x[:, :, ::-1], x)


def dequantize(x, keys):
  """x + u, u ~ U[0, 1): integer grey levels become a density on [0, levels).

  The log-density of x + u is, in expectation over u, a lower bound of the log-probability of x
  (Theis et al., 2016, arXiv 1511.01844, eq. 5). The sum stays below x + 1, to which float32 would
  round the largest u, so that flooring gives x back.
  """
  keys = rng.batch_keys(keys, x.shape[0])
  noise = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
  x = x.astype(jnp.float32)
  return jnp.minimum(x + noise, jnp.nextafter(x + 1, x))


def scale(x, width, low=-1., high=1.):
  """(y, log_det [B]): [0, width] mapped to [low, high], y = low + x (high - low) / width."""
  factor = (high - low) / width
  log_det = jnp.full(x.shape[0], math.prod(x.shape[1:]) * math.log(factor), jnp.float32)
  return low + x.astype(jnp.float32) * factor, log_det


def unscale(y, width, low=-1., high=1.):
  """The inverse of `scale`."""
  factor = width / (high - low)
  return y * factor - low * factor   # 127.5 x + 127.5, rounded as published code rounds it


def logit(y, alpha, low=-1., high=1.):
  """(z, log_det [B]): z = logit(α + (1 - 2α) u), u = (y - low) / (high - low).

  Dinh et al., Density estimation using Real NVP, 2017 (arXiv 1605.08803), §4.1. Outside [low, high]
  it is soon NaN: mollify its result, not its argument.
  """
  u = (y - low) / (high - low)
  p = alpha + (1 - 2 * alpha) * u
  z = jnp.log(p) - jnp.log1p(-p)
  per_dim = math.log((1 - 2 * alpha) / (high - low)) - jnp.log(p) - jnp.log1p(-p)
  return z, per_dim.reshape(per_dim.shape[0], -1).sum(1)


def unlogit(z, alpha, low=-1., high=1.):
  """The inverse of `logit`."""
  u = (jax.nn.sigmoid(z) - alpha) / (1 - 2 * alpha)
  return low + (high - low) * u


@dataclasses.dataclass(frozen=True)
class Prepare:
  """`prepare(batch, keys [B]) -> x`, the composition above, with its log-det and its inverse.

  `levels` is the number of grey levels of integer data, None for tables, which pass unchanged
  but for their dtype. `dequantize='uniform'` maps [0, levels) to [low, high]; `'none'` maps the
  grid 0, ..., levels - 1 onto it, as the paper's GLOW does, and leaves a flow without a likelihood.
  """
  levels: int | None = None
  dequantize: str = 'uniform'
  low: float = -1.
  high: float = 1.
  logit_alpha: float = 0.   # 0: no logit
  flip: bool = False

  def __post_init__(self):
    if self.dequantize not in DEQUANTIZE:
      raise ValueError(f'dequantize must be one of {DEQUANTIZE}, got {self.dequantize!r}.')
    if not self.low < self.high:
      raise ValueError(f'low must be below high, got {self.low} and {self.high}.')
    if not 0 <= self.logit_alpha < .5:
      raise ValueError(f'logit_alpha must lie in [0, 0.5), got {self.logit_alpha}; 0 for no logit.')
    if self.levels is None and (self.flip or self.logit_alpha):
      raise ValueError('flip and logit are for pixels, and this data has none; switch them off.')

  @property
  def bits_defined(self):
    """Whether a likelihood in bits/dim of the stored integers exists."""
    return self.levels is not None and self.dequantize == 'uniform'

  @property
  def _width(self):
    return self.levels if self.dequantize == 'uniform' else self.levels - 1

  def __call__(self, batch, keys):
    """Model-space batch [B, *event], float32; raises ValueError as `with_log_det` does."""
    return self.with_log_det(batch, keys)[0]

  def with_log_det(self, batch, keys):
    """(x, log_det [B] in nats): log p(batch + u) = log p_model(x) + log_det.

    Raises ValueError for a logit of pixels that are no integers: mollified or scaled before.
    """
    if self.levels is None:
      return batch.astype(jnp.float32), jnp.zeros(batch.shape[0])
    if self.logit_alpha and not jnp.issubdtype(batch.dtype, jnp.integer):
      raise ValueError(f'a batch of {self.levels} grey levels must be of integers, got '
                       f'{batch.dtype}; noise comes after prepare, in model space: before it, it '
                       'leaves the grid, and the interval that a logit is defined on.')
    keys = jax.vmap(lambda key: jax.random.split(key, 2))(rng.batch_keys(keys, batch.shape[0]))
    if self.flip:
      batch = flip(batch, keys[:, 0])
    if self.dequantize == 'uniform':
      batch = dequantize(batch, keys[:, 1])
    x, log_det = scale(batch, self._width, self.low, self.high)
    if self.logit_alpha:
      x, more = logit(x, self.logit_alpha, self.low, self.high)
      log_det = log_det + more
    return x, log_det

  def invert(self, x, quantize='floor'):
    """Model space back to what is stored: integers in 0, ..., levels - 1 (uint8), or the table.

    'floor' of [0, levels) undoes uniform dequantisation; on the grid of `dequantize='none'` it is
    the paper's `uint8(127.5 x + 127.5)`, by truncation.
    """
    if quantize not in QUANTIZE:
      raise ValueError(f'quantize must be one of {QUANTIZE}, got {quantize!r}.')
    if self.levels is None:
      return x
    if self.logit_alpha:
      x = unlogit(x, self.logit_alpha, self.low, self.high)
    x = unscale(x, self._width, self.low, self.high)
    if quantize == 'round':
      # Cells of [0, levels) have their centres at k + ½, those of the grid at k.
      x = jnp.round(x - .5 if self.dequantize == 'uniform' else x)
    return jnp.clip(jnp.floor(x), 0, self.levels - 1).astype(jnp.uint8)
