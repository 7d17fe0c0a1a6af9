"""Accumulated statistics: those of NumPy, and the same bits however the rows arrive."""
import numpy as np
import pytest

from mollification.evaluation import moments


def draw(n, d, shift=50., seed=0):
  return (np.random.default_rng(seed).normal(size=(n, d)) * 2 + shift).astype(np.float32)


def in_pieces(x, sizes, groups=0):
  result, start = moments.Moments(groups), 0
  while start < len(x):
    for size in sizes:
      result.add(x[start:start + size])
      start += size
  return result


def same_bits(a, b):
  assert a.n == b.n
  np.testing.assert_array_equal(a.mean, b.mean)
  np.testing.assert_array_equal(a.cov, b.cov)


@pytest.mark.parametrize('n', [2, 3, 1024, 1025, 7000])
@pytest.mark.parametrize('shift', [0., 1e3])
def test_statistics_are_numpys(n, shift):
  x = draw(n, 5, shift)
  s = moments.of(x).statistics()
  np.testing.assert_allclose(s.mean, x.astype(np.float64).mean(0), rtol=1e-13)
  np.testing.assert_allclose(s.cov, np.cov(x.astype(np.float64), rowvar=False), atol=1e-11)
  assert (s.centred is None) == (n > 5)


def test_large_means_lose_no_digits():
  x = draw(3000, 3, 1e6).astype(np.float64)
  expected = np.cov(x, rowvar=False)
  np.testing.assert_allclose(moments.of(x).statistics().cov, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('sizes', [(1,), (7,), (64,), (1024,), (5120,), (1, 6000, 3)])
@pytest.mark.parametrize('groups', [0, 20])
def test_the_same_bits_however_the_rows_arrive(sizes, groups):
  x = draw(5300, 6)
  found, whole = in_pieces(x, sizes, groups), moments.of(x, groups)
  same_bits(found.statistics(), whole.statistics())
  same_bits(whole.statistics(), moments.of(x).statistics())
  for g in range(0, groups, 7):
    same_bits(found.without(g), whole.without(g))
    same_bits(found.of_first(g + 1), whole.of_first(g + 1))


@pytest.mark.parametrize('groups', [7, 20])   # 7 does not divide the buffer
def test_groups_are_interleaved_rows(groups):
  x = draw(5325, 4)
  m, group = moments.of(x, groups), np.arange(5325) % groups
  for found, rows in ((m.without(3), group != 3), (m.of_first(5), group < 5)):
    expected = moments.of(x[rows]).statistics()
    assert found.n == expected.n
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(found.cov, expected.cov, atol=1e-11)


@pytest.mark.parametrize('cuts', [(40,), (1024,), (3, 6001), (5120, 5121)])
def test_merged_shards_are_the_whole(cuts):
  x = draw(6100, 4, 300.)
  parts = [moments.of(part, 10) for part in np.split(x, cuts)[1:]]
  merged = moments.of(x[:cuts[0]], 10)
  for part in parts:
    merged.merge(part)
  whole = moments.of(x).statistics()
  found = merged.statistics()
  assert found.n == 6100
  assert found.centred is None
  np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-13)
  np.testing.assert_allclose(found.cov, whole.cov, atol=1e-10)
  group = np.concatenate([np.arange(len(part)) % 10 for part in np.split(x, cuts)])
  left = merged.without(7)
  expected = moments.of(x[group != 7]).statistics()
  assert left.n == expected.n
  np.testing.assert_allclose(left.cov, expected.cov, atol=1e-10)


@pytest.mark.parametrize('cuts', [(40,), (1024,), (3, 6001), (5120, 5121, 6090)])
@pytest.mark.parametrize('groups', [0, 20])
def test_merged_shards_of_rows_are_the_whole_bit_for_bit(tmp_path, cuts, groups):
  x = draw(6100, 4, 300.)
  first, *rest = np.split(x, cuts)
  merged = moments.of(first, groups)
  for part in rest:
    shard = moments.Shard(tmp_path)
    for start in range(0, len(part), 700):
      shard.add(part[start:start + 700])
    assert shard.n == len(part)
    assert merged.merge(shard) is merged
  assert list(tmp_path.iterdir()) == []
  whole = moments.of(x, groups)
  same_bits(merged.statistics(), whole.statistics())
  if groups:
    same_bits(merged.without(3), whole.without(3))
    same_bits(merged.of_first(7), whole.of_first(7))


def test_few_rows_of_shards_stay_an_exact_factor():
  x = draw(12, 30)
  merged = moments.of(x[:5]).merge(moments.Shard().add(x[5:]))
  np.testing.assert_array_equal(merged.statistics().centred, moments.of(x).statistics().centred)


@pytest.mark.parametrize('groups', [0, 20])
@pytest.mark.parametrize('cut', [0, 3, 900, 5120, 5200])
def test_restored_moments_go_on_bit_for_bit(tmp_path, groups, cut):
  x = draw(5300, 6)
  m = moments.Moments(groups)
  if cut:
    m.add(x[:cut])
  m.save(tmp_path / 'moments.npz', images=np.array(cut))
  with np.load(tmp_path / 'moments.npz', allow_pickle=False) as arrays:
    again = moments.Moments.restore(arrays)
    assert arrays['images'] == cut
  same_bits(again.add(x[cut:]).statistics(), moments.of(x).statistics())
  if groups:
    same_bits(again.without(3), moments.of(x, groups).without(3))
  assert [p.name for p in tmp_path.iterdir()] == ['moments.npz']


def test_few_rows_are_kept_across_a_restore(tmp_path):
  x = draw(12, 30)
  m = moments.of(x[:5])
  m.save(tmp_path / 'moments.npz')
  with np.load(tmp_path / 'moments.npz') as arrays:
    again = moments.Moments.restore(arrays)
  np.testing.assert_array_equal(again.add(x[5:]).statistics().centred,
                                moments.of(x).statistics().centred)


def test_refusals(tmp_path):
  m = moments.of(draw(4, 3), 2)
  with pytest.raises(ValueError, match=r'features must be \[b, 3\], got shape \(2, 4\)'):
    m.add(draw(2, 4))
  with pytest.raises(ValueError, match='got 1 rows of 2 that are not'):
    m.add(np.array([[1, 2, 3], [1, np.nan, 3]]))
  m.statistics()
  with pytest.raises(ValueError, match='added before statistics are taken'):
    m.add(draw(1, 3))
  with pytest.raises(ValueError, match='saved before statistics'):
    m.save(tmp_path / 'x.npz')
  with pytest.raises(ValueError, match='got 2, 3 and 0, 3'):
    m.merge(moments.of(draw(4, 3)))
  with pytest.raises(ValueError, match=r'as the first were, got float32 \(4, 2\)'):
    moments.Shard().add(draw(4, 3)).add(draw(4, 2))
  for rows in (moments.Moments(), moments.of(draw(1, 3))):
    with pytest.raises(ValueError, match=r'at least 2 feature vectors, got [01]'):
      rows.statistics()
