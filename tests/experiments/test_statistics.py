"""Bootstrap intervals and the sign test against what they are by hand."""
import numpy as np
import pytest

from experiments import statistics


@pytest.mark.parametrize('values, p', [
  ([1, 1, 1, 1], .125), ([-1, -2, -3, -4], .125), ([1, 1, 1, -1], .625), ([0, 0, 1, 1], .5),
  ([1, -1], 1.), ([0, 0], 1.)])
def test_the_sign_test_counts_splits_as_uneven(values, p):
  """Of 16 ways for four signs 2 are all alike, 10 have one other at most; zeros are left out."""
  assert statistics.sign_test(values) == pytest.approx(p)


def test_bootstrap_intervals_of_many_values_are_those_of_the_normal_law():
  values = np.random.default_rng(1).normal(3., 2., 2_000)
  low, high = statistics.bootstrap_interval(values)
  half = 1.96 * values.std() / len(values)**.5
  assert low == pytest.approx(values.mean() - half, abs=.05 * half)
  assert high == pytest.approx(values.mean() + half, abs=.05 * half)
  assert statistics.bootstrap_interval([2., 2., 2.]) == (2., 2.)
  narrow = statistics.bootstrap_interval(values, level=.5)
  assert narrow[0] > low
  assert narrow[1] < high


def test_quantiles_are_students():
  """Of one degree of freedom Cauchy's, tan(pi level / 2); of many the normal law's."""
  assert statistics.student_quantile(1, .95) == pytest.approx(np.tan(np.pi * .475))
  assert statistics.student_quantile(3, .95) == pytest.approx(3.182446, abs=1e-6)
  assert statistics.student_quantile(10**7, .95) == pytest.approx(1.959964, abs=1e-5)
