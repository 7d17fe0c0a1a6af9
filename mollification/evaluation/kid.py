"""Kernel Inception distance: the squared MMD with a cubic kernel, unbiased, in float64.

In blocks, so that memory does not grow with the sets, which may be mapped from files.
"""
from typing import NamedTuple

import numpy as np

from mollification.evaluation import mmd

SUBSETS, SUBSET_SIZE = 100, 1000


class Subsets(NamedTuple):
  """Mean and standard deviation (divisor: their number) of the distance over random subsets."""
  mean: float
  deviation: float


def kernel(x, y):
  """(x · y / d + 1)³ of rows [N, d] and [M, d]: [N, M] (Bińkowski et al. 2018, 1801.01401)."""
  base = x @ y.T
  base /= x.shape[1]
  base += 1
  cube = base * base   # `** 3` is NumPy's pow, which takes longer than all of this
  cube *= base
  return cube


def own_sums(y):
  """Σ_{j≠i} k(y_i, y_j) [M] of features y [M, d]: a reference's part of every distance to it."""
  return mmd.own_sums(y, kernel)


def kid(x, y, y_sums=None):
  """`mmd.Estimate` between all of features x [N, d] and y [M, d], N, M >= 3.

  The full U-statistic, so no draw of subsets is part of the figure; the standard error is the
  jackknife's over both sets. May be negative. `y_sums` are `own_sums(y)` where they are known.
  Raises ValueError as `mmd.mmd2` does.
  """
  for rows in (x, y):
    mmd.check_rows(rows)
  if x.shape[1:] != y.shape[1:]:
    raise ValueError(f'both sets must have the same features, got {x.shape[1]} and {y.shape[1]}.')
  return mmd.from_sums(own_sums(x), own_sums(y) if y_sums is None else y_sums,
                       *mmd.cross_sums(x, y, kernel))


def kid_subsets(x, y, *, subsets=SUBSETS, size=SUBSET_SIZE, seed=0):
  """`Subsets` of the protocol in print: the distance over 100 pairs of subsets of 1000 rows each.

  Drawn without replacement within a subset. The deviation is one of subsets, not the error of the
  mean. Raises ValueError where a set has fewer than `size` rows.
  """
  if min(len(x), len(y)) < size:
    raise ValueError(f'subsets of {size} rows need as many, got {len(x)} and {len(y)}; use kid, '
                     'which takes all rows, or a smaller size.')
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(subsets):
    a, b = (rows[np.sort(rng.choice(len(rows), size, replace=False))] for rows in (x, y))
    values.append(kid(a, b).value)
  return Subsets(float(np.mean(values)), float(np.std(values)))
