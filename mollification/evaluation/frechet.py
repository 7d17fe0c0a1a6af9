"""Fréchet distance between Gaussians fitted to features, in float64 on the host.

    d² = |μ₁ - μ₂|² + tr S₁ + tr S₂ - 2 tr (S₁ S₂)^½

(Dowson & Landau 1982; on Inception features the FID of Heusel et al. 2017, arXiv 1706.08500,
eq. 6). With S = A Aᵀ the last trace is the nuclear norm of A₁ᵀ A₂. Singular values of a product of
factors are good to rounding; the eigenvalues of S₁ S₂ that a matrix square root needs lose half
of the digits wherever a covariance is near singular, as those of features are.
"""
import dataclasses
import functools
import math
import warnings

import numpy as np

GROUPS = 20   # of the jackknife
# Rounding leaves at most this share of the total variance below zero.
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
  """Count, mean [d] and covariance [d, d] (divisor n - 1) of n >= 2 feature vectors, float64.

  `n` is None where a file does not say. `centred` [n, d] keeps the features minus their mean where
  n <= d: they are then an exact factor of the covariance. Raises ValueError for n < 2, shapes that
  do not fit and non-finite entries.
  """
  n: int | None
  mean: np.ndarray
  cov: np.ndarray
  centred: np.ndarray | None = dataclasses.field(default=None, repr=False)

  def __post_init__(self):
    if self.n is not None and self.n < 2:
      raise ValueError(f'a covariance needs at least 2 feature vectors, got {self.n}.')
    if self.mean.ndim != 1 or self.cov.shape != self.mean.shape * 2:
      raise ValueError('statistics must be a mean [d] and a covariance [d, d], got '
                       f'{self.mean.shape} and {self.cov.shape}.')
    if not (np.isfinite(self.mean).all() and np.isfinite(self.cov).all()):
      raise ValueError('statistics must be finite, got NaN or infinite entries; check the '
                       'features that they were made from.')

  @functools.cached_property
  def factor(self):
    """A [d, r] with A Aᵀ = cov, r its numerical rank; computed once."""
    if self.centred is not None:
      return self.centred.T / math.sqrt(self.n - 1)
    return _factor(self.cov)


class FewSamples(UserWarning):
  """No more feature vectors than features: the covariance is singular."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A distance with its error: `value` is the plain one, as published figures are.

  `standard_error` and `bias_corrected` come from the jackknife; the latter may be negative.
  """
  value: float
  standard_error: float
  bias_corrected: float
  n: int
  n_reference: int | None


def frechet_distance(a, b):
  """d² between two `Statistics`; see the module. Symmetric, 0 for equal ones.

  A value below zero by rounding is returned as 0. Raises ArithmeticError where it is further
  below, which a covariance that is not positive semi-definite does, and ValueError where the
  features differ in number. Warns with `FewSamples` where either is of too few.
  """
  for found in (a, b):
    text = few_samples(found)
    if text:
      warnings.warn(text, FewSamples, stacklevel=2)
  return _distance(a, b)


def few_samples(statistics):
  """What to say where a covariance is singular for want of samples, else ''."""
  n, d = statistics.n, len(statistics.mean)
  if n is None or n > d:
    return ''
  return (f'{n:,} samples for {d:,} features: the covariance is singular and a Fréchet distance '
          'far too large; take more samples, or compare at equal numbers only.')


def _distance(a, b):
  if a.mean.shape != b.mean.shape:
    raise ValueError(f'both statistics must have the same features, got {a.mean.size} and '
                     f'{b.mean.size}.')
  shift = float(np.square(a.mean - b.mean).sum())
  spread = float(np.trace(a.cov) + np.trace(b.cov))
  overlap = float(np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum())
  value = shift + (spread - 2 * overlap)
  if value < -TOLERANCE * spread:
    raise ArithmeticError(f'a Fréchet distance must not be negative, got {value} at a total '
                          f'variance of {spread}; a covariance is not positive semi-definite.')
  return max(value, 0.)


def jackknife(moments, reference, progress=None):
  """Estimate of the distance of `Moments` with K >= 2 groups to the `Statistics` of a reference.

  Jackknife over the interleaved groups: with f the distance and f_g the one without group g,
  SE² = (K - 1) / K Σ (f_g - mean f_g)² and the bias-corrected value is K f - (K - 1) mean f_g. The
  reference counts as fixed, as in published figures. `progress(1)` is called after each distance: K
  factors and K sets of singular values are what it takes, for groups of more rows than features are
  no small change of a factor; with fewer rows than features in all, the rows serve as factors.
  Raises ValueError for fewer groups and for fewer than 2 K rows.
  """
  groups = moments.groups
  if groups < 2 or moments.n < 2 * groups:
    raise ValueError(f'the jackknife needs at least 2 groups of 2 rows, got {groups} groups and '
                     f'{moments.n} rows; use fewer groups or more samples.')
  value = frechet_distance(moments.statistics(), reference)
  left_out = np.array(_distances((moments.without(g) for g in range(groups)), reference, progress))
  centre = left_out.mean()
  error = math.sqrt((groups - 1) / groups * np.square(left_out - centre).sum())
  return Estimate(value, error, float(groups * value - (groups - 1) * centre), moments.n,
                  reference.n)


def extrapolated(moments, reference, *, whole=None, progress=None):
  """The distance at infinitely many samples: intercept of a line in 1 / n (FID-infinity).

  Chong & Forsyth 2020 (arXiv 1911.07023), eq. 6: the bias of the distance falls as 1 / n. The
  points are the unions of the first k of the K groups, K / 4 <= k <= K: nested subsets where the
  paper draws at random, so no features need be kept, and none below a quarter, where the paper
  begins at a tenth: there the bias is not yet linear. `whole`, the distance of all rows,
  is not taken again where it is known; `progress` is as in `jackknife`. Raises ValueError for fewer
  than 8 groups or fewer than 2 rows in one.
  """
  groups = moments.groups
  if groups < 8 or moments.n < 2 * groups:
    raise ValueError(f'the extrapolation needs at least 8 groups of 2 rows, got {groups} groups '
                     f'and {moments.n} rows; use more samples.')
  sizes = []

  def points():
    for k in range(groups // 4, groups):
      point = moments.of_first(k)
      sizes.append(point.n)
      yield point

  values = _distances(points(), reference, progress)
  values.append(_distance(moments.statistics(), reference) if whole is None else whole)
  return float(np.polyfit([1 / n for n in (*sizes, moments.n)], values, 1)[1])


def distances_of(groups):
  """How many distances `jackknife` and `extrapolated` take beyond the plain one."""
  return groups + (groups - groups // 4 if groups >= 8 else 0)


def _distances(statistics, reference, progress):
  """Distances of Statistics that are made one by one: each holds a covariance."""
  found = []
  for own in statistics:
    found.append(_distance(own, reference))
    if progress:
      progress(1)
  return found


def _factor(cov):
  """A [d, r] with A Aᵀ = cov: Cholesky where it is definite, else its leading eigenvectors."""
  floor = len(cov) * np.finfo(np.float64).eps
  try:
    lower = np.linalg.cholesky(cov)
  except np.linalg.LinAlgError:
    lower = None
  # A singular matrix may pass by the luck of rounding, its last pivots being noise, and a pivot
  # overstates the least eigenvalue: Cholesky only far from there, the slower way is always safe.
  if lower is not None and np.square(np.diag(lower)).min() > 1e3 * floor * np.diag(cov).max():
    return lower
  values, vectors = np.linalg.eigh(cov)
  keep = values > floor * max(values[-1], 0.)
  return vectors[:, keep] * np.sqrt(values[keep])
