"""Several scales: squeeze, learned bases, and a flow that gives half of each scale to its base."""
import math

import flax.linen as nn
import jax.numpy as jnp

from mollification.models.flows.bijector import Bijector, positions


class Squeeze(Bijector):
  """Events [H, W, C] to [H/2, W/2, 4C]: channel 4c + 2a + b is x[2i + a, 2j + b, c].

  Raises ValueError for events that are no images, odd sides, and latents of other than 4C channels.
  """

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
      raise ValueError('a squeeze needs events [H, W, C] of even sides, got '
                       f'{x.shape[1:]}; pad or crop the images.')
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, height // 2, width // 2, 4 * channels), jnp.zeros(batch)

  def inverse_and_log_det(self, z, *, cond=None):
    if z.ndim != 4 or z.shape[-1] % 4:
      raise ValueError('the inverse of a squeeze needs events [H, W, 4C], got '
                       f'{z.shape[1:]}.')
    batch, height, width, channels = z.shape
    z = z.reshape(batch, height, width, channels // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return z.reshape(batch, 2 * height, 2 * width, channels // 4), jnp.zeros(batch)


class ByPosition(Bijector):
  """Channels of a `Squeeze` put in order of their positions: the first half is half of each c.

    z[C k + c] = x[4c + 2a + b],  (a, b) = (0, 0), (1, 1), (0, 1), (1, 0) for k = 0, 1, 2, 3

  for x and z [H, W, 4C], as the code of RealNVP's authors has it (`squeeze_2x2_ordered`): what the
  next scale is given are the diagonals of all channels, where the order of `Squeeze` would give it
  the first C/2 channels whole. Raises ValueError for other than images of 4C channels.
  """

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    by_channel = x.reshape(*x.shape[:-1], _channels(x), 4)
    return (jnp.concatenate([by_channel[..., place] for place in _DIAGONAL_FIRST], axis=-1),
            jnp.zeros(x.shape[0]))

  def inverse_and_log_det(self, z, *, cond=None):
    _channels(z)
    parts = dict(zip(_DIAGONAL_FIRST, jnp.split(z, 4, axis=-1)))
    return (jnp.stack([parts[place] for place in range(4)], axis=-1).reshape(z.shape),
            jnp.zeros(z.shape[0]))


_DIAGONAL_FIRST = (0, 3, 1, 2)   # places 2a + b of `ByPosition`


def _channels(x):
  """C of x [B, H, W, 4C]."""
  if x.ndim != 4 or x.shape[-1] % 4:
    raise ValueError(f'channels by position need events [H, W, 4C], got {x.shape[1:]}; squeeze '
                     'first.')
  return x.shape[-1] // 4


class GaussianBase(Bijector):
  """Standardises events [..., C] of a learned diagonal Gaussian with a mean per channel.

    z = (x - mean) e^{-log_scale},  mean = m e^{3 m_logs},  log_scale = l e^{3 l_logs}

  (Kingma & Dhariwal 2018, released code), all four [C] and starting at 0. As the last layer it
  makes N(mean, e^{2 log_scale}) the base. With `classes`, cond is one-hot [B, classes], and each
  class adds a mean and a log scale of its own. Raises ValueError without that condition, for an x
  that is no batch, and for a negative number of classes.
  """
  classes: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.classes < 0:
      raise ValueError(f'classes must not be negative, got {self.classes}; 0 is without.')

  @nn.compact
  def _affine(self, x, cond):
    """(mean, log_scale), each of x's shape."""
    positions(x)
    if self.classes and (cond is None or cond.shape[-1] != self.classes):
      raise ValueError(f'this base has {self.classes} classes: pass cond, one-hot [B, '
                       f'{self.classes}], got {None if cond is None else cond.shape}.')

    def moment(name):
      size = x.shape[-1:]
      value = self.param(name, nn.initializers.zeros, size)
      value *= jnp.exp(3. * self.param(f'{name}_logs', nn.initializers.zeros, size))
      value = jnp.broadcast_to(value, x.shape)
      if self.classes:
        table = self.param(f'{name}_of_class', nn.initializers.zeros, (self.classes, *size))
        # A row of the table as it is, also where default products round what they are given.
        chosen = jnp.matmul(cond, table, precision='highest')
        per_class = chosen.reshape(x.shape[0], *[1] * (x.ndim - 2), *size)
        value += jnp.broadcast_to(per_class, x.shape)
      return value

    return moment('mean'), moment('log_scale')

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    mean, log_scale = self._affine(x, cond)
    return (x - mean) * jnp.exp(-log_scale), -log_scale.reshape(x.shape[0], -1).sum(axis=1)

  def inverse_and_log_det(self, z, *, cond=None):
    mean, log_scale = self._affine(z, cond)
    return z * jnp.exp(log_scale) + mean, log_scale.reshape(z.shape[0], -1).sum(axis=1)


class MultiScale(Bijector):
  """Images [H, W, C] to a flat latent [D] by `levels`, each of which gives half away.

  A level maps its input to [H', W', C'], of which the second half of the channels goes to the
  level's base and the first to the next level (Dinh et al. 2017, eq. 16); the last level's output
  goes to its base whole. `bases`, one per level, or none for N(0, I). The latent holds level after
  level, each flattened in C order; `shapes` are theirs, see `latent_shapes`. Raises ValueError for
  events of other shapes, and for latents of another size.
  """
  levels: tuple[Bijector, ...]
  shapes: tuple[tuple[int, ...], ...]
  bases: tuple[Bijector, ...] = ()

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    total, latents = jnp.zeros(x.shape[0]), []
    for i, level in enumerate(self.levels):
      x, log_det = level.forward_and_log_det(x, train=train, mask=mask, cond=cond)
      total += log_det
      last, (*sides, channels) = i == len(self.levels) - 1, self.shapes[i]
      if x.shape[1:] != (*sides, channels if last else 2 * channels):
        raise ValueError(f'level {i} should give {self.shapes[i]} to its base, and as much to the '
                         f'next level if there is one; of this event it has {x.shape[1:]} in all.')
      x, z = (x, x) if last else jnp.split(x, 2, axis=-1)
      if self.bases:
        z, log_det = self.bases[i].forward_and_log_det(z, train=train, mask=mask, cond=cond)
        total += log_det
      latents.append(z.reshape(z.shape[0], -1))
    return jnp.concatenate(latents, axis=-1), total

  def inverse_and_log_det(self, z, *, cond=None):
    size = sum(map(math.prod, self.shapes))
    if z.shape[1:] != (size,):
      raise ValueError(f'latents of these levels are [B, {size}], got {list(z.shape)}.')
    total, end, x = jnp.zeros(z.shape[0]), size, None
    for i in reversed(range(len(self.levels))):
      start = end - math.prod(self.shapes[i])
      part, end = z[:, start:end].reshape(-1, *self.shapes[i]), start
      if self.bases:
        part, log_det = self.bases[i].inverse_and_log_det(part, cond=cond)
        total += log_det
      x = part if x is None else jnp.concatenate([x, part], axis=-1)
      x, log_det = self.levels[i].inverse_and_log_det(x, cond=cond)
      total += log_det
    return x, total


def latent_shapes(event_shape, levels, *, squeezes, name='levels'):
  """Shape of what each of `levels` gives to its base, for images [H, W, C].

  Each of the first `squeezes` levels (all, or all but the last) halves the sides. Raises ValueError
  for events that are no images, or whose sides cannot be halved so often; `name` is what errors
  call the levels.
  """
  if len(event_shape) != 3:
    raise ValueError(f'a flow of several scales needs images [H, W, C], got {tuple(event_shape)}; '
                     'use a tabular flow.')
  if levels < 1:
    raise ValueError(f'{name} must be at least 1, got {levels}.')
  height, width, channels = event_shape
  if min(event_shape) < 1:
    raise ValueError(f'a flow of several scales needs images that are not empty, got '
                     f'{tuple(event_shape)}.')
  factor = 2**squeezes
  if height % factor or width % factor:
    most = _most_levels(height, width) + levels - squeezes
    raise ValueError(f'{name}={levels} needs sides that are multiples of {factor}, got {height}×'
                     f'{width}; take {_nearest(height, factor)}×{_nearest(width, factor)}, or '
                     + ('a tabular flow.' if not most else f'{name}=1.' if most == 1 else
                        f'{name}={most} or less.'))
  shapes = []
  for level in range(levels):
    if level < squeezes:
      height, width, channels = height // 2, width // 2, 4 * channels
    if level < levels - 1:
      channels //= 2
    shapes.append((height, width, channels))
  return tuple(shapes)


def _nearest(side, factor):
  return max(1, round(side / factor)) * factor


def _most_levels(*sides):
  """How often all sides can be halved."""
  return min((side & -side).bit_length() - 1 for side in sides)
