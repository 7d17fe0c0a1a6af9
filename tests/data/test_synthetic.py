"""Samples, log-densities and scores of the plane must tell one story."""
import math

import numpy as np
import pytest
from scipy import integrate, stats

from mollification import data
from mollification.data import synthetic

EXACT = ('two_gaussians', 'eight_gaussians', 'two_moons', 'checkerboard')
SMOOTH = EXACT[:3]
CELLS = 48


def _cell_probabilities(density, low=-4., high=4., fine=5):
  """Mass of each of CELLS² squares, by the midpoint rule on fine² points in each."""
  edges = np.linspace(low, high, CELLS * fine + 1)
  middle = (edges[1:] + edges[:-1]) / 2
  grid = np.stack(np.meshgrid(middle, middle, indexing='ij'), -1).reshape(-1, 2)
  mass = np.exp(density.log_prob(grid)) * (edges[1] - edges[0])**2
  return mass.reshape(CELLS, fine, CELLS, fine).sum((1, 3))


@pytest.fixture(scope='module', params=EXACT)
def measured(request):
  density = synthetic.DENSITIES[request.param]
  return density, _cell_probabilities(density)


def test_density_integrates_to_one(measured):
  assert measured[1].sum() == pytest.approx(1, abs=1e-9)


def test_samples_follow_the_density(measured):
  """Pearson's χ² over the squares that expect five samples or more, the rest as one."""
  density, cells = measured
  n = 40_000
  x = density.sample(np.random.default_rng(0), n)
  assert x.dtype == np.float32
  counts = np.histogram2d(*x.T, bins=CELLS, range=[[-4, 4]] * 2)[0].ravel()
  expected = n * cells.ravel()
  big = expected >= 5
  counts, expected = ([*a[big], a[~big].sum()] for a in (counts, expected))
  if expected[-1] < 5:
    assert counts[-1] < 20
    counts, expected = counts[:-1], expected[:-1]
  expected = np.array(expected) * sum(counts) / sum(expected)
  assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize('name', SMOOTH)
def test_score_is_the_gradient(name):
  density = synthetic.DENSITIES[name]
  x = np.random.default_rng(1).uniform(-2.5, 2.5, (200, 2))
  h = 1e-5
  gradient = np.stack([(density.log_prob(x + h * e) - density.log_prob(x - h * e)) / (2 * h)
                       for e in np.eye(2)], -1)
  np.testing.assert_allclose(density.score(x), gradient, rtol=1e-5, atol=1e-5)


def test_far_away_nothing_underflows():
  density = synthetic.DENSITIES['two_gaussians']
  x = np.array([[0., 100.]])
  expected = -math.log(2) - 98**2 / (2 * .09) - math.log(2 * math.pi * .09)
  np.testing.assert_allclose(density.log_prob(x), [expected], rtol=1e-12)
  np.testing.assert_allclose(density.score(x), [[0, -98 / .09]], rtol=1e-12)


def test_entropy():
  """Against closed forms: far-apart components add the entropy of the choice."""
  gaussian = lambda sd: math.log(2 * math.pi * math.e * sd**2)
  assert synthetic.Mixture(((1., 2.),), .3).entropy() == pytest.approx(gaussian(.3), abs=1e-10)
  two = synthetic.DENSITIES['two_gaussians'].entropy()
  assert two == pytest.approx(math.log(2) + gaussian(.3), abs=1e-8)
  assert synthetic.DENSITIES['checkerboard'].entropy() == math.log(8)
  for name in ('eight_gaussians', 'two_moons'):
    density = synthetic.DENSITIES[name]
    losses = -density.log_prob(density.sample(np.random.default_rng(2), 20_000))
    assert abs(losses.mean() - density.entropy()) < 5 * losses.std() / math.sqrt(20_000)


@pytest.mark.parametrize('sd', [.05, .1])
def test_moons_quadrature_is_exact(sd):
  """Against adaptive quadrature of the convolution along both arcs."""
  density = synthetic.TwoMoons(sd)
  for x, y in [(.5, -.25), (-.5, .75), (0., 0.), (1.2, -1.), (-1.5, 0.3)]:
    normal = lambda cx, cy: math.exp(-((x - cx)**2 + (y - cy)**2) / (2 * sd**2)) / (
      2 * math.pi * sd**2)
    arcs = lambda t: (normal(math.cos(t) - .5, math.sin(t) - .25)
                      + normal(.5 - math.cos(t), .25 - math.sin(t))) / (2 * math.pi)
    exact = integrate.quad(arcs, 0, math.pi, epsabs=0, epsrel=1e-12, limit=500)[0]
    assert density.log_prob(np.array([[x, y]]))[0] == pytest.approx(math.log(exact), abs=1e-10)


def test_no_sample_of_the_board_leaves_it():
  board = synthetic.DENSITIES['checkerboard']
  assert np.isfinite(board.log_prob(board.sample(np.random.default_rng(0), 300_000))).all()


def test_circle():
  circle = synthetic.DENSITIES['von_mises_circle']
  assert circle.log_prob is None
  assert circle.score is None
  x = circle.sample(np.random.default_rng(0), 50_000)
  np.testing.assert_allclose(circle.distance(x), 0, atol=2e-7)
  np.testing.assert_allclose(circle.distance([[0., 0.], [3., 4.]]), [1, 4])
  angles = np.arctan2(x[:, 1], x[:, 0])
  assert stats.kstest(angles, stats.vonmises(1.).cdf).pvalue > 1e-3
  theta = np.linspace(-np.pi, np.pi, 50)
  points = 2 * np.stack([np.cos(theta), np.sin(theta)], -1)
  np.testing.assert_allclose(circle.log_prob_along(points), stats.vonmises(1.).logpdf(theta),
                             atol=1e-12)


def test_components_are_those_of_the_paper():
  np.testing.assert_array_equal(synthetic.DENSITIES['two_gaussians'].means, [(0, 2), (0, -2)])
  ring = np.array(synthetic.DENSITIES['eight_gaussians'].means)
  assert ring.shape == (8, 2)
  np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 2)
  assert (synthetic.DENSITIES['two_gaussians'].sd, synthetic.DENSITIES['eight_gaussians'].sd) == (
    .3, .2)


def test_load_draws_each_split_from_its_own_stream():
  loaded = data.load('two_moons', num_train=50, num_validation=40, num_test=30, seed=4)
  assert [s.num_examples for s in (loaded.train, loaded.validation, loaded.test)] == [50, 40, 30]
  assert loaded.levels is None
  assert loaded.density is synthetic.DENSITIES['two_moons']
  equal = data.load('two_moons', num_train=50, num_validation=50, num_test=50)
  assert len({s.sha256 for s in (equal.train, equal.validation, equal.test)}) == 3
  more = data.load('two_moons', num_train=99, num_validation=40, num_test=30, seed=4)
  assert more.test.sha256 == loaded.test.sha256
  other = data.load('two_moons', num_train=50, num_validation=40, num_test=30, seed=5)
  assert other.test.sha256 != loaded.test.sha256


def test_load_errors():
  with pytest.raises(ValueError, match=r"no synthetic data set 'moons'; choose one of \['checker"):
    synthetic.load('moons')
  with pytest.raises(ValueError, match='num_test must be positive, got 0'):
    synthetic.load('two_moons', num_test=0)
  with pytest.raises(ValueError, match=r'points must be \[B, 2\]'):
    synthetic.DENSITIES['two_moons'].log_prob(np.zeros(2))
