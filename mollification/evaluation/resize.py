"""uint8 images of any size -> what the Inception network takes, in three conventions.

Each `mode` fixes both the resizing to 299 x 299 and the scale; features of two modes are not
comparable. Resizing is linear and separable, so it is two matrix products on the device.

  pytorch  bilinear, pixel centres at half integers, no antialias; x / 127.5 - 1
           (pytorch-fid 0.3.0: F.interpolate, align_corners=False; then 2 x - 1 of [0, 1])
  tf1      bilinear, source = target * in / out, no antialias; (x - 128) / 128
           (the TensorFlow graph of TTUR; torch-fidelity, guided-diffusion, StyleGAN)
  clean    bicubic with a = -1/2, antialiased, clipped to [0, 255], not rounded; (x - 128) / 128
           (clean-fid: Pillow's BICUBIC on each channel as floats)
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

MODES = ('pytorch', 'tf1', 'clean')


def bucket(n):
  """The least of 32, 48, 64, 96, 128, 192, ... that is at least `n`: what a side is padded to.

  Images of many sizes share a few programs that way.
  """
  side = 32
  while n > side:
    if 2 * n <= 3 * side:
      return 3 * side // 2
    side *= 2
  return side


def prepare(images, mode, size, dtype=jnp.float32):
  """uint8 [B, H, W, 1 or 3] -> [B, size, size, 3] in the scale of `mode`; grey is repeated.

  Raises ValueError for another mode, shape or type.
  """
  if mode not in MODES:
    raise ValueError(f'input mode must be one of {MODES}, got {mode!r}.')
  if images.ndim != 4 or images.dtype != jnp.uint8 or images.shape[-1] not in (1, 3):
    raise ValueError('images must be uint8 [B, H, W, 1 or 3], got '
                     f'{images.dtype} {images.shape}; quantise samples first.')
  return scaled(images, *_weights_of(images, mode, size, dtype), mode, dtype)


def scaled(images, rows, columns, mode, dtype=jnp.float32):
  """`prepare`, with the weights [B, size, H] and [B, size, W] of each image, as `resample`."""
  x = images.astype(dtype)
  if mode == 'pytorch':
    x = 2 * resample(x / 255, rows, columns) - 1   # in this order, as the rounding has it
  else:
    x = resample(x, rows, columns)
    x = (jnp.clip(x, 0, 255) if mode == 'clean' else x) / 128 - 1
  return jnp.broadcast_to(x, (*x.shape[:3], 3))


def resize(x, mode, size):
  """[B, H, W, C] -> [B, size, size, C]; the identity, exactly, where that is the size."""
  return resample(x, *_weights_of(x, mode, size, x.dtype))


def resample(x, rows, columns):
  """[B, H, W, C] -> [B, size, size, C] with weights [B, size, H] and [B, size, W]; None: as it is.

  Each image has weights of its own, so images of several sizes, padded to one, are one batch. Image
  by image, so that what comes out is the same bits whichever stand beside it; on CPU, where the
  products then fit the cache, that takes half the time of a batched product, too.
  """
  return jax.lax.map(_resampled, (x, rows, columns))


def _resampled(image):
  x, rows, columns = image
  for weights in (rows, columns):   # each turns the image, the second one back
    if weights is not None:
      x = jnp.matmul(weights, x.reshape(x.shape[0], -1),
                     precision=jax.lax.Precision.HIGHEST).reshape(-1, *x.shape[1:])
    x = x.swapaxes(0, 1)
  return x


def weights(mode, lengths, size, width, dtype='float32'):
  """[B, size, width] for sides of `lengths` [B] padded to `width`; None: nothing to do."""
  if all(n == size == width for n in lengths):
    return None
  if len(set(lengths)) == 1:
    return np.broadcast_to(_padded(mode, lengths[0], size, width, dtype),
                           (len(lengths), size, width))
  return np.stack([_padded(mode, n, size, width, dtype) for n in lengths])


@functools.lru_cache(maxsize=256)
def _padded(mode, n, size, width, dtype):
  return np.pad(matrix(mode, n, size, dtype), ((0, 0), (0, width - n)))


def _weights_of(x, mode, size, dtype):
  """Weights for images [B, H, W, C] of one size, along both axes."""
  found = []
  for n in x.shape[1:3]:
    if n == size:
      found.append(None)
    else:
      weights = jnp.asarray(matrix(mode, n, size, jnp.dtype(dtype).name))
      found.append(jnp.broadcast_to(weights, (len(x), *weights.shape)))
  return found


@functools.lru_cache(maxsize=64)
def matrix(mode, n_in, n_out, dtype='float32'):
  """[n_out, n_in]: row i holds what each source pixel gives to target pixel i. Rows sum to 1.

  The coordinates of the bilinear modes are computed in `dtype`: in single precision the reference
  implementations round them, by up to a hundredth of a grey level at 1024 pixels.
  """
  build = _bicubic if mode == 'clean' else functools.partial(_bilinear, half=mode == 'pytorch')
  weights = build(n_in, n_out, np.dtype(dtype).type)
  return weights.astype(dtype)


def _bilinear(n_in, n_out, kind, half):
  scale, i = kind(n_in) / kind(n_out), np.arange(n_out, dtype=kind)
  source = (i + kind(.5)) * scale - kind(.5) if half else i * scale
  source = np.maximum(source, 0)
  low = np.minimum(np.floor(source).astype(int), n_in - 1)
  share = source - low.astype(kind)
  weights = np.zeros((n_out, n_in), kind)
  np.add.at(weights, (np.arange(n_out), low), 1 - share)
  np.add.at(weights, (np.arange(n_out), np.minimum(low + 1, n_in - 1)), share)
  return weights


def _bicubic(n_in, n_out, kind):
  """Keys' kernel with a = -1/2, stretched by in / out when shrinking, renormalised at the edges."""
  del kind
  scale = n_in / n_out
  stretch = max(scale, 1.)
  centre = (np.arange(n_out) + .5) * scale
  # The same window as Pillow's: pixels whose centre is less than two (stretched) pixels away.
  first = np.maximum((centre - 2 * stretch + .5).astype(int), 0)
  stop = np.minimum((centre + 2 * stretch + .5).astype(int), n_in)
  pixel = np.arange(n_in)
  t = np.abs(pixel[None] - centre[:, None] + .5) / stretch
  near, far = (1.5 * t - 2.5) * t * t + 1, ((-.5 * t + 2.5) * t - 4) * t + 2
  weights = np.where(t < 1, near, np.where(t < 2, far, 0.))
  weights *= (pixel[None] >= first[:, None]) & (pixel[None] < stop[:, None])
  return weights / weights.sum(1, keepdims=True)
