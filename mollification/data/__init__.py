"""Data sets by name: `load(name, ...) -> Dataset`, and `spec(name, ...)` without any data."""
import dataclasses
from collections.abc import Callable

import numpy as np

from mollification.data import density_tables, embedded, images, manifold, synthetic, tabular
from mollification.data.dataset import Dataset, Split

__all__ = ['DATASETS', 'Dataset', 'Split', 'levels', 'load', 'spec']


@dataclasses.dataclass(frozen=True)
class Entry:
  """How a name is loaded, and what is known of it beforehand (event_shape None: nothing)."""
  load: Callable   # (name, data_dir, cache_dir, seed, **options) -> Dataset
  event_shape: tuple | None
  levels: int | None
  options: tuple = ()   # what else the loader takes


def _digits(name, data_dir, cache_dir, seed, **options):
  return embedded.digits(**options)


def _photo_patches(name, data_dir, cache_dir, seed, **options):
  return embedded.photo_patches(**options)


def _synthetic(name, data_dir, cache_dir, seed, **options):
  return synthetic.load(name, seed=seed, **options)


def _manifold(name, data_dir, cache_dir, seed, **options):
  return manifold.load(seed=seed, **options)


def _table(name, data_dir, cache_dir, seed, **options):
  return tabular.load(name, data_dir, **options)


def _density_table(name, data_dir, cache_dir, seed, **options):
  return density_tables.load(name, data_dir)


def _images(name, data_dir, cache_dir, seed, **options):
  return images.load(name, data_dir=data_dir, cache_dir=cache_dir, **options)


def _folder(name, data_dir, cache_dir, seed, **options):
  _need(data_dir, name, 'the folder of images')
  return images.load_folder(data_dir, cache_dir=cache_dir, seed=seed, **options)


def _npz(name, data_dir, cache_dir, seed, **options):
  _need(data_dir, name, 'the path of the .npz archive')
  return images.load_npz(data_dir, **options)


def _need(data_dir, name, what):
  if not str(data_dir):
    raise ValueError(f'data set {name!r} needs data.data_dir, {what}.')


SIZES = ('num_train', 'num_validation', 'num_test')
DATASETS = {
  'digits': Entry(_digits, (8, 8, 1), 17),
  'photo_patches': Entry(_photo_patches, (32, 32, 3), 256, ('size', 'stride')),
  'two_gaussians': Entry(_synthetic, (2,), None, SIZES),
  'eight_gaussians': Entry(_synthetic, (2,), None, SIZES),
  'von_mises_circle': Entry(_synthetic, (2,), None, SIZES),
  'two_moons': Entry(_synthetic, (2,), None, SIZES),
  'checkerboard': Entry(_synthetic, (2,), None, SIZES),
  'manifold': Entry(_manifold, (16,), None,
                    (*SIZES, 'intrinsic', 'ambient', 'curvature', 'noise')),
  'redwine': Entry(_table, (11,), None, ('download',)),
  'whitewine': Entry(_table, (11,), None, ('download',)),
  'parkinsons': Entry(_table, (15,), None, ('download',)),
  'power': Entry(_density_table, (6,), None),
  'gas': Entry(_density_table, (8,), None),
  'hepmass': Entry(_density_table, (21,), None),
  'miniboone': Entry(_density_table, (43,), None),
  'bsds300': Entry(_density_table, (63,), None),
  'mnist': Entry(_images, (28, 28, 1), 256),
  'fashion_mnist': Entry(_images, (28, 28, 1), 256),
  'svhn_cropped': Entry(_images, (32, 32, 3), 256),
  'cifar10': Entry(_images, (32, 32, 3), 256),
  'celeba64': Entry(_images, (64, 64, 3), 256),
  'downsampled_imagenet32': Entry(_images, (32, 32, 3), 256),
  'downsampled_imagenet64': Entry(_images, (64, 64, 3), 256),
  'folder': Entry(_folder, None, 256, ('size', 'channels')),
  'npz': Entry(_npz, None, 256),
}


SHAPED_BY_FILES = ('folder', 'npz')   # nobody knows their shape beforehand


def _entry(name):
  if name not in DATASETS:
    raise ValueError(f'no data set {name!r}; choose one of {sorted(DATASETS)}.')
  return DATASETS[name]


def load(name, *, data_dir='', cache_dir='', seed=0, **options):
  """The Dataset `name` of `DATASETS`; `options` are those of its loader.

  `data_dir`: where TFDS keeps its data ('' for ~/tensorflow_datasets), the folder of a UCI table
  (of power, gas, hepmass, miniboone, bsds300: of their folders), the folder of images ('folder') or
  the archive ('npz'). `cache_dir`: where image arrays are cached ('' for ~/.cache/mollification).
  `seed` draws synthetic samples and splits a folder; keep it fixed over the seeds of training, so
  that all arms see one test set.
  """
  entry = _entry(name)
  for option in options:
    if option not in entry.options:
      raise ValueError(f'data set {name!r} has no option {option!r}; '
                       f'its options: {list(entry.options) or "none"}.')
  return entry.load(name, data_dir, cache_dir, seed, **options)


def levels(name):
  """Grey levels of the pixels of data set `name`, None for a table; known of every name."""
  return _entry(name).levels


def spec(name, **options):
  """(event_shape, dtype, levels) of what `load(name, **options)` gives, without reading data.

  ValueError for 'folder' without `size` and `channels`, and for 'npz': their files decide.
  """
  entry = _entry(name)
  shape = entry.event_shape
  if name == 'photo_patches':
    shape = (options.get('size', 32),) * 2 + (3,)
  elif name == 'manifold':
    shape = (options.get('ambient', 16),)
  elif name == 'folder' and options.get('size') and options.get('channels'):
    shape = (options['size'], options['size'], options['channels'])
  if shape is None:
    raise ValueError(f'the shape of data set {name!r} stands in its files; '
                     + ('pass size and channels, or load it.' if name == 'folder' else 'load it.'))
  return shape, np.dtype('float32' if entry.levels is None else 'uint8'), entry.levels
