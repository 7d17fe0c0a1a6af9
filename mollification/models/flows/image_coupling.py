"""Affine coupling of images, by channels or by a checkerboard, and the networks inside."""
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import moments
from mollification.models.convolution import Conv, conv
from mollification.models.dense import add_bias
from mollification.models.flows.bijector import Bijector
from mollification.models.nets import BatchNorm, check_type

MASKS = ('half', 'alternating', 'checkerboard')


class ImageCoupling(Bijector):
  """Affine coupling of events [H, W, C] (Dinh et al. 2017, eqs. 7 and 9).

    (log s, t) = net(kept part);  z = x e^{log s} + t on the other part,  log det = sum log s

  `mask` chooses the parts: 'half', the first and the second half of the channels; 'alternating',
  the even and the odd channels; 'checkerboard', the positions with i + j even and odd, where `net`
  sees the whole image with zeros at the others. The first part is kept, with `swap` (which may be
  a traced bool) the second. `net` is called as net(x, train=..., mask=...) and returns both
  [B, H, W, F], F channels of the changed part. `norm`, if any, follows. Raises ValueError for an
  odd number of channels, unless the mask is a checkerboard, and for a net that returns others.

  Convolutions in `net` have the default precision, on accelerators less than float32's: both
  directions apply the same function to the same kept part, whatever it is, so that the inverse
  inverts and the log-determinant is that of the map which is computed. The sums, e^{log s} and
  log det outside of `net` are float32. That is said of one coupling: what the next one on the way
  back is given differs by the rounding of this one, and its net rounds that anew.
  """
  net: nn.Module
  mask: str = 'half'
  norm: Bijector | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.mask not in MASKS:
      raise ValueError(f'mask must be one of {MASKS}, got {self.mask!r}.')

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None, swap=False):
    kept, changed = self._parts(x, swap)
    log_scale, shift = self._log_scale_and_shift(kept, swap, train=train, mask=mask)
    z = self._joined(kept, changed * jnp.exp(log_scale) + shift, swap)
    total = log_scale.sum(axis=(1, 2, 3))
    if self.norm is None:
      return z, total
    z, log_det = self.norm.forward_and_log_det(z, train=train, mask=mask)
    return z, total + log_det

  def inverse_and_log_det(self, z, *, cond=None, swap=False):
    total = 0.
    if self.norm is not None:
      z, total = self.norm.inverse_and_log_det(z)
    kept, changed = self._parts(z, swap)
    log_scale, shift = self._log_scale_and_shift(kept, swap, train=False, mask=None)
    x = self._joined(kept, (changed - shift) * jnp.exp(-log_scale), swap)
    return x, total - log_scale.sum(axis=(1, 2, 3))

  def _log_scale_and_shift(self, kept, swap, **options):
    log_scale, shift = self.net(kept, **options)
    if not log_scale.shape == shift.shape == kept.shape:   # of the changed part too, see `_parts`
      raise ValueError(f'the net of a coupling must return log s and t for all of the part that '
                       f'changes, {kept.shape[1:]}, got {log_scale.shape[1:]} and '
                       f'{shift.shape[1:]}; give it outputs={kept.shape[-1]}.')
    if self.mask == 'checkerboard':
      keeps = _checkerboard(kept.shape, swap)
      log_scale, shift = jnp.where(keeps, 0., log_scale), jnp.where(keeps, 0., shift)
    return log_scale, shift

  def _parts(self, x, swap):
    """(kept, changed) of x, of one shape; for a checkerboard (x with zeros, the whole x)."""
    if x.ndim != 4:
      raise ValueError(f'an image coupling needs events [H, W, C], got {x.shape[1:]}.')
    if self.mask == 'checkerboard':
      return jnp.where(_checkerboard(x.shape, swap), x, 0.), x
    if x.shape[-1] % 2:
      raise ValueError(f'a coupling by channels needs an even number of them, got {x.shape[-1]} '
                       f'in {x.shape[1:]}; squeeze first, or use the checkerboard.')
    if self.mask == 'alternating':
      return _ordered(x[..., 0::2], x[..., 1::2], swap)
    return _ordered(*jnp.split(x, 2, axis=-1), swap)

  def _joined(self, kept, changed, swap):
    if self.mask == 'checkerboard':
      return changed
    parts = _ordered(kept, changed, swap)
    if self.mask == 'alternating':
      return jnp.stack(parts, axis=-1).reshape(*kept.shape[:-1], -1)
    return jnp.concatenate(parts, axis=-1)


def _ordered(a, b, swap):
  """(b, a) if `swap`, else (a, b)."""
  if isinstance(swap, bool):
    return (b, a) if swap else (a, b)
  return jnp.where(swap, b, a), jnp.where(swap, a, b)


def _checkerboard(shape, swap):
  """Whether each number of [B, H, W, C] is in the kept part."""
  parity = (jnp.arange(shape[1])[:, None] + jnp.arange(shape[2])[None]) % 2
  return jnp.broadcast_to((parity == swap)[None, :, :, None], shape)


def _uniform(key, shape, dtype=jnp.float32):
  """PyTorch's default kernel: uniform with variance 1 / (3 fan-in)."""
  return nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')(key, shape, dtype)


def _check(width, name, dtype):
  """Raise ValueError for a net without units or of a type that it cannot have."""
  if width < 1:
    raise ValueError(f'{name} must be at least 1, got {width}.')
  check_type(dtype)


class GlowNet(nn.Module):
  """The coupling net of GLOW: 3×3 -> `hidden`, ReLU, 1×1, ReLU, 3×3, which starts at zero.

    (shift, r) = output;  s = m + (1 - m) sigmoid(r + 2);  z = (x - shift) s, so that t = -shift s

  The first half of the output channels is the shift. `outputs` are the channels of either. With the
  published m = `min_scale` = 0 nothing bounds s from below, so that samples far from what the flow
  was trained on may overflow on their way back, which divides by it (Behrmann et al. 2021, arXiv
  2006.09347); a lower temperature draws fewer of them. `dtype` is the type of the activations;
  parameters, s and t are float32. Raises ValueError for a `min_scale` outside [0, 1).
  """
  outputs: int
  hidden: int = 512
  dtype: str = 'float32'
  min_scale: float = 0.

  def __post_init__(self):
    super().__post_init__()
    _check(self.hidden, 'hidden', self.dtype)
    if not 0. <= self.min_scale < 1.:
      raise ValueError(f'min_scale must lie in [0, 1), got {self.min_scale}; 0 is as published.')

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    h = nn.relu(Conv(self.hidden, 3, padding=1, kernel_init=_uniform)(x.astype(self.dtype)))
    h = nn.relu(Conv(self.hidden, 1, kernel_init=_uniform)(h))
    out = Conv(2 * self.outputs, 3, padding=1, kernel_init=nn.initializers.zeros)(h)
    shift, r = jnp.split(out.astype(jnp.float32), 2, axis=-1)
    log_scale = jax.nn.log_sigmoid(r + 2.)
    if self.min_scale:
      log_scale = jnp.logaddexp(math.log(self.min_scale), math.log1p(-self.min_scale) + log_scale)
    return log_scale, -shift * jnp.exp(log_scale)


class WeightNormConv(nn.Module):
  """Stride-1 convolution with kernel gain v / ||v||, norms per output (Salimans & Kingma 2016)."""
  features: int
  kernel_size: int
  use_bias: bool = False

  @nn.compact
  def __call__(self, x):
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    direction = self.param('kernel', nn.initializers.lecun_normal(), shape)
    gain = self.param('gain', nn.initializers.ones, (self.features,))
    factor = gain * jax.lax.rsqrt((direction**2).sum((0, 1, 2)) + 1e-12)
    kernel = direction * jnp.broadcast_to(factor, shape)
    y = conv(x, kernel.astype(x.dtype), stride=1, padding=self.kernel_size // 2)
    return add_bias(self, y) if self.use_bias else y


class ResidualBlock(nn.Module):
  """y = x + f(x), f = twice [BatchNorm, ReLU, weight-normalised 3×3] (He et al. 2016).

  Of (x, total) it makes (y, total + 1×1 of y), the 1×1 weight-normalised with a bias; total may be
  None, for no skip. The statistics are taken in float32 whatever the type of x.
  """
  features: int
  axis_name: str | None = None

  @nn.compact
  def __call__(self, carry, *, train=False, mask=None):
    x, total = carry
    h = x
    for _ in range(2):
      h = nn.relu(BatchNorm(self.axis_name)(h.astype(jnp.float32), train=train, mask=mask))
      h = WeightNormConv(self.features, 3)(h.astype(x.dtype))
    y = x + h
    return y, total if total is None else total + _skip(self.features)(y)


def _skip(features):
  return WeightNormConv(features, 1, use_bias=True, name='skip')


class ResidualNet(nn.Module):
  """The coupling net of RealNVP on images (Dinh et al. 2017, section 4.1 and appendix B).

  BatchNorm of the input h, ReLU of (h, -h), a weight-normalised 3×3, `blocks` residual blocks,
  BatchNorm, ReLU, a weight-normalised 1×1 to (t, r), and

    log s = scale tanh(r) + scale_shift

  with both per channel and starting at 0. With `skips`, what the last BatchNorm is given is not the
  last block's output but the sum of a weight-normalised 1×1 of the first convolution and of one of
  every block's output, as in the code of the paper's authors (tensorflow/models,
  research/real_nvp, `resnet` with its default `skip`); section 4.1 names skip-connections and does
  not say where. The blocks are one traced body with variables on axis 0. `outputs` are the channels
  of t. `dtype` is the type of the activations; parameters and what BatchNorm computes are float32.

  Unlike that code: all kernels have a gain, which there the first convolution and the first one of
  a block have not; the first convolution and the second one of a block have no bias; BatchNorms
  have a learned scale; scale is per channel, where that code has one number a coupling, which with
  a checkerboard is penalised like the gains, and no scale_shift beside BatchNorm; a checkerboard's
  net is not told the mask, and its normalised input is not doubled.
  """
  outputs: int
  features: int
  blocks: int
  axis_name: str | None = None
  dtype: str = 'float32'
  skips: bool = False

  def __post_init__(self):
    super().__post_init__()
    _check(self.features, 'features', self.dtype)
    if self.blocks < 1:
      raise ValueError(f'a residual net needs at least 1 block, got blocks {self.blocks}.')

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    def normalised(h):
      return BatchNorm(self.axis_name)(h.astype(jnp.float32), train=train, mask=mask)

    h = normalised(x)
    h = nn.relu(jnp.concatenate([h, -h], axis=-1)).astype(self.dtype)
    h = WeightNormConv(self.features, 3)(h)
    total = _skip(self.features)(h) if self.skips else None
    (h, total), _ = nn.scan(
        lambda block, carry, _: (block(carry, train=train, mask=mask), None),
        variable_axes={'params': 0, 'batch_stats': 0, moments.COLLECTION: 0},
        split_rngs={'params': True}, length=self.blocks,
    )(ResidualBlock(self.features, self.axis_name, name='blocks'), (h, total), None)
    h = nn.relu(normalised(h if total is None else total)).astype(self.dtype)
    out = WeightNormConv(2 * self.outputs, 1, use_bias=True)(h).astype(jnp.float32)
    shift, r = jnp.split(out, 2, axis=-1)
    scale, scale_shift = (jnp.broadcast_to(
        self.param(name, nn.initializers.zeros, (self.outputs,)), r.shape)
        for name in ('log_scale', 'log_scale_shift'))
    return scale * jnp.tanh(r) + scale_shift, shift
