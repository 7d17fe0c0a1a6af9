"""Arrays with a name: splits, their digests, checks, and batches as pure functions of the step.

There is no iterator state. A batch is `gather(x, batch_indices(step, ...))`, so a run that resumes
at step t sees what the straight run saw at step t. Images stay uint8 until the compiled step.
"""
import dataclasses
import functools
import hashlib
import importlib
import math
from typing import Any

import numpy as np

SPLITS = ('train', 'validation', 'test')
REMAINDERS = ('drop', 'pad')
_CHUNK_BYTES = 1 << 24  # a digest of a memory map reads it piece by piece


def require(module, extra):
  """The imported `module`; ImportError names the extra of this package that brings it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(f"{module} is needed here and does not import ({error}); run "
                      f"pip install 'mollification[{extra}]'.") from error


def digest(x):
  """Hex sha256 of `dtype shape` (for example `|u1 (60000, 28, 28, 1)`) and the C-order bytes."""
  sha = hashlib.sha256(f'{x.dtype.str} {tuple(x.shape)}'.encode())
  rows = max(1, _CHUNK_BYTES // max(1, x[:1].nbytes))
  for start in range(0, len(x), rows):
    sha.update(np.ascontiguousarray(x[start:start + rows]).data)
  return sha.hexdigest()


def summary(x):
  """What tells other data from these: shape, dtype, and the means of 64 examples, evenly spaced.

  Not the digest: a table is standardised when it is loaded, and its last bits are the machine's.
  """
  rows = np.linspace(0, len(x) - 1, min(len(x), 64)).round().astype(int)
  means = [float(np.asarray(x[row], np.float64).mean()) for row in rows]
  return {'shape': list(x.shape), 'dtype': x.dtype.str, 'means': means}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Examples x [N, *event], uint8 images (NHWC) or float32 rows, with optional int labels [N].

  `known_sha256` spares the reading of a large memory map whose digest is on record.
  """
  name: str
  x: np.ndarray
  labels: np.ndarray | None = None
  known_sha256: str = ''

  def __post_init__(self):
    if self.x.dtype not in (np.uint8, np.float32):
      raise ValueError(f'split {self.name}: x must be uint8 or float32, got {self.x.dtype}.')
    if self.x.ndim < 2 or not len(self.x):
      raise ValueError(f'split {self.name}: x must be [N, *event] with N > 0, got {self.x.shape}.')
    if self.labels is not None and (self.labels.shape != (len(self.x),)
                                    or not np.issubdtype(self.labels.dtype, np.integer)):
      raise ValueError(f'split {self.name}: labels must be integers [{len(self.x)}], got '
                       f'{self.labels.dtype} {self.labels.shape}.')

  @property
  def num_examples(self):
    """N."""
    return len(self.x)

  def spread(self, n):
    """The split with n of its examples, spread over all; itself for 0, and where it has no more."""
    if not 0 < n < len(self.x):
      return self
    rows = spread_rows(len(self.x), n)
    labels = None if self.labels is None else self.labels[rows]
    return Split(self.name, gather(self.x, rows), labels)

  @functools.cached_property
  def sha256(self):
    """`digest(x)`, computed when first asked for."""
    return self.known_sha256 or digest(self.x)

  def one_hot(self, classes, rows=slice(None)):
    """float32 [n, classes] of the labels of `rows`; None for 0 classes.

    Raises ValueError without labels, and for a label beyond the classes.
    """
    if not classes:
      return None
    if self.labels is None or self.labels.max() >= classes:
      found = 'no labels' if self.labels is None else f'labels up to {self.labels.max()}'
      raise ValueError(f'model.classes {classes} needs labels 0 to {classes - 1}, the data have '
                       f'{found}; set it to 0 for a model without condition.')
    return np.eye(classes, dtype=np.float32)[self.labels[rows]]


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling:
  """How a table was standardised: stored = (raw - mean) / sd, both [D] float64."""
  mean: np.ndarray
  sd: np.ndarray

  @property
  def log_det(self):
    """Nats, -Σ log sd: log p(raw) = log p(stored) + log_det."""
    return -float(np.log(self.sd).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Three splits of one event shape and dtype.

  `levels` is the number of grey levels of uint8 data and None for float32 rows; `density` the
  known density of synthetic data; `scaling` that of tables. `carved_from` is train as published
  where the validation split is its tail.
  """
  name: str
  train: Split
  validation: Split
  test: Split
  levels: int | None = None
  density: Any = None
  scaling: Scaling | None = None
  carved_from: Split | None = None

  def __post_init__(self):
    for name in SPLITS:
      split = getattr(self, name)
      if split.name != name:
        raise ValueError(f'{self.name}: the {name} split is named {split.name!r}.')
      if split.x.shape[1:] != self.event_shape or split.x.dtype != self.train.x.dtype:
        raise ValueError(f'{self.name}: {name} holds {split.x.dtype} {split.x.shape[1:]}, train '
                         f'{self.train.x.dtype} {self.event_shape}; splits must agree.')
    if (self.levels is None) != (self.train.x.dtype == np.float32):
      raise ValueError(f'{self.name}: levels must be given for uint8 data and None for float32, '
                       f'got {self.levels} for {self.train.x.dtype}.')

  @property
  def event_shape(self):
    """Shape of one example, a tuple: (H, W, C) or (D,)."""
    return tuple(self.train.x.shape[1:])

  @property
  def full_train(self):
    """Train as published: train and validation where one was carved out, else train itself.

    Reference statistics of FID are of this split.
    """
    return self.carved_from if self.carved_from is not None else self.train


def drawn(name, density, seed, **sizes):
  """Dataset of samples of a law; sizes num_train, num_validation, num_test.

  Every split has its own stream of the seed. Raises ValueError for an empty split.
  """
  splits = {}
  for i, split in enumerate(SPLITS):
    n = sizes[f'num_{split}']
    if n < 1:
      raise ValueError(f'num_{split} must be positive, got {n}.')
    splits[split] = Split(split, density.sample(np.random.default_rng([seed, i]), n))
  return Dataset(name, **splits, density=density)


def check_rows(x, source):
  """`x` as it is, if it is a finite table [N, D] without constant columns; else ValueError.

  `source` (a file) opens every message; rows and columns are counted from 0.
  """
  if x.ndim != 2 or 0 in x.shape or not np.issubdtype(x.dtype, np.floating):
    raise ValueError(f'{source}: a table must be float [rows, columns], not empty; '
                     f'got {x.dtype} {x.shape}.')
  bad = np.argwhere(~np.isfinite(x))
  if len(bad):
    row, column = bad[0]
    raise ValueError(f'{source}: {x[row, column]} at row {row}, column {column} (the first of '
                     f'{len(bad)}); remove or fill such rows.')
  constant = np.flatnonzero(x.min(0) == x.max(0))
  if len(constant):
    raise ValueError(f'{source}: column {constant[0]} is constant ({x[0, constant[0]]}) and cannot '
                     'be standardised; drop it.')
  return x


def check_images(x, source):
  """`x` as it is, if it is uint8 [N, H, W, 1 or 3] and not empty; else ValueError."""
  if x.dtype != np.uint8:
    raise ValueError(f'{source}: images must be uint8 in 0..255, got {x.dtype}; convert and round '
                     'them first.')
  if x.ndim != 4 or x.shape[-1] not in (1, 3):
    raise ValueError(f'{source}: images must be [N, height, width, channels] with 1 or 3 channels, '
                     f'got {x.shape}.')
  if 0 in x.shape:
    raise ValueError(f'{source}: no images, shape {x.shape}.')
  return x


def _check_sizes(num_examples, batch_size, remainder):
  if remainder not in REMAINDERS:
    raise ValueError(f'remainder must be one of {REMAINDERS}, got {remainder!r}.')
  if batch_size < 1:
    raise ValueError(f'batch_size must be positive, got {batch_size}.')
  if batch_size > num_examples:
    raise ValueError(f'batch_size {batch_size} exceeds the {num_examples} training examples; '
                     f'use {num_examples} or fewer.')


def steps_per_epoch(num_examples, batch_size, remainder='drop'):
  """Batches in one pass: ⌊N/B⌋ ('drop') or ⌈N/B⌉ ('pad')."""
  _check_sizes(num_examples, batch_size, remainder)
  full = num_examples // batch_size
  return full if remainder == 'drop' else math.ceil(num_examples / batch_size)


@functools.lru_cache(maxsize=2)   # a call may span two epochs; of many rows one takes much memory
def _permutation(seed, epoch, num_examples):
  order = np.random.default_rng([seed, epoch]).permutation(num_examples)   # always of int64
  if num_examples <= np.iinfo(np.int32).max:
    order = order.astype(np.int32)
  order.flags.writeable = False  # it is the cache's
  return order


def _padded(indices, batch_size):
  """(indices int64 [batch_size], mask bool [batch_size]): index 0, masked, fills what is short."""
  mask = np.arange(batch_size) < len(indices)
  padded = np.zeros(batch_size, np.int64)
  padded[:len(indices)] = indices
  return padded, mask


def batch_indices(step, *, seed, num_examples, batch_size, remainder='drop'):
  """(indices int64 [B], mask bool [B]) of update `step` (from 0): a pure function of (seed, step).

  Every epoch is its own permutation, that of `np.random.default_rng([seed, epoch])`. What is left
  at its end is dropped ('drop': mask all true), or kept as a last batch that is padded with index
  0 and masked ('pad', the tabular protocol). ValueError if B > N, or for a negative step.
  """
  if step < 0:
    raise ValueError(f'step must not be negative, got {step}.')
  epoch, i = divmod(int(step), steps_per_epoch(num_examples, batch_size, remainder))
  order = _permutation(int(seed), epoch, int(num_examples))
  return _padded(order[i * batch_size:(i + 1) * batch_size], batch_size)


def spread_rows(num_examples, n):
  """Indices of n examples, spread over all: rows may be in order, and the first all of one kind."""
  return np.arange(n) * num_examples // n


def gather(x, indices):
  """x[indices] as a plain array in memory, [B, *event], same dtype; x may be a memory map."""
  # A base-class view: take on np.memmap would return a memmap that is not one.
  return np.take(np.asarray(x), indices, axis=0)
