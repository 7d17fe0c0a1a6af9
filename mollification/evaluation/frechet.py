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

import numpy as np

# Rows in one matrix product; fixed, so that sums do not depend on how features were computed.
BLOCK = 1024
GROUPS = 20
# Rounding leaves at most this share of the total variance below zero.
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
  """Count, mean [d] and covariance [d, d] (divisor n - 1) of n >= 2 feature vectors, float64.

  `centred` [n, d] keeps the features minus their mean where n <= d: they are then an exact factor
  of the covariance. Raises ValueError for n < 2, shapes that do not fit and non-finite entries.
  """
  n: int
  mean: np.ndarray
  cov: np.ndarray
  centred: np.ndarray | None = dataclasses.field(default=None, repr=False)

  def __post_init__(self):
    if self.n < 2:
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

  def merge(self, other):
    """Statistics of the union of both sets (Chan et al. 1979); exact up to rounding."""
    if self.mean.shape != other.mean.shape:
      raise ValueError(f'statistics to be merged must have the same features, got {self.mean.size} '
                       f'and {other.mean.size}.')
    n = self.n + other.n
    delta = other.mean - self.mean
    scatter = ((self.n - 1) * self.cov + (other.n - 1) * other.cov
               + np.outer(delta, delta) * (self.n * other.n / n))
    return Statistics(n, self.mean + delta * (other.n / n), scatter / (n - 1))


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A distance with its error: `value` is the plain one, as published figures are.

  `standard_error` and `bias_corrected` come from the jackknife; the latter may be negative.
  """
  value: float
  standard_error: float
  bias_corrected: float
  n: int
  n_reference: int


def statistics(features):
  """Statistics of features [n, d]; two passes, accumulated in float64 in the order of the rows."""
  features = _checked(features)
  n, d = features.shape
  mean = sum(b.astype(np.float64).sum(0) for b in _blocks(features)) / n
  _, scatter = _sums(features, mean)
  centred = features.astype(np.float64) - mean if n <= d else None
  return Statistics(n, mean, scatter / (n - 1), centred)


def frechet_distance(a, b):
  """d² between two `Statistics`; see the module. Symmetric, 0 for equal ones.

  A value below zero by rounding is returned as 0. Raises ArithmeticError where it is further
  below, which a covariance that is not positive semi-definite does, and ValueError where the
  features differ in number.
  """
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


def frechet_with_error(features, reference, *, groups=GROUPS):
  """Estimate of the distance of features [n, d] to the `Statistics` of a reference.

  Jackknife over K interleaved groups (rows g, g + K, ...): with f the distance and f_g the one
  without group g, SE² = (K - 1) / K Σ (f_g - mean f_g)² and the bias-corrected value is
  K f - (K - 1) mean f_g. The reference counts as fixed, as in published figures.
  Raises ValueError for K < 2 and for fewer than 2 K rows.
  """
  features = _checked(features)
  n = len(features)
  if groups < 2 or n < 2 * groups:
    raise ValueError(f'the jackknife needs at least 2 groups of 2 rows, got {groups} groups and '
                     f'{n} rows; use fewer groups or more samples.')
  whole = statistics(features)
  value = frechet_distance(whole, reference)
  left_out = np.array([
    frechet_distance(_without(whole, features[g::groups]), reference) for g in range(groups)])
  centre = left_out.mean()
  error = math.sqrt((groups - 1) / groups * np.square(left_out - centre).sum())
  return Estimate(value, error, float(groups * value - (groups - 1) * centre), n, reference.n)


def _without(whole, group):
  """Statistics of all rows but `group`'s, from the group's sums: the others are not read again."""
  total, scatter = _sums(group, whole.mean)
  n = whole.n - len(group)
  delta = -total / n  # deviations from the whole mean sum to zero over all rows
  scatter = (whole.n - 1) * whole.cov - scatter - n * np.outer(delta, delta)
  return Statistics(n, whole.mean + delta, scatter / (n - 1))


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


def _checked(features):
  features = np.asarray(features)
  if features.ndim != 2 or len(features) < 2:
    raise ValueError(f'features must be [n, d] with n >= 2, got shape {features.shape}.')
  bad = sum(int((~np.isfinite(b).all(1)).sum()) for b in _blocks(features))
  if bad:
    raise ValueError(f'features must be finite, got {bad} rows of {len(features)} that are not; '
                     'count non-finite samples before extracting features.')
  return features


def _blocks(features):
  return (features[i:i + BLOCK] for i in range(0, len(features), BLOCK))


def _sums(features, centre):
  """(Σ (x - c) [d], Σ (x - c)(x - c)ᵀ [d, d]) in float64."""
  total, scatter = np.zeros(len(centre)), np.zeros((len(centre),) * 2)
  for block in _blocks(features):
    block = block.astype(np.float64) - centre
    total += block.sum(0)
    scatter += block.T @ block
  return total, scatter
