"""MMD² against its definition, its expectation, and the spread of repeated draws."""
import math

import numpy as np
import pytest

from mollification.evaluation import mmd


def gaussian(seed, n, shift=0., d=3):
  return np.random.default_rng(seed).normal(size=(n, d)) + shift


def brute_force(x, y, bandwidths):
  """The U-statistic and its delete-one jackknife, one pair and one deletion at a time."""

  def kernel(a, b):
    squared = np.square(a[:, None] - b[None]).sum(-1)
    return np.mean([np.exp(-squared / (2 * s * s)) for s in bandwidths], axis=0)

  def value(x, y):
    own = [k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y))]
    n, m = len(x), len(y)
    return own[0] / (n * (n - 1)) + own[1] / (m * (m - 1)) - 2 * kernel(x, y).mean()

  variance = 0
  for i_x in (True, False):
    rows = x if i_x else y
    deleted = [np.delete(rows, i, 0) for i in range(len(rows))]
    values = np.array([value(r, y) if i_x else value(x, r) for r in deleted])
    variance += (len(rows) - 1) * values.var()
  return value(x, y), math.sqrt(variance)


@pytest.mark.parametrize('block', [4, 1024])
def test_equals_brute_force(monkeypatch, block):
  monkeypatch.setattr(mmd, 'BLOCK', block)
  x, y = gaussian(0, 13, .7) + 100, gaussian(1, 10) + 100
  reference = mmd.reference(y, bandwidths=(.5, 2.))
  result = mmd.mmd2(x, reference)
  np.testing.assert_allclose(
    (result.value, result.standard_error), brute_force(x, y, (.5, 2.)), rtol=1e-10)
  assert (result.n, result.n_reference) == (13, 10)


def test_zero_in_expectation_for_equal_distributions():
  draws = [mmd.mmd2(gaussian(i, 40), mmd.reference(gaussian(1000 + i, 50), bandwidths=1.))
           for i in range(400)]
  values = np.array([d.value for d in draws])
  assert abs(values.mean()) < 4 * values.std(ddof=1) / math.sqrt(len(values))
  assert values.min() < 0  # unbiased, hence not clamped


def test_closed_form_in_expectation_for_shifted_gaussians():
  # E k(x, y) = (s²/(s² + 2))^(d/2) exp(-|shift|² / (2 (s² + 2))) for unit variances.
  shift, s2 = 1., 4.
  factor = (s2 / (s2 + 2)) ** 1.5
  expected = 2 * factor * (1 - math.exp(-3 * shift ** 2 / (2 * (s2 + 2))))
  draws = [mmd.mmd2(gaussian(i, 60, shift), mmd.reference(gaussian(1000 + i, 60), bandwidths=2.))
           for i in range(200)]
  values = np.array([d.value for d in draws])
  errors = np.array([d.standard_error for d in draws])
  assert values.mean() == pytest.approx(expected, abs=4 * values.std() / math.sqrt(200))
  assert errors.mean() == pytest.approx(values.std(ddof=1), rel=.2)
  covered = (np.abs(values - expected) < 1.96 * errors).mean()
  assert .9 < covered < .99


def test_jackknife_is_conservative_for_equal_distributions():
  draws = [mmd.mmd2(gaussian(i, 40), mmd.reference(gaussian(1000 + i, 40), bandwidths=1.))
           for i in range(300)]
  spread = np.std([d.value for d in draws], ddof=1)
  error = math.sqrt(np.mean([d.standard_error ** 2 for d in draws]))
  assert .95 * spread < error < 1.15 * math.sqrt(2) * spread


def test_bandwidths_follow_the_reference_alone():
  y = gaussian(0, 300)
  pairs = np.square(y[:, None] - y[None]).sum(-1)[np.triu_indices(300, 1)]
  median = math.sqrt(np.median(pairs))
  assert mmd.median_bandwidth(y) == pytest.approx(median, rel=1e-12)
  reference = mmd.reference(y, multiples=(.5, 2.))
  assert reference.bandwidths == pytest.approx((.5 * median, 2 * median))
  assert len(mmd.reference(y).bandwidths) == len(mmd.MULTIPLES)


def test_median_of_a_large_reference_uses_a_part(monkeypatch):
  y = gaussian(0, 3000)
  exact = mmd.median_bandwidth(y[:2000])
  assert mmd.median_bandwidth(y) == pytest.approx(exact, rel=.02)
  shapes, full = [], mmd._squared_distances
  monkeypatch.setattr(mmd, '_squared_distances',
                      lambda a, b: shapes.append((len(a), len(b))) or full(a, b))
  mmd.mmd2(gaussian(1, 2500), mmd.reference(y))
  assert max(a * b for a, b in shapes) <= 2000 ** 2 < 2500 ** 2


def test_uint8_images_are_rows():
  images = np.random.default_rng(0).integers(0, 17, (20, 4, 4, 1), dtype=np.uint8)
  flat = images.reshape(20, -1).astype(np.float64)
  a = mmd.mmd2(images[:8], mmd.reference(images[8:]))
  b = mmd.mmd2(flat[:8], mmd.reference(flat[8:]))
  assert a == b


def test_refusals():
  y = gaussian(0, 10)
  with pytest.raises(ValueError, match='at least 3 rows'):
    mmd.mmd2(y[:2], mmd.reference(y))
  with pytest.raises(ValueError, match='got 1 that are not'):
    mmd.mmd2(np.where(np.arange(10)[:, None] == 4, np.nan, y), mmd.reference(y))
  with pytest.raises(ValueError, match='the 3 entries of the reference, got 2'):
    mmd.mmd2(y[:, :2], mmd.reference(y))
  with pytest.raises(ValueError, match='median distance must be positive'):
    mmd.reference(np.zeros((10, 2)))
  with pytest.raises(ValueError, match='bandwidths must be positive'):
    mmd.reference(y, bandwidths=(1., 0.))
