"""Distances between sets of features, in blocks: precision and recall, and what is a copy.

Squared Euclidean distances in float64 on the host, blocks of rows against blocks of rows, so that
memory does not grow with the sets; they may be memory-mapped.
"""
import dataclasses

import numpy as np

BLOCK = 1024
K, K_DENSITY = 3, 5   # of the papers
QUANTILE = .99
EDGE = 1e-12   # relative, of a squared radius


@dataclasses.dataclass(frozen=True)
class Manifolds:
  """Shares in [0, 1], except `density`, which may exceed 1; n and n_reference count rows."""
  precision: float
  recall: float
  density: float
  coverage: float
  n: int
  n_reference: int


@dataclasses.dataclass(frozen=True, eq=False)
class Copies:
  """How near samples are to the training set, held against how near unseen data are.

  `distances` [N] and `indices` [N] are of each sample's nearest training example. `near_share` is
  the share of samples nearer than the nearest 1 % of test examples, `far_share` that beyond the
  nearest 99 %. Each is about 0.01 for samples of the data's own distribution; a large `near_share`
  speaks of copies, a large `far_share` of samples that are not like data.
  """
  distances: np.ndarray
  indices: np.ndarray
  near_share: float
  far_share: float


def nearest(x, y):
  """(distances [N] float64, indices [N]) of the nearest row of y [M, d] to each row of x [N, d]."""
  _check(x, y, 1)
  best, index = np.full(len(x), np.inf), np.zeros(len(x), np.int64)
  for rows, columns, squared in _blocks(x, y):
    own = squared.argmin(1)
    value = squared[np.arange(len(own)), own]
    closer = value < best[rows]
    best[rows] = np.where(closer, value, best[rows])
    index[rows] = np.where(closer, own + columns.start, index[rows])
  return np.sqrt(best), index


def radii(x, *ks):
  """Distances [K, N] of each row of x [N, d] to its k-th nearest other row, for K numbers k.

  Raises ValueError for N <= k.
  """
  return np.sqrt(squared_radii(x, *ks))


def squared_radii(x, *ks):
  """`radii`, squared."""
  k = max(ks)
  _check(x, x, k + 1)
  best = np.full((len(x), k), np.inf)

  def look(rows, squared):
    both = np.concatenate([best[rows], squared], axis=1)
    best[rows] = np.partition(both, k - 1, axis=1)[:, :k]

  for rows, columns, squared in _blocks(x):
    if rows == columns:
      np.fill_diagonal(squared, np.inf)
    else:
      look(columns, squared.T)
    look(rows, squared)
  best.sort(axis=1)
  return best.T[np.array(ks) - 1]


def manifolds(x, reference, *, k=K, k_density=K_DENSITY, balls=None):
  """`Manifolds` of generated features x [N, d] against reference features [M, d].

  Precision: share of x within some ball about a reference row, whose radius is the distance to
  that row's k-th neighbour; recall the same with the roles exchanged (Kynkäänniemi et al. 2019,
  arXiv 1904.06991; k = 3 there). Density: mean number of reference balls (k_density) that hold a
  sample, over k_density; coverage: share of reference balls that hold one (Naeem et al. 2020,
  arXiv 2002.09797, k = 5). A row on the edge of a ball is within. `balls` are
  `squared_radii(reference, k, k_density)` where they are known. Raises ValueError for too few rows.
  """
  _check(x, reference, max(k, k_density) + 1)
  if balls is not None and balls.shape != (2, len(reference)):
    raise ValueError(f'balls must be [2, {len(reference)}], a k and a reference row each, got '
                     f'{balls.shape}; pass squared_radii(reference, k, k_density).')
  # Up to the rounding of the two products that give one distance.
  own, = (1 + EDGE) * squared_radii(x, k)
  theirs, wide = (1 + EDGE) * (
    squared_radii(reference, k, k_density) if balls is None else balls)
  precise, recalled = np.zeros(len(x), bool), np.zeros(len(reference), bool)
  covered, inside = np.zeros(len(reference), bool), 0
  for rows, columns, squared in _blocks(x, reference):
    precise[rows] |= (squared <= theirs[None, columns]).any(1)
    recalled[columns] |= (squared <= own[rows, None]).any(0)
    within = squared <= wide[None, columns]
    covered[columns] |= within.any(0)
    inside += int(within.sum())
  return Manifolds(float(precise.mean()), float(recalled.mean()),
                   inside / (k_density * len(x)), float(covered.mean()), len(x), len(reference))


def copies(samples, train, unseen, *, quantile=QUANTILE):
  """`Copies` of samples [N, d] in features, against train [M, d].

  `unseen` [T] are the distances of test examples to their `nearest` in train.
  """
  if unseen.ndim != 1:
    raise ValueError(f'unseen must be distances [T], got {unseen.shape}; pass nearest(test, '
                     'train)[0].')
  distances, indices = nearest(samples, train)
  low, high = np.quantile(unseen, [1 - quantile, quantile])
  return Copies(distances, indices, float((distances < low).mean()),
                float((distances > high).mean()))


def _check(x, y, least):
  if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
    raise ValueError(f'both sets must be [n, d] with one d and n >= {least}, got {x.shape} and '
                     f'{y.shape}; use more examples.')


def _blocks(x, y=None):
  """(slice of x, slice of y, squared distances) over all pairs of blocks.

  Without y over those of x with itself, each pair once.
  """
  alone, y = y is None, x if y is None else y
  # Large means would cancel in |x|² - 2xy + |y|².
  centre = np.asarray(y[:BLOCK], np.float64).mean(0)
  for i in range(0, len(x), BLOCK):
    rows = slice(i, min(i + BLOCK, len(x)))
    a = np.asarray(x[rows], np.float64) - centre
    norms = np.square(a).sum(1)[:, None]
    a *= -2
    for j in range(i if alone else 0, len(y), BLOCK):
      columns = slice(j, min(j + BLOCK, len(y)))
      b = np.asarray(y[columns], np.float64) - centre
      squared = a @ b.T   # in place from here on: a block is of megabytes
      squared += norms
      squared += np.square(b).sum(1)[None]
      yield rows, columns, np.maximum(squared, 0, out=squared)
