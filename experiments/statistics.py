"""What a few seeds say of a difference: a bootstrap interval, sign test, and Student's t-test."""
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


def t_test(moments):
  """Two-sided p of Student's t-test of a mean against 0, of `metrics.Moments` of n >= 2 values."""
  from scipy import special
  if not moments.sem:
    return float(moments.mean == 0)
  return float(2 * special.stdtr(moments.count - 1, -abs(moments.mean) / moments.sem))


def student_quantile(freedom, level):
  """t with P(|T| <= t) = `level` of Student's law of `freedom` degrees."""
  from scipy import special
  return float(special.stdtrit(freedom, (1 + level) / 2))
