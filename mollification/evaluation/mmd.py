"""Maximum mean discrepancy with Gaussian kernels, unbiased, in float64 on the host."""
import dataclasses
import math

import numpy as np

# Of the reference's median distance: one kernel near it, others for finer and coarser differences.
MULTIPLES = (.25, .5, 1., 2., 4.)
BLOCK = 1024           # rows and columns of a kernel matrix in memory at once
MEDIAN_ROWS = 2000     # rows that the median is taken over


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
  """The reference sample `x` [M, D] float64, its bandwidths and its own part of the estimate.

  `row_sums` [M] are Σ_{j≠i} k(y_i, y_j): computed once, they serve every sample held against it.
  """
  x: np.ndarray
  bandwidths: tuple
  row_sums: np.ndarray


@dataclasses.dataclass(frozen=True)
class Estimate:
  """MMD² (unbiased, so it may be negative), its standard error, and the sizes of both samples."""
  value: float
  standard_error: float
  n: int
  n_reference: int


def median_bandwidth(x):
  """The median distance between two rows of `x` [M, D]: the usual bandwidth of a Gaussian kernel.

  Above `MEDIAN_ROWS` rows, that many evenly spaced ones are used. Raises ValueError where the
  median is 0: more than half of the pairs are equal, and no kernel follows from that.
  """
  x = checked_rows(x)
  if len(x) > MEDIAN_ROWS:
    x = x[np.linspace(0, len(x) - 1, MEDIAN_ROWS).astype(int)]
  x = x - x.mean(0)
  squared = _squared_distances(x, x)[np.triu_indices(len(x), 1)]
  median = math.sqrt(float(np.median(squared)))
  if not median > 0:
    raise ValueError('the median distance must be positive, got 0: most rows of the reference '
                     'are equal; pass bandwidths.')
  return median


def reference(x, *, bandwidths=None, multiples=MULTIPLES):
  """Reference of the rows `x` [M, *event], M >= 3.

  The kernel is the mean of exp(-|x - y|² / (2 σ²)) over the bandwidths σ, in units of the data:
  `bandwidths` where given, else `multiples` of `median_bandwidth(x)`. The reference alone decides
  them: bandwidths that follow the samples would give every model another yardstick.
  Raises ValueError for fewer rows, non-finite values and bandwidths that are not positive.
  """
  x = checked_rows(x)
  if bandwidths is None:
    median = median_bandwidth(x)
    bandwidths = tuple(m * median for m in multiples)
  bandwidths = tuple(float(b) for b in np.atleast_1d(bandwidths))
  if not bandwidths or not all(b > 0 and math.isfinite(b) for b in bandwidths):
    raise ValueError(f'bandwidths must be positive and at least one, got {bandwidths}.')
  return Reference(x, bandwidths, own_sums(x - x.mean(0), _gaussian(bandwidths)))


def mmd2(x, reference):
  """Estimate of MMD² between the rows `x` [N, *event], N >= 3, and a `Reference`.

  The U-statistic of Gretton et al., A kernel two-sample test, JMLR 2012, eq. 3:
    Σ_{i≠j} k(x_i, x_j) / (N (N-1)) + Σ_{i≠j} k(y_i, y_j) / (M (M-1)) - 2 Σ_ij k(x_i, y_j) / (N M)

  The standard error is the delete-one jackknife over both samples (Arvesen, 1969), exact from row
  sums. It treats the reference as a sample too. Where both distributions are equal the statistic
  is degenerate and the jackknife errs on the large side, by up to sqrt(2).
  Raises ValueError for too few rows, another event size, and non-finite values.
  """
  x, y = checked_rows(x), reference.x
  if x.shape[1] != y.shape[1]:
    raise ValueError(f'rows must have the {y.shape[1]} entries of the reference, got '
                     f'{x.shape[1]}.')
  kernel = _gaussian(reference.bandwidths)
  # Large means would cancel in |x|² + |y|² - 2xy.
  return from_sums(own_sums(x - x.mean(0), kernel), reference.row_sums,
                   *cross_sums(x - y.mean(0), y - y.mean(0), kernel))


def from_sums(x_own, y_own, x_cross, y_cross):
  """The Estimate that sums of kernel values give: of each row [N], [M] with the others of its own
  set, and with all of the other set."""
  n, m = len(x_own), len(y_own)
  own_x, own_y, cross = x_own.sum(), y_own.sum(), x_cross.sum()
  value = _combine(own_x, own_y, cross, n, m)
  without_x = _combine(own_x - 2 * x_own, own_y, cross - x_cross, n - 1, m)
  without_y = _combine(own_x, own_y - 2 * y_own, cross - y_cross, n, m - 1)
  variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
  return Estimate(float(value), math.sqrt(variance), n, m)


def _combine(own_x, own_y, cross, n, m):
  return own_x / (n * (n - 1)) + own_y / (m * (m - 1)) - 2 * cross / (n * m)


def checked_rows(x):
  """x [N, *event] as float64 [N, D]; ValueError as `check_rows`."""
  x = np.asarray(x)
  check_rows(x)
  return x.reshape(len(x), -1).astype(np.float64)


def check_rows(x):
  """ValueError for fewer than 3 rows [N, *event], and for rows that are not finite."""
  if x.ndim < 2 or len(x) < 3:
    raise ValueError(f'MMD needs at least 3 rows [N, *event], got shape {x.shape}; take more '
                     'samples.')
  bad = sum(int((~np.isfinite(x[i:i + BLOCK].reshape(-1, math.prod(x.shape[1:]))).all(1)).sum())
            for i in range(0, len(x), BLOCK))
  if bad:
    raise ValueError(f'MMD needs finite rows, got {bad} that are not; count and report them.')


def _squared_distances(x, y):
  squared = (np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None]) - 2 * x @ y.T
  return np.maximum(squared, 0)  # rounding makes distances of equal rows slightly negative


def _gaussian(bandwidths):
  def kernel(x, y):
    squared = _squared_distances(x, y)
    return sum(np.exp(squared * (-.5 / b ** 2)) for b in bandwidths) / len(bandwidths)

  return kernel


def own_sums(x, kernel):
  """Σ_{j≠i} k(x_i, x_j) [N] of a symmetric kernel ([B, D], [C, D]) -> [B, C].

  In blocks against blocks, each made float64 in its turn: the rows may be mapped from a file.
  """
  sums = np.zeros(len(x))
  for rows, a in _blocks(x):
    for columns, b in _blocks(x, rows.start):
      values = kernel(a, b)
      if columns == rows:
        np.fill_diagonal(values, 0)
      else:
        sums[columns] += values.sum(0)
      sums[rows] += values.sum(1)
  return sums


def cross_sums(x, y, kernel):
  """(Σ_j k(x_i, y_j) [N], Σ_i k(x_i, y_j) [M]), in blocks as `own_sums`."""
  by_x, by_y = np.zeros(len(x)), np.zeros(len(y))
  for rows, a in _blocks(x):
    for columns, b in _blocks(y):
      values = kernel(a, b)
      by_x[rows] += values.sum(1)
      by_y[columns] += values.sum(0)
  return by_x, by_y


def _blocks(x, first=0):
  """(slice, its rows in float64) from row `first` on."""
  for start in range(first, len(x), BLOCK):
    rows = slice(start, min(start + BLOCK, len(x)))
    yield rows, np.asarray(x[rows], np.float64)
