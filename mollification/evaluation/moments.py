"""Means and covariances of features that arrive in pieces: float64, in constant memory.

Rows are summed in blocks of fixed size and in their order, whatever the pieces they came in; so
the statistics are the same bits for every batch size and number of devices that give the same
features. A block's rows are taken relative to the mean of the first one: without that, features
with a large mean would lose digits.
"""
import tempfile
import weakref

import numpy as np

from mollification import files
from mollification.evaluation.frechet import Statistics

BLOCK = 1024           # rows in one matrix product
BUFFER = 5 * BLOCK     # rows held back, so that the products of 20 groups are not thin


class Moments:
  """Accumulates features [n, d]; with `groups` K also those of rows g, g + K, ... for each g < K.

  Memory: (K + 2) d² doubles and `BUFFER` rows; 0.75 GB at d = 2048 and K = 20. While n <= d the
  rows are kept, for they are then an exact factor of the covariance.
  """

  def __init__(self, groups=0):
    self.n, self.groups = 0, groups
    self._buffer, self._held = None, 0
    self._centre, self._kept, self._closed = None, [], False
    self._counts = None   # of the groups, once merged

  def add(self, features):
    """Rows [b, d] of finite features, the next ones in order; returns self.

    Raises ValueError for another number of features, for non-finite rows, and once statistics
    have been taken: a block that was closed early would make other sums.
    """
    features = np.asarray(features)
    if self._closed:
      raise ValueError('rows must be added before statistics are taken; use a new Moments.')
    if features.ndim != 2 or (self.n and features.shape[1] != self._buffer.shape[1]):
      wanted = f'[b, {self._buffer.shape[1]}]' if self.n else '[b, d]'
      raise ValueError(f'features must be {wanted}, got shape {features.shape}.')
    bad = int((~np.isfinite(features).all(1)).sum())
    if bad:
      raise ValueError(f'features must be finite, got {bad} rows of {len(features)} that are not; '
                       'count non-finite samples before extracting features.')
    if self._buffer is None:
      self._buffer = np.empty((BUFFER, features.shape[1]), features.dtype)
    self._keep(features)
    while len(features):
      part = features[:BUFFER - self._held]
      self._buffer[self._held:self._held + len(part)] = part
      self._held += len(part)
      self.n += len(part)
      features = features[len(part):]
      if self._held == BUFFER:
        self._flush()
    return self

  def statistics(self):
    """`Statistics` of all rows; ValueError for fewer than 2. Nothing can be added afterwards."""
    self._close()
    return self._of(self.n, self._total, self._scatter, lambda group: group >= 0)

  def without(self, group):
    """`Statistics` of all rows but those of one group."""
    self._close()
    return self._of(self.n - self._count(group), self._total - self._totals[group],
                    self._scatter - self._scatters[group], lambda groups: groups != group)

  def of_first(self, count):
    """`Statistics` of the rows of groups 0, ..., count - 1."""
    self._close()
    return self._of(sum(map(self._count, range(count))), self._totals[:count].sum(0),
                    sum(self._scatters[1:count], start=self._scatters[0]),
                    lambda groups: groups < count)

  def merge(self, other):
    """Take in the rows of another shard of a data set as if they came next; returns self.

    Those of a `Shard`: the statistics are the same bits as if the whole had been added here, and
    more may be. Those of other Moments, in constant memory, but exact only up to rounding, for sums
    know no order: group g of the union is made of groups g of both, and neither can be added to
    afterwards. Raises ValueError where groups or features differ.
    """
    if isinstance(other, Shard):
      for rows in other.pieces():
        self.add(rows)
      return self
    self._close()
    other._close()
    if (self.groups, self._total.shape) != (other.groups, other._total.shape):
      raise ValueError('moments to be merged must have the same groups and features, got '
                       f'{self.groups}, {self._total.size} and {other.groups}, '
                       f'{other._total.size}.')
    delta = other._centre - self._centre   # theirs were taken relative to another centre
    _shifted(other.n, other._total, other._scatter, delta, self._total, self._scatter)
    self._counts = [self._count(g) + other._count(g) for g in range(self.groups)]
    for g in range(self.groups):
      _shifted(other._count(g), other._totals[g], other._scatters[g], delta, self._totals[g],
               self._scatters[g])
    self.n += other.n
    self._kept = None
    return self

  def save(self, path, **extra):
    """Write all that `restore` needs, in one move; `extra` are arrays to keep beside it."""
    if self._closed:
      raise ValueError('moments must be saved before statistics are taken.')
    arrays = {'n': self.n, 'groups': self.groups}
    if self.n:
      arrays |= {'rows': self._buffer[:self._held]}
    if self._centre is not None:
      arrays |= {'centre': self._centre, 'total': self._total, 'scatter': self._scatter}
      if self.groups:
        arrays |= {'totals': self._totals, 'scatters': self._scatters}
    if self._kept:
      arrays |= {'kept': np.concatenate(self._kept)}
    with files.replacing(path) as part, part.open('wb') as file:
      np.savez(file, **arrays, **extra)

  @classmethod
  def restore(cls, arrays):
    """The Moments that `save` wrote, from the mapping that np.load gives; bit for bit."""
    moments = cls(int(arrays['groups']))
    moments.n = int(arrays['n'])
    if moments.n:
      rows = arrays['rows']
      moments._buffer = np.empty((BUFFER, rows.shape[1]), rows.dtype)
      moments._held = len(rows)
      moments._buffer[:len(rows)] = rows
      moments._kept = [arrays['kept']] if 'kept' in arrays else None
    if 'centre' in arrays:
      moments._centre = arrays['centre']
      moments._total, moments._scatter = arrays['total'], arrays['scatter']
      if moments.groups:
        moments._totals, moments._scatters = arrays['totals'], arrays['scatters']
    return moments

  def _keep(self, features):
    if self.n + len(features) > features.shape[1]:
      self._kept = None
    if self._kept is not None:
      self._kept.append(features.copy())

  def _count(self, group):
    if self._counts is not None:
      return self._counts[group]
    return len(range(group, self.n, self.groups))

  def _close(self):
    if not self.n:
      raise ValueError('statistics need at least 2 feature vectors, got 0.')
    if not self._closed:
      self._flush()
      self._closed, self._buffer = True, None

  def _flush(self):
    rows = self._buffer[:self._held]
    d = rows.shape[1]
    if self._centre is None:
      self._centre = rows[:BLOCK].astype(np.float64).mean(0)
      self._total, self._scatter = np.zeros(d), np.zeros((d, d))
      if self.groups:
        self._totals, self._scatters = np.zeros((self.groups, d)), np.zeros((self.groups, d, d))
    for start in range(0, len(rows), BLOCK):
      _sum(rows[start:start + BLOCK] - self._centre, self._total, self._scatter)
    first = self.n - self._held
    for g in range(self.groups):
      own = rows[(g - first) % self.groups::self.groups]
      if len(own):
        _sum(own - self._centre, self._totals[g], self._scatters[g])
    self._held = 0

  def _of(self, n, total, scatter, is_own):
    """`is_own(groups [n])` says which rows they are, where the rows are still there."""
    mean, centred = self._centre + total / n, None
    if self._kept is not None:
      rows = np.concatenate(self._kept)[is_own(np.arange(self.n) % max(self.groups, 1))]
      centred = rows.astype(np.float64) - mean
    cov = (scatter - np.outer(total, total / n)) / max(n - 1, 1)
    return Statistics(n, mean, (cov + cov.T) / 2, centred)


class Shard:
  """Features of a later part of a data set, until the moments of what comes before are there.

  The rows themselves, 4 d bytes each, in a nameless file in `folder` (None: where temporary files
  are): rounding follows the order of sums, so no sum over a part is, bit for bit, one of the whole.
  """

  def __init__(self, folder=None):
    self.n, self._width, self._dtype = 0, None, None
    self._file = tempfile.TemporaryFile(dir=folder)   # noqa: SIM115 (lives as long as the shard)
    weakref.finalize(self, self._file.close)

  def add(self, features):
    """Rows [b, d], the next ones in order; returns self. ValueError for others than before."""
    features = np.ascontiguousarray(features)
    kind = features.shape[1:], features.dtype
    if features.ndim != 2 or (self.n and kind != (self._width, self._dtype)):
      raise ValueError(f'features of a shard must be [b, d] as the first were, got '
                       f'{features.dtype} {features.shape}.')
    self._width, self._dtype = kind
    self._file.seek(0, 2)
    self._file.write(features.data)
    self.n += len(features)
    return self

  def pieces(self):
    """The rows in order, in pieces [at most `BUFFER`, d]."""
    self._file.seek(0)
    for start in range(0, self.n, BUFFER):
      count = min(BUFFER, self.n - start) * self._width[0]
      yield np.frombuffer(self._file.read(count * self._dtype.itemsize), self._dtype).reshape(
        -1, *self._width)


def of(features, groups=0):
  """`Moments` of features [n, d] that are all there."""
  return Moments(groups).add(features)


def _sum(rows, total, scatter):
  """Add Σ x [d] and Σ x xᵀ [d, d] to the totals, in place."""
  total += rows.sum(0)
  scatter += rows.T @ rows


def _shifted(n, total, scatter, delta, into_total, into_scatter):
  """Add sums relative to centre + delta to sums relative to centre, in place."""
  cross = np.outer(total, delta)
  into_scatter += scatter + cross + cross.T + n * np.outer(delta, delta)
  into_total += total + n * delta
