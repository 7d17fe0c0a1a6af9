"""Samples of a model: sample i is a function of (key, i); grids of images and PNG files."""
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mollification import files, parallel, rng
from mollification.evaluation import batching

GAP_GREY = 96
GRID_PIXELS = 512   # width that grids of small images are enlarged to, at most


@dataclasses.dataclass(frozen=True)
class Samples:
  """`x` [N, *event] in model space or stored units; `finite` [N] says which have no NaN or inf.

  That is seen in model space, before quantisation turns them into ordinary grey levels.
  """
  x: np.ndarray
  finite: np.ndarray

  @property
  def n(self):
    """Number of samples."""
    return len(self.x)

  @property
  def nonfinite(self):
    """Number of samples with NaN or inf."""
    return int((~self.finite).sum())

  def first(self, n):
    """The first `n` of them, which are what drawing so few would have given."""
    return Samples(self.x[:n], self.finite[:n])


def make_sampler(sample_fn, invert=None, *, batch_size, temperature=None, allow_nonfinite=False,
                 shared=False):
  """sampler(variables, key, n, *, first=0, cond=None) -> Samples, compiled once.

  `sample_fn(variables, keys [B], **options) -> [B, *event]` draws in model space; its options are
  `temperature`, passed unless it is None, and the rows of `cond` [n, ...], passed unless None.
  `invert` takes samples back to stored units (`Prepare.invert`, whose quantisation rule counts);
  None leaves them in model space. The sampler returns samples first, ..., first + n - 1 of the
  stream of `key`: sample i depends on (key, i) alone, not on batch size or number of devices, so
  blocks put together are one long run. A `shared` one is for several processes: all must call it,
  each draws its share, and all get the same Samples; another one is of this process alone.

  Raises FloatingPointError on any non-finite sample unless `allow_nonfinite`: to redraw or to
  leave them out would score another model than the one trained. Raises ValueError for n < 1.
  """
  batching.round_up(batch_size)
  options = {} if temperature is None else {'temperature': temperature}
  mapped = parallel.pmap_examples(_example_samples(sample_fn, invert, options))

  def sampler(variables, key, n, *, first=0, cond=None):
    if n < 1 or first < 0:
      raise ValueError(f'n must be at least 1 and first at least 0, got n={n}, first={first}.')
    if cond is not None and len(cond) != n:
      raise ValueError(f'cond must have one row per sample: {n}, got {len(cond)}.')
    # Shares are of one size; what of the last ones lies beyond n is drawn too, and left out.
    size = -(-n // jax.process_count()) if shared else n
    own = np.arange(size) + (jax.process_index() * size if shared else 0)
    x, finite = None, np.empty(n, bool)
    for where, found in batching.map_rows(
        mapped, (variables, key), size, batch_size, first=first + int(own[0]),
        arrays=() if cond is None else (np.asarray(cond)[own.clip(max=n - 1)],)):
      for i, (block, are_finite) in enumerate(parallel.all_processes(found) if shared else [found]):
        rows = slice(i * size + where.start, min(i * size + where.stop, n))
        count = max(0, rows.stop - rows.start)
        if x is None:
          x = np.empty((n, *block.shape[1:]), block.dtype)
        x[rows], finite[rows] = block[:count], are_finite[:count]
    samples = Samples(x, finite)
    if samples.nonfinite and not allow_nonfinite:
      raise FloatingPointError(
        f'{samples.nonfinite} of {n} samples are not finite; lower the temperature, or pass '
        'allow_nonfinite=True and report the count.')
    return samples

  return sampler


def _example_samples(sample_fn, invert, options):
  def body(context, index, *cond):
    variables, key = context
    keys = rng.range_keys(key, index[0], index.shape[0])
    x = sample_fn(variables, keys, **options, **({'cond': cond[0]} if cond else {}))
    if x.shape[:1] != index.shape:
      raise ValueError(f'sample_fn must return one sample per key: {index.shape[0]}, got shape '
                       f'{x.shape}.')
    finite = jnp.isfinite(x).reshape(x.shape[0], -1).all(1)
    return (x if invert is None else invert(x)), finite

  return body


def grid(images, columns, *, levels=256, gap=0):
  """Images uint8 [N, H, W, C] side by side, row by row: uint8 [R (H + gap), columns (W + gap), C].

  Grey levels 0, ..., `levels` - 1 are stretched to 0, ..., 255; empty cells are black, a `gap` of
  so many grey pixels follows each image below and to the right. Raises ValueError for another
  shape or type, `columns` < 1, and grey levels beyond `levels`.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
    raise ValueError('a grid is made of images uint8 [N, H, W, C], N > 0, got '
                     f'{images.dtype} {images.shape}; use Prepare.invert on samples.')
  if columns < 1:
    raise ValueError(f'columns must be at least 1, got {columns}.')
  if not 2 <= levels <= 256 or images.max() >= levels:
    raise ValueError(f'grey levels must lie below levels={levels} <= 256, got {images.max()}; '
                     'pass the number of grey levels of the data set.')
  n, height, width, channels = images.shape
  rows = -(-n // columns)
  cells = np.zeros((rows * columns, height, width, channels), np.uint8)
  cells[:n] = np.rint(images * (255 / (levels - 1)))
  cells = np.pad(cells, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=GAP_GREY)
  height, width = height + gap, width + gap
  cells = cells.reshape(rows, columns, height, width, channels)
  return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(path, image, scale=1):
  """Write uint8 [H, W, 1 or 3] as PNG, each pixel a square of `scale`; in one move, or not at all.

  Raises ValueError for another shape or type and for `scale` < 1.
  """
  from PIL import Image
  image = np.asarray(image)
  if image.ndim != 3 or image.dtype != np.uint8 or image.shape[-1] not in (1, 3):
    raise ValueError('an image must be uint8 [H, W, 1 or 3], got '
                     f'{image.dtype} {image.shape}; grid() makes one of many.')
  if scale < 1:
    raise ValueError(f'scale must be a whole number from 1, got {scale}.')
  image = image.repeat(scale, axis=0).repeat(scale, axis=1)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, format='PNG')
