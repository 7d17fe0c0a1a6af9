"""Data of known intrinsic dimension: the dimension, the distance, the scale, the splits."""
import numpy as np
import pytest

from mollification import data
from mollification.data import manifold

LAWS = [manifold.Manifold(2, 7), manifold.Manifold(3, 6, curvature=1.),
        manifold.Manifold(1, 2, curvature=.5), manifold.Manifold(4, 4, curvature=1.)]


def _draw(law, n=20_000, seed=0):
  return law.sample(np.random.default_rng(seed), n)


@pytest.mark.parametrize('law', LAWS)
def test_a_neighbourhood_has_the_intrinsic_dimension(law):
  """Of a manifold's points near one of them all variance but a sliver lies in d directions."""
  x = _draw(law, 200_000).astype(np.float64)
  near = x[np.argsort(np.linalg.norm(x - x[0], axis=1))[:50]]
  variance = np.linalg.svd(near - near.mean(0), compute_uv=False) ** 2
  assert variance[law.intrinsic - 1] > .01 * variance[0]
  assert variance[law.intrinsic:].sum() < (2e-2 if law.curvature else 1e-10) * variance[0]


@pytest.mark.parametrize('law', LAWS)
def test_coordinates_have_no_mean_unit_variance_on_average_and_two_modes(law):
  x = _draw(law)
  np.testing.assert_allclose(x.mean(0), 0, atol=.05)   # 4 standard errors or more
  assert x.var(0).mean() == pytest.approx(1, abs=.03)
  u = (x @ law._arrays[0])[:, 0] / law._scale
  counts = np.histogram(u, [-1.1, -.7, -.2, .2, .7, 1.1])[0]
  assert counts[1] > 2 * counts[2] < counts[3]


@pytest.mark.parametrize('law', LAWS)
def test_distance_is_0_on_it_and_that_of_a_step_off_the_plane(law):
  x = _draw(law, 100)
  assert law.distance(x).max() < 1e-5
  if law.intrinsic == law.ambient:
    return
  normal = law._arrays[0][:, law.intrinsic]
  np.testing.assert_allclose(law.distance(x + .3 * normal), .3, atol=1e-5)
  plane = manifold.Manifold(law.intrinsic, law.ambient)
  y = np.random.default_rng(1).normal(size=(50, law.ambient))
  basis = plane._arrays[0][:, :law.intrinsic]
  np.testing.assert_allclose(plane.distance(y), np.linalg.norm(y - y @ basis @ basis.T, axis=1))


def test_noise_is_added_in_all_directions():
  quiet, noisy = manifold.Manifold(2, 5, .5), manifold.Manifold(2, 5, .5, noise=.1)
  difference = _draw(noisy) - _draw(quiet)
  np.testing.assert_allclose(np.cov(difference.T), .01 * np.eye(5), atol=5e-4)
  assert np.sqrt((noisy.distance(_draw(noisy)) ** 2).mean()) > .1


def test_the_data_set_by_name():
  small = dict(num_train=30, num_validation=20, num_test=10)
  options = dict(intrinsic=3, ambient=9, curvature=.5, **small)
  found = data.load('manifold', **options)
  assert data.spec('manifold', ambient=9)[0] == found.event_shape == (9,)
  assert data.spec('manifold')[0] == data.load('manifold', **small).event_shape
  assert [s.num_examples for s in (found.train, found.validation, found.test)] == [30, 20, 10]
  assert len(np.unique(np.concatenate([found.train.x, found.validation.x, found.test.x]))) == 540
  again = data.load('manifold', **options)
  np.testing.assert_array_equal(found.train.x, again.train.x)
  assert found.density == manifold.Manifold(3, 9, .5)
  assert (data.load('manifold', seed=1, **options).train.x != found.train.x).all()


@pytest.mark.parametrize('options, message', [
  (dict(intrinsic=17), r'intrinsic must be in \[1, ambient 16\], got 17'),
  (dict(intrinsic=1, ambient=1), 'ambient must be at least 2, got 1'),
  (dict(curvature=-1.), 'curvature must be non-negative, got -1'),
  (dict(noise=-.1), 'noise must be non-negative, got -0.1'),
  (dict(num_test=0), 'num_test must be positive, got 0')])
def test_what_cannot_be_drawn(options, message):
  with pytest.raises(ValueError, match=message):
    data.load('manifold', **options)
