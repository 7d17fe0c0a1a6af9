"""Convolutions, strided and transposed, that are fast on every platform, gradients included.

XLA's kernel gradients of both are slow on CPU: 1.0 s against 0.04 s for 512 -> 1024 channels at
4×4 px (k4 s2, batch 16), 10 s against 0.5 s for the transposed 1024 -> 512 at 8×8 px. So on CPU
both are written as one matmul and shifts, elsewhere as XLA's own convolution. Inside `lax.scan`
the kernel gradient of every convolution is slow there; the matmul forms are not. A transposed one
with a matmul per output phase, of gathered inputs, was slower: at the two layers of the 32 px
decoder (batch 16, processor time on one core) .91 and .78 of the speed forward, .81 and .64 back.
One of fewer products, see `karatsuba`, is faster where there are rows enough.
"""
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import karatsuba
from mollification.models.dense import add_bias
from mollification.models.matmul import matmul


def conv(x, kernel, *, stride, padding):
  """Convolution [B, H', W', F] of x [B, H, W, C], zero-padded, with kernel [K, K, C, F].

    out[i] = sum_k x[s i + k - p] kernel[k],  H' = floor((H + 2 p - K) / s) + 1
  """
  def multiplied(x, kernel):
    size, _, channels, features = kernel.shape
    if stride == 1 and features < channels and padding < size:
      # Shift on the narrow side: the transposed form of the flipped kernel moves outputs.
      return matmul_conv_transpose(x, kernel[::-1, ::-1], 1, size - 1 - padding, 0)
    return matmul_conv(x, kernel, stride, padding)

  multiplied = _summed_in_float32(multiplied)

  def direct(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  return _by_platform(x, kernel, cpu=multiplied, default=direct)


def matmul_conv(x, kernel, stride, padding):
  """`conv` as one matmul of the kernel with the taps of each output position.

  A tap k = s a + q is at place q of the a-th block of `stride` from the output's own: blocks are
  gathered along one axis, then the other, in few slices.
  """
  size, _, channels, features = kernel.shape
  batch, (rows, cols) = x.shape[0], ((n + 2 * padding - size) // stride + 1 for n in x.shape[1:3])
  reach = -(-size // stride)                                                # blocks of a kernel
  extra = reach * stride - size                                             # zero taps to fill up
  kernel = jnp.pad(kernel, ((0, extra), (0, extra), (0, 0), (0, 0)))
  blocks = rows + reach - 1, cols + reach - 1
  x = _crop(jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0))),
            [n * stride for n in blocks], 0)
  x = x.reshape(batch, blocks[0], stride, blocks[1], stride, channels)
  x = jnp.stack([x[:, a:a + rows] for a in range(reach)], axis=2)           # [B, H', a, s, ...]
  x = jnp.stack([x[:, :, :, :, b:b + cols] for b in range(reach)], axis=5)  # [..., W', b, s, C]
  x = x.transpose(0, 1, 4, 2, 3, 5, 6, 7).reshape(batch * rows * cols, -1)
  return matmul(x, kernel.reshape(-1, features)).reshape(batch, rows, cols, features)


def conv_transpose(x, kernel, *, stride, padding, output_padding=0):
  """Transposed convolution [B, H', W', F] of x [B, H, W, C] with kernel [K, K, C, F].

    out[s i + k - p] += x[i] kernel[k],  H' = (H - 1) s - 2 p + K + output_padding

  in each spatial axis: torch's `ConvTranspose2d(C, F, K, s, p, output_padding)`, and
  `lax.conv_transpose` with the kernel's spatial axes flipped. Raises ValueError unless
  0 <= output_padding < stride.
  """
  if not 0 <= output_padding < stride:
    raise ValueError(f'output_padding must be in [0, stride), got {output_padding} with stride '
                     f'{stride}; a larger one pads the output with values that no input reaches.')

  pays = karatsuba.pays(x, kernel, stride)

  def multiplied(x, kernel):
    form = karatsuba_conv_transpose if pays else matmul_conv_transpose
    return form(x, kernel, stride, padding, output_padding)

  multiplied = _summed_in_float32(multiplied)

  def dilated(x, kernel):
    return dilated_conv_transpose(x, kernel, stride, padding, output_padding)

  return _by_platform(x, kernel, cpu=multiplied, default=dilated)


def _summed_in_float32(form):
  """`form` of (x, kernel) that adds the taps of bfloat16 in float32, and rounds their sum once.

  A sum of taps that were rounded each is off by twice as much. CPUs multiply in float32 anyway.
  """
  def summed(x, kernel):
    return form(x.astype(jnp.float32), kernel.astype(jnp.float32)).astype(x.dtype)
  return summed


def _by_platform(x, kernel, **forms):
  """One of `forms` of (x, kernel), of which the backward pass keeps x and the kernel alone.

  Without that it keeps what each form wants, that of the platform and the others, gathered taps
  included. The output is linear in both, so nothing but the gathering is done twice.
  """
  choose = lambda x, kernel: jax.lax.platform_dependent(x, kernel, **forms)
  # Merging the two gatherings again is welcome: no barriers against it.
  return jax.checkpoint(choose, prevent_cse=False)(x, kernel)


def dilated_conv_transpose(x, kernel, stride, padding, output_padding):
  """`conv_transpose` as the convolution of x, dilated by the stride, with the flipped kernel."""
  low = kernel.shape[0] - 1 - padding
  return jax.lax.conv_general_dilated(
      x, kernel[::-1, ::-1], window_strides=(1, 1), padding=[(low, low + output_padding)] * 2,
      lhs_dilation=(stride, stride), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def matmul_conv_transpose(x, kernel, stride, padding, output_padding):
  """`conv_transpose` as one matmul that makes all taps, and a sum of shifted blocks of them.

  Before `padding` is cropped, output s m + q is the sum over a of tap s a + q of input m - a: the
  taps are cut into blocks of `stride`, and block a is shifted by a, along one axis, then the other.
  """
  size, features = kernel.shape[0], kernel.shape[-1]
  batch, height, width, channels = x.shape
  reach = -(-size // stride)                                                # blocks of a kernel
  columns = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)              # [C, K K F]
  taps = matmul(x.reshape(-1, channels), columns)
  taps = taps.reshape(batch, height, width, size, size, features)
  extra = reach * stride - size                                             # zero taps to fill up
  taps = jnp.pad(taps, ((0, 0),) * 3 + ((0, extra),) * 2 + ((0, 0),))
  taps = taps.reshape(batch, height, width, reach, stride, reach, stride, features)
  taps = _sum_shifted(taps, axis=1, blocks=3)                               # [B, M, W, s, b, s, F]
  taps = _sum_shifted(taps, axis=2, blocks=4)                               # [B, M, N, s, s, F]
  out = taps.transpose(0, 1, 3, 2, 4, 5)
  out = out.reshape(batch, out.shape[1] * stride, -1, features)
  return _crop_transposed(out, x, kernel, stride, padding, output_padding)


def karatsuba_conv_transpose(x, kernel, stride, padding, output_padding):
  """`conv_transpose` of a kernel of twice the stride by `karatsuba.conv_transpose`."""
  out = karatsuba.conv_transpose(x, kernel, stride)
  return _crop_transposed(out, x, kernel, stride, padding, output_padding)


def _sum_shifted(x, axis, blocks):
  """Sum over index a of axis `blocks` of x's a-th part, shifted by a along `axis`, which grows.

  By pieces side by side, not as a sum of padded parts: a compiler asks for every number of those
  whether it is padding. What is split comes back concatenated in the gradient, which is a copy.
  """
  total, *parts = (jnp.squeeze(part, blocks)
                   for part in jax.lax.split(x, [1] * x.shape[blocks], axis=blocks))
  axis -= blocks < axis
  for shift, part in enumerate(parts, 1):
    common = part.shape[axis] - 1
    before, both = jax.lax.split(total, [shift, common], axis=axis)
    added, after = jax.lax.split(part, [common, 1], axis=axis)
    total = jnp.concatenate([before, both + added, after], axis=axis)
  return total


def _crop_transposed(out, x, kernel, stride, padding, output_padding):
  """What `conv_transpose` of x and the kernel is to return, cut out of all that they reach."""
  return _crop(out, [(n - 1) * stride - 2 * padding + kernel.shape[0] + output_padding
                     for n in x.shape[1:3]], padding)


def _crop(x, size, start):
  """x [B, ...] from `start` on, `size` long in both axes; zeros where it ends too early."""
  missing = [max(0, start + n - m) for n, m in zip(size, x.shape[1:3])]
  x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
  return x[:, start:start + size[0], start:start + size[1]]


class Conv(nn.Module):
  """`conv` with a learned kernel [K, K, C, F] and, if `use_bias`, a bias [F]."""
  features: int
  kernel_size: int
  stride: int = 1
  padding: int = 0
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x):
    """[B, H', W', F] of x [B, H, W, C], in x's type."""
    kernel = _kernel(self, x).astype(x.dtype)
    y = conv(x, kernel, stride=self.stride, padding=self.padding)
    return add_bias(self, y) if self.use_bias else y


class ConvTranspose(nn.Module):
  """`conv_transpose` with a learned kernel [K, K, C, F] and, if `use_bias`, a bias [F]."""
  features: int
  kernel_size: int
  stride: int = 1
  padding: int = 0
  output_padding: int = 0
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x):
    """[B, H', W', F] of x [B, H, W, C], in x's type."""
    kernel = _kernel(self, x).astype(x.dtype)
    y = conv_transpose(x, kernel, stride=self.stride, padding=self.padding,
                       output_padding=self.output_padding)
    return add_bias(self, y) if self.use_bias else y


def _kernel(module, x):
  shape = (module.kernel_size, module.kernel_size, x.shape[-1], module.features)
  return module.param('kernel', module.kernel_init, shape)
