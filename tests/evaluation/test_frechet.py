"""Fréchet distances where the answer is known, and the coverage of the jackknife."""
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from mollification.evaluation import frechet, moments
from mollification.evaluation.frechet import Statistics

pytestmark = pytest.mark.filterwarnings(
  'ignore::mollification.evaluation.frechet.FewSamples')


def rotation(rng, d):
  return np.linalg.qr(rng.normal(size=(d, d)))[0]


def commuting(values_a, values_b, seed=0):
  """Statistics with covariances of one eigenbasis, and their distance Σ (√a - √b)² + |Δ|²."""
  rng = np.random.default_rng(seed)
  d = len(values_a)
  basis, means = rotation(rng, d), rng.normal(size=(2, d))
  a, b = (Statistics(10 * d, mean, _symmetric((basis * values) @ basis.T))
          for mean, values in zip(means, (values_a, values_b)))
  exact = np.square(np.sqrt(values_a) - np.sqrt(values_b)).sum()
  return a, b, exact + np.square(means[0] - means[1]).sum()


def _symmetric(a):
  return (a + a.T) / 2


def statistics(x):
  return moments.of(x).statistics()


def estimate(x, reference, groups=frechet.GROUPS):
  return frechet.jackknife(moments.of(x, groups), reference)


def draw(seed, n, d, scale=1., shift=0.):
  return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


@pytest.mark.parametrize('condition', [1e2, 1e4, 1e8])
def test_commuting_gaussians_are_exact(condition):
  rng = np.random.default_rng(1)
  values = [condition ** -rng.uniform(size=64) for _ in range(2)]
  a, b, exact = commuting(*values)
  assert frechet.frechet_distance(a, b) == pytest.approx(exact, rel=1e-10)


def test_rank_deficient_covariances_are_exact():
  rng = np.random.default_rng(2)
  values = [rng.uniform(.5, 2, 64) for _ in range(2)]
  values[0][20:] = 0
  values[1][:10] = values[1][40:] = 0
  a, b, exact = commuting(*values)
  assert a.factor.shape == (64, 20)
  assert frechet.frechet_distance(a, b) == pytest.approx(exact, rel=1e-10)
  # The overlap of equal singular sets is where a matrix square root leaves 1e-6.
  assert frechet.frechet_distance(a, a) < 1e-9


def test_singular_covariances_that_pass_cholesky_by_rounding():
  passed = 0
  for seed in range(40):
    values = np.linspace(.5, 2, 8)
    values[0] = 0
    a, b, exact = commuting(values, np.ones(8), seed)
    try:
      np.linalg.cholesky(a.cov)
      passed += 1
    except np.linalg.LinAlgError:
      pass
    assert a.factor.shape == (8, 7)
    assert frechet.frechet_distance(a, b) == pytest.approx(exact, rel=1e-12)
  assert 0 < passed < 40


@pytest.mark.parametrize(('n', 'd'), [(10, 40), (40, 40), (41, 40), (1500, 7), (2, 3)])
def test_identical_features_have_distance_zero(n, d):
  s = statistics(draw(0, n, d, scale=100., shift=300.))
  spread = np.trace(s.cov)
  assert frechet.frechet_distance(s, s) < 1e-9 * spread
  other = statistics(draw(0, n, d, scale=100., shift=300.))
  assert frechet.frechet_distance(s, other) < 1e-9 * spread


def test_fewer_rows_than_features_agrees_with_the_covariance_alone():
  a, b = statistics(draw(0, 20, 50)), statistics(draw(1, 30, 50, 2.))
  assert a.factor.shape == (50, 20)
  plain = Statistics(a.n, a.mean, a.cov)
  assert plain.factor.shape == (50, 19)
  np.testing.assert_allclose(a.factor @ a.factor.T, a.cov, atol=1e-12)
  assert frechet.frechet_distance(plain, b) == pytest.approx(
    frechet.frechet_distance(a, b), rel=1e-10)


def test_closed_form_in_one_dimension():
  a = Statistics(5, np.array([1.]), np.array([[4.]]))
  b = Statistics(9, np.array([-2.]), np.array([[.25]]))
  assert frechet.frechet_distance(a, b) == pytest.approx(9 + 1.5 ** 2, rel=1e-14)


def test_shift_alone_is_the_squared_distance_of_means():
  x = draw(0, 500, 8).astype(np.float64)
  shift = np.arange(8.)
  a, b = statistics(x), statistics(x + shift)
  assert frechet.frechet_distance(a, b) == pytest.approx(np.square(shift).sum(), rel=1e-12)


def test_symmetric_and_invariant_under_rotation():
  x, y = draw(0, 300, 16), draw(1, 200, 16, 1.5, .2)
  a, b = statistics(x), statistics(y)
  value = frechet.frechet_distance(a, b)
  assert frechet.frechet_distance(b, a) == pytest.approx(value, rel=1e-12)
  q = rotation(np.random.default_rng(2), 16)
  rotated = [statistics(v.astype(np.float64) @ q) for v in (x, y)]
  assert frechet.frechet_distance(*rotated) == pytest.approx(value, rel=1e-10)


def test_agrees_with_eigenvalues_and_sqrtm_where_well_conditioned():
  a, b = statistics(draw(0, 400, 12)), statistics(draw(1, 400, 12, 2., 1.))
  base = np.square(a.mean - b.mean).sum() + np.trace(a.cov) + np.trace(b.cov)
  product = a.cov @ b.cov
  by_eigenvalues = base - 2 * np.sqrt(scipy.linalg.eigvals(product)).real.sum()
  by_root = base - 2 * np.trace(scipy.linalg.sqrtm(product)).real
  value = frechet.frechet_distance(a, b)
  assert value == pytest.approx(by_eigenvalues, rel=1e-10)
  assert value == pytest.approx(by_root, rel=1e-10)


def test_extrapolation_removes_the_bias():
  d, scale = 20, 1.4
  reference = Statistics(10 ** 6, np.zeros(d), np.eye(d))
  true = d * (scale - 1) ** 2
  pairs = []
  for seed in range(60):
    m = moments.of(draw(seed, 1000, d, scale), frechet.GROUPS)
    pairs.append((frechet.frechet_distance(m.statistics(), reference),
                  frechet.extrapolated(m, reference)))
  raw, infinite = np.mean(pairs, 0) - true
  assert raw > .1
  assert abs(infinite) < .35 * raw


def test_extrapolation_is_the_intercept_of_a_line():
  x, reference = draw(0, 400, 4, 1.5), statistics(draw(1, 300, 4))
  groups = np.arange(400) % 20
  sizes, values = [], []
  for k in range(5, 21):
    part = x[groups < k]
    sizes.append(len(part))
    values.append(frechet.frechet_distance(statistics(part), reference))
  expected = scipy.stats.linregress(1 / np.array(sizes), values).intercept
  assert frechet.extrapolated(moments.of(x, 20), reference) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(('n', 'd'), [(207, 5), (64, 90)])
def test_jackknife_equals_leaving_out_from_scratch(n, d):
  x, reference = draw(0, n, d, 1.3, 20.), statistics(draw(1, 300, d, 1., 20.))
  result = estimate(x, reference, groups=10)
  value = frechet.frechet_distance(statistics(x), reference)
  left_out = np.array([
    frechet.frechet_distance(
      statistics(x[np.arange(n) % 10 != g]), reference) for g in range(10)])
  assert result.value == value
  assert result.standard_error == pytest.approx(
    math.sqrt(.9 * np.square(left_out - left_out.mean()).sum()), rel=1e-7)
  assert result.bias_corrected == pytest.approx(10 * value - 9 * left_out.mean(), rel=1e-8)
  assert (result.n, result.n_reference) == (n, 300)
  left = moments.of(x, 10).without(3)   # few rows are their own factor
  assert left.factor.shape == ((d, n - len(x[3::10])) if n <= d else (d, d))


def test_progress_over_all_distances_of_an_error_bar():
  x, reference, done = draw(0, 90, 3), statistics(draw(1, 90, 3)), []
  for groups, count in ((20, 35), (5, 5)):
    done.clear()
    m = moments.of(x, groups)
    value = frechet.jackknife(m, reference, done.append).value
    if groups >= 8:
      assert frechet.extrapolated(m, reference, whole=value, progress=done.append) == \
        pytest.approx(frechet.extrapolated(m, reference), rel=1e-12)
    assert sum(done) == frechet.distances_of(groups) == count


def test_jackknife_covers_the_true_distance():
  d, scale = 6, 1.4
  reference = Statistics(10 ** 6, np.zeros(d), np.eye(d))
  true = d * (scale - 1) ** 2
  results = [estimate(draw(i, 200, d, scale), reference) for i in range(100)]
  raw = np.array([r.value for r in results])
  corrected = np.array([r.bias_corrected for r in results])
  errors = np.array([r.standard_error for r in results])
  assert abs(corrected.mean() - true) < .35 * (raw.mean() - true)
  assert errors.mean() == pytest.approx(corrected.std(ddof=1), rel=.2)
  covered = (np.abs(corrected - true) < 2.09 * errors).mean()  # t quantile of 19 groups
  assert .88 <= covered <= 1


def test_refusals():
  x = draw(0, 50, 3)
  reference = statistics(x)
  with pytest.raises(ValueError, match='at least 2 feature vectors, got 1'):
    statistics(x[:1])
  with pytest.raises(ValueError, match='got 1 rows of 50'):
    statistics(np.where(np.arange(50)[:, None] == 3, np.inf, x))
  with pytest.raises(ValueError, match='same features, got 2 and 3'):
    frechet.frechet_distance(statistics(x[:, :2]), reference)
  with pytest.raises(ValueError, match='8 groups of 2 rows, got 5 groups'):
    frechet.extrapolated(moments.of(x, 5), reference)
  with pytest.raises(ValueError, match='20 groups and 39 rows'):
    estimate(x[:39], reference)
  with pytest.raises(ValueError, match='at least 2 feature vectors, got 1'):
    Statistics(1, np.zeros(2), np.eye(2))
  with pytest.raises(ValueError, match='statistics must be finite'):
    Statistics(5, np.zeros(2), np.full((2, 2), np.nan))
  with pytest.raises(ValueError, match='mean \\[d\\] and a covariance'):
    Statistics(5, np.zeros(3), np.eye(2))


@pytest.mark.filterwarnings('error')
def test_too_few_samples_are_said():
  many, few = statistics(draw(0, 50, 6)), statistics(draw(1, 6, 6))
  frechet.frechet_distance(many, Statistics(None, many.mean, many.cov))
  for pair in ((many, few), (few, many)):
    with pytest.warns(frechet.FewSamples, match='^6 samples for 6 features: the covariance'):
      frechet.frechet_distance(*pair)
  with pytest.warns(frechet.FewSamples) as caught:
    estimate(draw(0, 40, 60), statistics(draw(1, 70, 60)))
  assert len(caught) == 1   # not of each group


def test_a_negative_distance_beyond_rounding_is_an_error():
  s = Statistics(50, np.zeros(2), np.eye(2))
  broken = Statistics(50, np.zeros(2), np.diag([1., -1e-3]))
  with pytest.raises(ArithmeticError, match='not positive semi-definite'):
    frechet.frechet_distance(broken, Statistics(50, np.zeros(2), np.diag([1., 0.])))
  assert frechet.frechet_distance(s, s) == 0
