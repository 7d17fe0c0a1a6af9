"""Mollifiers: (x, level, keys) -> x, smoothing that fades with the level.

`x` is a floating-point batch [B, *event] in model units, `level` is [] or [B] in [0, 1], `keys`
is [B] or one key, which is split over the batch. Level 0 returns the batch bit for bit. They are
plain functions; `functools.partial` binds options:

    x = mollify(x, level(step), keys)

They raise ValueError for an integer batch, a level of another shape, and for levels and options out
of range where these are Python or NumPy numbers: to look at an array of JAX's would wait for the
device, or be impossible while it is traced.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mollification import rng


def identity(x, level, keys):
  """The batch as it is; what `gaussian` is measured against."""
  del keys
  _level(x, level, 'identity')
  return x


def gaussian(x, level, keys):
  """sqrt(1 - level) x + sqrt(level) ε, ε ~ N(0, I): `level` is a variance.

  Variance preserving for data of unit variance. Tran et al., One-line-of-code data mollification
  improves optimization of likelihood-based generative models, NeurIPS 2023.
  """
  level = _level(x, level, 'gaussian')
  return _gated(x, level, jnp.sqrt(1 - level) * x + jnp.sqrt(level) * _normal(x, keys))


def gaussian_ve(x, level, keys, *, sigma_max):
  """x + sigma_max sqrt(level) ε: variance exploding, `sigma_max` in model units."""
  level = _level(x, level, 'gaussian_ve')
  _check_option('sigma_max', sigma_max, 0, np.inf)
  return _gated(x, level, x + sigma_max * jnp.sqrt(level) * _normal(x, keys))


def heat_blur(x, level, keys, *, sigma_min=.5, sigma_max=24., noise_std=.01,
              spacing='continuous'):
  """The heat equation run for a time σ²/2, then a little noise; images [B, H, W, C] only.

  blur(x) = IDCT(exp(-(f_i² + g_j²) σ²/2) DCT(x)), f_i = πi/H, g_j = πj/W: Neumann boundaries
  (Rissanen et al., 2022, arXiv 2206.13397). The width σ in pixels follows the level,
  `spacing='continuous'`: σ_max ((σ_max/σ_min)^level - 1) / (σ_max/σ_min - 1), log-spaced where
  the blur is strong and 0 at level 0; `'log'` is theirs, σ_min^(1-level) σ_max^level, which jumps
  from σ_min to clean at the end. The noise has its full `noise_std` while σ >= σ_min and fades
  with σ below: without it blurred images are nearly low-rank and a flow's likelihood unbounded.
  """
  level = _level(x, level, 'heat_blur')
  _check_images(x, 'heat_blur')
  _check_option('noise_std', noise_std, 0, np.inf)
  sigma = _blur_sigma(level, sigma_min, sigma_max, spacing)
  noise = noise_std * jnp.minimum(1., sigma / sigma_min) * _normal(x, keys)
  return _gated(x, level, _heat(x, sigma) + noise)


def blur_noise(x, level, keys, *, sigma_max=24., d_min=1e-3, logsnr_min=-10., noise_min=0.):
  """a IDCT(d DCT(x)) + σ ε: blur and noise together, full rank throughout; images only.

  Hoogeboom & Salimans, Blurring diffusion models, 2022 (arXiv 2209.05557):
  d = (1 - d_min) exp(-(f² + g²) σ_B²/2) + d_min, σ_B = sigma_max sin²(π level/2),
  a = cos φ, σ = sin φ, φ linear in the level, so that logsnr = -2 log tan φ ends at logsnr_min.
  Their logsnr of 10 at level 0 is a `noise_min` of .0067; the default tends to the identity.
  """
  level = _level(x, level, 'blur_noise')
  _check_images(x, 'blur_noise')
  _check_option('sigma_max', sigma_max, 0, np.inf)
  _check_option('d_min', d_min, 0, 1)
  _check_option('noise_min', noise_min, 0, 1)
  first, last = np.arcsin(noise_min), np.arctan(np.exp(-logsnr_min / 2))
  angle = first + (last - first) * level
  blurred = _heat(x, sigma_max * jnp.sin(level * (jnp.pi / 2)) ** 2)
  return _gated(x, level, jnp.cos(angle) * ((1 - d_min) * blurred + d_min * x)
                + jnp.sin(angle) * _normal(x, keys))


def _level(x, level, name):
  """`level` broadcast against `x`: [1, ...] or [B, 1, ...], in its type; checks the batch."""
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f'{name} smooths batches in model units, got dtype {x.dtype}; convert first, '
                     'e.g. with preprocess.scale.')
  if x.ndim < 1:
    raise ValueError(f'{name} needs a batch [B, *event], got a scalar.')
  if jnp.shape(level) not in ((), (x.shape[0],)):
    raise ValueError(f'level must be one number or one per example: batch of {x.shape[0]}, got '
                     f'shape {jnp.shape(level)}.')
  if isinstance(level, (int, float, np.ndarray, np.number)) and not (
      np.all(np.asarray(level) >= 0) and np.all(np.asarray(level) <= 1)):
    raise ValueError(f'level must lie in [0, 1], got {level}.')
  return jnp.reshape(jnp.asarray(level, x.dtype), (-1,) + (1,) * (x.ndim - 1))


def _check_option(name, value, low, high):
  if isinstance(value, (int, float, np.number)) and not low <= value <= high:
    raise ValueError(f'{name} must lie in [{low}, {high}], got {value}.')


def _check_images(x, name):
  if x.ndim != 4:
    raise ValueError(f'{name} smooths images [B, H, W, C], got shape {x.shape}; use gaussian for '
                     'events of another shape.')


def _normal(x, keys):
  keys = rng.batch_keys(keys, x.shape[0])
  return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)


def _gated(x, level, smoothed):
  # Rounding moves pixels by 6e-7 even where the formula says identity. Options that are NumPy's
  # promote what is smoothed to float32.
  return jnp.where(level > 0, smoothed.astype(x.dtype), x)


def _blur_sigma(level, sigma_min, sigma_max, spacing):
  if not 0 < sigma_min < sigma_max:
    raise ValueError(f'sigma_min must be positive and below sigma_max, got {sigma_min} and '
                     f'{sigma_max}.')
  ratio = sigma_max / sigma_min
  if spacing == 'continuous':
    return sigma_max * jnp.expm1(level * np.log(ratio)) / (ratio - 1)
  if spacing == 'log':
    return sigma_min * ratio ** level
  raise ValueError(f"spacing must be 'continuous' or 'log', got {spacing!r}.")


def _heat(x, sigma):
  """IDCT(exp(-(f² + g²) σ²/2) DCT(x)), one small matmul per axis; sigma is [1 or B, 1, 1, 1]."""
  sigma = sigma.reshape(-1)
  rows, columns = (jax.vmap(lambda s, n=n: _heat_matrix(n, s))(sigma) for n in x.shape[1:3])
  one = 'bij'
  if len(sigma) == 1:
    rows, columns, one = rows[0], columns[0], 'ij'
  precision = jax.lax.Precision.HIGHEST
  x = jnp.einsum(f'{one},bjwc->biwc', rows.astype(x.dtype), x, precision=precision)
  return jnp.einsum(f'{one},bhjc->bhic', columns.astype(x.dtype), x, precision=precision)


def _heat_matrix(n, sigma):
  """M = Cᵀ diag(exp(-f² σ²/2)) C [n, n], C the orthonormal DCT-II and f_k = πk/n."""
  dct = jnp.asarray(_dct_matrix(n))
  frequencies = jnp.asarray(np.pi * np.arange(n) / n, jnp.float32)
  decay = jnp.exp(-jnp.square(frequencies * sigma) / 2)
  return jnp.matmul(dct.T * decay[None], dct, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=16)
def _dct_matrix(n):
  k, i = np.mgrid[:n, :n]
  scale = np.where(k == 0, np.sqrt(1 / n), np.sqrt(2 / n))
  return (scale * np.cos(np.pi * (2 * i + 1) * k / (2 * n))).astype(np.float32)


MOLLIFIERS = {
  'gaussian': gaussian,
  'gaussian_ve': gaussian_ve,
  'heat_blur': heat_blur,
  'blur_noise': blur_noise,
  'identity': identity,
}
