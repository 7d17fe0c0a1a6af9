"""KID, inception score, precision and recall, copies: against definitions written out."""
import tracemalloc

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special

from mollification.evaluation import inception_score, kid, neighbours


def draw(n, d=6, scale=1., shift=0., seed=0):
  return (np.random.default_rng(seed).normal(size=(n, d)) * scale + shift).astype(np.float32)


# --- KID ----------------------------------------------------------------------------------------

def kid_by_loops(x, y):
  def k(a, b):
    return (float(a.astype(np.float64) @ b.astype(np.float64)) / len(a) + 1) ** 3

  n, m = len(x), len(y)
  own = [np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j])
         for a in (x, y)]
  return sum(own) - 2 * np.mean([k(x[i], y[j]) for i in range(n) for j in range(m)])


def test_kid_is_its_definition(monkeypatch):
  x, y = draw(13), draw(17, shift=.5, seed=1)
  expected = kid_by_loops(x, y)
  assert kid.kid(x, y).value == pytest.approx(expected, rel=1e-10)
  monkeypatch.setattr(kid.mmd, 'BLOCK', 4)
  assert kid.kid(x, y).value == pytest.approx(expected, rel=1e-10)
  assert (kid.kid(x, y).n, kid.kid(x, y).n_reference) == (13, 17)
  assert kid.kid(x, y, kid.own_sums(y)) == kid.kid(x, y)
  assert kid.kid(x, y, np.zeros(17)).value < expected


def test_kid_makes_no_copy_of_what_is_mapped(tmp_path, monkeypatch):
  x = draw(2000, 1000)
  x.tofile(tmp_path / 'x')
  x = np.memmap(tmp_path / 'x', np.float32, 'r', shape=x.shape)
  monkeypatch.setattr(kid.mmd, 'BLOCK', 100)
  tracemalloc.start()
  kid.kid(x[:1200], x[1200:])
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < x.nbytes / 2


def test_kid_is_unbiased_and_its_error_covers():
  same = [kid.kid(draw(60, seed=2 * s), draw(60, seed=2 * s + 1)) for s in range(80)]
  values = np.array([e.value for e in same])
  assert abs(values.mean()) < 4 * values.std() / len(values) ** .5
  assert (values < 0).any()
  other = [kid.kid(draw(150, scale=1.5, seed=2 * s), draw(150, seed=2 * s + 1)) for s in range(40)]
  spread = np.std([e.value for e in other])
  assert np.mean([e.standard_error for e in other]) == pytest.approx(spread, rel=.35)


def test_kid_subsets():
  x, y = draw(60, scale=1.5), draw(60, seed=1)
  whole = kid.kid_subsets(x, y, subsets=2, size=60)
  assert whole.mean == pytest.approx(kid.kid(x, y).value, rel=1e-9)
  assert whole.deviation < 1e-9
  some = kid.kid_subsets(x, y, subsets=50, size=30)
  assert some == kid.kid_subsets(x, y, subsets=50, size=30)
  assert some != kid.kid_subsets(x, y, subsets=50, size=30, seed=1)
  assert some.mean == pytest.approx(whole.mean, rel=.2)
  assert some.deviation > 0
  with pytest.raises(ValueError, match='subsets of 61 rows need as many, got 60 and 60'):
    kid.kid_subsets(x, y, size=61)
  with pytest.raises(ValueError, match='same features, got 6 and 5'):
    kid.kid(x, y[:, :5])


# --- Inception score ----------------------------------------------------------------------------

@pytest.mark.parametrize('pieces', [1, 7, 1000])
def test_inception_score_is_its_definition(pieces):
  logits = draw(103, 5, 3.)
  score = inception_score.InceptionScore(103)
  for start in range(0, 103, pieces):
    score.add(logits[start:start + pieces])
  expected = []
  for s in range(10):
    p = scipy.special.softmax(logits[s * 103 // 10:(s + 1) * 103 // 10].astype(np.float64), axis=1)
    divergence = scipy.special.rel_entr(p, p.mean(0, keepdims=True)).sum(1).mean()
    expected.append(np.exp(divergence))
  found = score.score()
  assert found.mean == pytest.approx(np.mean(expected), rel=1e-12)
  assert found.deviation == pytest.approx(np.std(expected), rel=1e-10)


def test_inception_score_at_its_ends():
  sure = np.full((40, 4), -1e4)
  sure[np.arange(40), np.arange(40) % 4] = 1e4
  assert inception_score.InceptionScore(40, 1).add(sure).score().mean == pytest.approx(4)
  assert inception_score.InceptionScore(40).add(np.ones((40, 4))).score() == (1, 0)
  with pytest.raises(ValueError, match='10 splits needs as many samples, got 9'):
    inception_score.InceptionScore(9)
  with pytest.raises(ValueError, match='40 samples were announced, got 80'):
    inception_score.InceptionScore(40).add(sure).add(sure)
  with pytest.raises(ValueError, match='40 samples were announced, got 39'):
    inception_score.InceptionScore(40).add(sure[1:]).score()


# --- Neighbours ---------------------------------------------------------------------------------

@pytest.fixture(params=[5, 2048])
def blocks(request, monkeypatch):
  monkeypatch.setattr(neighbours, 'BLOCK', request.param)


@pytest.mark.usefixtures('blocks')
def test_nearest_and_radii():
  x, y = draw(23, shift=1e3), draw(31, shift=1e3, seed=1)
  cross, own = (scipy.spatial.distance.cdist(a.astype(np.float64), b.astype(np.float64))
                for a, b in ((x, y), (x, x)))
  distances, indices = neighbours.nearest(x, y)
  np.testing.assert_array_equal(indices, cross.argmin(1))
  np.testing.assert_allclose(distances, cross.min(1), rtol=1e-8)
  for ks in ((1,), (3,), (3, 1)):
    np.testing.assert_allclose(neighbours.radii(x, *ks), np.sort(own, 1)[:, ks].T, rtol=1e-8)


@pytest.mark.usefixtures('blocks')
def test_manifolds_are_their_definitions():
  x, y = draw(40, 3, 1.2), draw(50, 3, seed=1)
  cross = scipy.spatial.distance.cdist(x.astype(np.float64), y.astype(np.float64))

  def radius(a, k):
    return np.sort(scipy.spatial.distance.cdist(a.astype(np.float64), a.astype(np.float64)))[:, k]

  found = neighbours.manifolds(x, y)
  assert found.precision == np.mean((cross <= radius(y, 3)[None]).any(1))
  assert found.recall == np.mean((cross <= radius(x, 3)[:, None]).any(0))
  within = cross <= radius(y, 5)[None]
  assert found.density == pytest.approx(within.sum() / 5 / 40)
  assert found.coverage == np.mean(within.any(0))
  assert 0 < found.recall != found.precision < 1
  assert (found.n, found.n_reference) == (40, 50)
  assert neighbours.manifolds(x, y, balls=neighbours.squared_radii(y, 3, 5)) == found
  assert neighbours.manifolds(x, y, balls=np.zeros((2, 50))).precision == 0


def test_manifolds_of_equal_and_of_distant_sets():
  x = draw(30)
  same = neighbours.manifolds(x, x)
  assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
  apart = neighbours.manifolds(x, draw(30, shift=100., seed=1))
  assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
  few = neighbours.manifolds(draw(100, scale=.1), draw(100, seed=1))
  assert few.precision > .9
  assert few.recall < .3


def test_an_edge_is_within():
  """Of a set against itself every ball holds its own k neighbours, and its centre."""
  x = np.random.default_rng(3).normal(size=(200, 64)).astype(np.float32)
  assert neighbours.manifolds(x, x, k=3, k_density=5).density == 6 / 5
  same = neighbours.manifolds(np.ones((6, 2)), np.ones((6, 2)))   # balls of no radius
  assert (same.precision, same.recall, same.density, same.coverage) == (1, 1, 6 / 5, 1)


@pytest.mark.parametrize('count', [1, 7, 37, 61])
def test_copies_of_reference_rows_are_within_the_balls_that_they_bound(count, monkeypatch):
  """Whichever way their distances were rounded, in products of other shapes."""
  monkeypatch.setattr(neighbours, 'BLOCK', 64)
  x = 10 + np.random.default_rng(4).normal(size=(150, 333)).astype(np.float32)
  samples = np.concatenate([x[:count], np.zeros((8, 333), np.float32)])
  distances = np.square(x[:, None].astype(float) - x[None]).sum(-1)
  within = distances.argsort(axis=1)[:, :6]   # the row itself and its five neighbours
  expected = (within < count).sum() / (5 * len(samples))
  assert neighbours.manifolds(samples, x, k_density=5).density == pytest.approx(expected, rel=1e-12)


def test_copies():
  train, test = draw(400, seed=1), draw(400, seed=2)
  unseen, _ = neighbours.nearest(test, train)
  honest = neighbours.copies(draw(400, seed=3), train, unseen)
  assert honest.near_share < .04
  assert honest.far_share < .04
  copied = neighbours.copies(train[:50], train, unseen)
  assert copied.near_share == 1
  np.testing.assert_array_equal(copied.indices, np.arange(50))
  assert neighbours.copies(draw(50, shift=9.), train, unseen).far_share == 1


def test_refusals():
  with pytest.raises(ValueError, match=r'n >= 6, got \(5, 6\) and \(9, 6\)'):
    neighbours.manifolds(draw(5), draw(9))
  with pytest.raises(ValueError, match='one d'):
    neighbours.nearest(draw(5), draw(5, 3))
  with pytest.raises(ValueError, match=r'unseen must be distances \[T\], got \(9, 6\)'):
    neighbours.copies(draw(5), draw(5), draw(9))
  with pytest.raises(ValueError, match=r'balls must be \[2, 9\].*, got \(2, 8\)'):
    neighbours.manifolds(draw(7), draw(9), balls=np.zeros((2, 8)))
