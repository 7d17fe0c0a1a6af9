"""The data sets that come with scikit-learn: sizes, strata, and splits that share nothing."""
import numpy as np
import pytest

from mollification.data import embedded


def test_digits_are_split_by_class_and_complete():
  digits = embedded.digits()
  splits = (digits.train, digits.validation, digits.test)
  assert [s.num_examples for s in splits] == [1257, 180, 360]
  assert digits.event_shape == (8, 8, 1)
  assert digits.levels == 17
  assert max(s.x.max() for s in splits) == 16
  counts = np.stack([np.bincount(s.labels, minlength=10) for s in splits])
  shares = counts / counts.sum(0)
  np.testing.assert_allclose(shares, np.tile([[.7], [.1], [.2]], 10), atol=.01)

  from sklearn.datasets import load_digits
  rows = lambda x, y: sorted((*row, label) for row, label in zip(x.reshape(len(x), -1).tolist(), y))
  source = load_digits()
  ours = rows(np.concatenate([s.x for s in splits]), np.concatenate([s.labels for s in splits]))
  assert ours == rows(source.data.astype(int), source.target)


def test_digits_are_always_the_same():
  assert embedded.digits().test.sha256 == embedded.digits().test.sha256
  assert embedded.digits().train.sha256 == (
    '20e5142f3d804434d6c350326af2d4feb03e996c23b2aceb6b035315f9da558b')


@pytest.fixture
def numbered(monkeypatch):
  """Two photographs in which no two pixels are equal: each holds its own number in base 256."""
  number = np.arange(2 * 427 * 640).reshape(2, 427, 640)
  photographs = np.stack([number >> 16, number >> 8 & 255, number & 255], -1).astype(np.uint8)
  monkeypatch.setattr(embedded, '_photographs', lambda: list(photographs))
  return photographs


def _numbers(x):
  return x.astype(np.int64) @ np.array([65536, 256, 1])


@pytest.mark.parametrize(('size', 'stride'), [(32, 8), (20, 7), (64, 16)])
def test_patches_of_two_splits_share_no_pixel(numbered, size, stride):
  patches = embedded.photo_patches(size, stride)
  seen = [set(np.unique(_numbers(getattr(patches, name).x)))
          for name in ('train', 'validation', 'test')]
  assert not seen[0] & seen[1]
  assert not seen[0] & seen[2]
  assert not seen[1] & seen[2]


def test_patches_are_windows_of_the_photographs(numbered):
  patches = embedded.photo_patches(size=8, stride=5)
  first = _numbers(patches.train.x)[1]          # second window: five columns to the right
  expected = np.arange(8)[:, None] * 640 + 5 + np.arange(8)
  np.testing.assert_array_equal(first, expected)
  assert np.any(_numbers(patches.train.x) >= 427 * 640)   # the second photograph too


def test_patches_by_default():
  patches = embedded.photo_patches()
  sizes = [s.num_examples for s in (patches.train, patches.validation, patches.test)]
  assert sizes == [5700, 500, 900]
  assert patches.train.x.dtype == np.uint8
  assert patches.event_shape == (32, 32, 3)


def test_patches_too_large_for_a_region():
  with pytest.raises(ValueError, match=r'size must lie in 1..64, the narrowest region, got 65'):
    embedded.photo_patches(65)
  with pytest.raises(ValueError, match='stride must be positive, got 0'):
    embedded.photo_patches(stride=0)
