"""What a few seeds say of a difference: a bootstrap interval and an exact sign test."""
import math

import numpy as np


def bootstrap_interval(values, level=.95, draws=10_000):
  """(low, high): percentile interval of the mean of `values` [n], resampled with a fixed seed.

  Efron and Tibshirani (1993), chapter 13. With few seeds it is too short, and says so by its n
  only: read it beside the sign test.
  """
  values = np.asarray(values, np.float64)
  picked = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
  means = values[picked].mean(1)
  return tuple(float(q) for q in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


def sign_test(values):
  """Two-sided p of as uneven a split into signs under P(positive) = 1/2; zeros are left out."""
  values = np.asarray(values, np.float64)
  n, fewer = int((values != 0).sum()), int(min((values > 0).sum(), (values < 0).sum()))
  return min(1., 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def student_quantile(freedom, level):
  """t with P(|T| <= t) = `level` of Student's law, of a whole number of degrees of freedom."""
  low, high = 0., 1.
  while _within(high, freedom) < level:
    high *= 2
  for _ in range(80):
    middle = (low + high) / 2
    low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
  return high


def _within(t, freedom):
  """P(|T| <= t): Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
  angle = math.atan(t / math.sqrt(freedom))
  sine, cosine = math.sin(angle), math.cos(angle)
  odd = freedom % 2
  term, total = (cosine if odd else 1.), 0.
  for k in range(freedom // 2):
    total += term
    term *= cosine ** 2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
  return (2 / math.pi) * (angle + sine * total) if odd else sine * total
