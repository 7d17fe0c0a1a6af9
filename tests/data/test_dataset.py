"""Batches as functions of the step, digests, checks, and the door `data.load`."""
import hashlib
import sys

import numpy as np
import pytest

from mollification import data
from mollification.data import dataset


def _epoch(epoch, n, batch, **options):
  steps = dataset.steps_per_epoch(n, batch, options.get('remainder', 'drop'))
  return [dataset.batch_indices(epoch * steps + i, seed=3, num_examples=n, batch_size=batch,
                                **options) for i in range(steps)]


def test_drop_epoch_visits_each_example_at_most_once():
  batches = _epoch(1, 23, 5)
  assert len(batches) == 4
  seen = np.concatenate([indices for indices, _ in batches])
  assert len(set(seen)) == 20
  assert all(mask.all() and mask.shape == (5,) for _, mask in batches)


def test_pad_epoch_visits_each_example_exactly_once():
  batches = _epoch(2, 23, 5, remainder='pad')
  assert len(batches) == 5
  seen = np.concatenate([indices[mask] for indices, mask in batches])
  np.testing.assert_array_equal(np.sort(seen), np.arange(23))
  last, mask = batches[-1]
  np.testing.assert_array_equal(mask, [True, True, True, False, False])
  np.testing.assert_array_equal(last[3:], 0)
  assert last.dtype == np.int64


def test_batches_are_those_of_the_stated_permutation():
  """The rule is part of every result: a change of it changes all runs."""
  order = np.random.default_rng([7, 2]).permutation(20)
  indices, _ = dataset.batch_indices(2 * 5 + 1, seed=7, num_examples=20, batch_size=4)
  np.testing.assert_array_equal(indices, order[4:8])
  first, again = (dataset.batch_indices(11, seed=7, num_examples=20, batch_size=4)[0]
                  for _ in range(2))
  np.testing.assert_array_equal(first, again)


def test_an_order_is_kept_in_half_the_bytes_and_of_two_epochs_alone():
  """Of 10 million rows one is 40 MB; a call of several updates may end in the next epoch."""
  dataset._permutation.cache_clear()
  for epoch in range(4):
    order = dataset._permutation(7, epoch, 1000)
    assert order.nbytes == 4000
    np.testing.assert_array_equal(order, np.random.default_rng([7, epoch]).permutation(1000))
  for step in (1, 2, 3, 4):   # of epochs 0 and 1, in turn
    dataset.batch_indices(step * 500 % 1500, seed=7, num_examples=1000, batch_size=1)
  found = dataset._permutation.cache_info()
  assert (found.currsize, found.misses) == (2, 6)


def test_epochs_and_seeds_differ():
  order = lambda step, seed: dataset.batch_indices(step, seed=seed, num_examples=50,
                                                   batch_size=50)[0].tolist()
  assert order(0, 0) != order(1, 0)
  assert order(0, 0) != order(0, 1)


def test_batch_errors_name_both_sizes():
  with pytest.raises(ValueError, match=r'batch_size 11 exceeds the 10 training examples'):
    dataset.batch_indices(0, seed=0, num_examples=10, batch_size=11)
  with pytest.raises(ValueError, match=r"one of \('drop', 'pad'\), got 'keep'"):
    dataset.steps_per_epoch(10, 5, 'keep')
  with pytest.raises(ValueError, match='step must not be negative, got -1'):
    dataset.batch_indices(-1, seed=0, num_examples=10, batch_size=5)


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_gather_from_memory_and_from_a_map(tmp_path, dtype):
  x = np.arange(10 * 12).reshape(10, 2, 2, 3).astype(dtype)
  np.save(tmp_path / 'x.npy', x)
  indices = np.array([9, 0, 3, 3])
  for source in (x, np.load(tmp_path / 'x.npy', mmap_mode='r')[:10]):
    batch = dataset.gather(source, indices)
    assert type(batch) is np.ndarray
    assert batch.dtype == dtype
    np.testing.assert_array_equal(batch, x[indices])


def test_sha256_is_of_header_and_bytes(monkeypatch):
  x = np.arange(60, dtype=np.uint8).reshape(5, 12)
  expected = hashlib.sha256(b'|u1 (5, 12)' + x.tobytes()).hexdigest()
  monkeypatch.setattr(dataset, '_CHUNK_BYTES', 25)   # pieces of two rows
  assert dataset.Split('train', x).sha256 == expected
  assert dataset.Split('train', np.asfortranarray(x)).sha256 == expected
  assert dataset.Split('train', x.reshape(5, 3, 4)).sha256 != expected


def test_known_sha256_is_not_recomputed(monkeypatch):
  monkeypatch.setattr(dataset, 'digest', None)
  assert dataset.Split('test', np.zeros((2, 3), np.uint8), known_sha256='abc').sha256 == 'abc'


def test_splits_must_agree():
  split = lambda name, width: dataset.Split(name, np.zeros((4, width), np.float32))
  with pytest.raises(ValueError, match=r'test holds float32 \(3,\), train float32 \(2,\)'):
    dataset.Dataset('d', split('train', 2), split('validation', 2), split('test', 3))
  with pytest.raises(ValueError, match="validation split is named 'test'"):
    dataset.Dataset('d', split('train', 2), split('test', 2), split('test', 2))
  with pytest.raises(ValueError, match='levels must be given for uint8'):
    dataset.Dataset('d', *(split(name, 2) for name in dataset.SPLITS), levels=256)


@pytest.mark.parametrize(('x', 'message'), [
  (np.zeros((0, 3)), r'f\.npy: a table must be float \[rows, columns\], not empty'),
  (np.zeros(3), 'a table must be float'),
  (np.array([['a', 'b']]), 'a table must be float'),
  (np.array([[1., 2], [3, np.nan], [np.inf, 4]]), 'nan at row 1, column 1 .the first of 2.'),
  (np.array([[1., 2], [3, 2]]), 'column 1 is constant .2.0.'),
])
def test_check_rows(x, message):
  with pytest.raises(ValueError, match=message):
    dataset.check_rows(x, 'f.npy')


@pytest.mark.parametrize(('x', 'message'), [
  (np.zeros((2, 4, 4, 3), np.float32), 'must be uint8 in 0..255, got float32'),
  (np.zeros((2, 4, 4), np.uint8), r'with 1 or 3 channels, got \(2, 4, 4\)'),
  (np.zeros((2, 3, 4, 4), np.uint8), 'with 1 or 3 channels'),
  (np.zeros((0, 4, 4, 3), np.uint8), 'no images'),
])
def test_check_images(x, message):
  with pytest.raises(ValueError, match=message):
    dataset.check_images(x, 'f.npz')


def test_a_missing_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
  with pytest.raises(ImportError, match=r"pip install 'mollification\[data\]'"):
    data.load('digits')


def test_load_names_the_choices():
  with pytest.raises(ValueError, match=r"no data set 'cifar'; choose one of \['bsds300', 'cele"):
    data.load('cifar')
  with pytest.raises(ValueError, match=r"'npz' needs data\.data_dir, the path"):
    data.load('npz')


@pytest.mark.parametrize(('name', 'options'), [
  ('digits', {}), ('photo_patches', {}), ('photo_patches', {'size': 16, 'stride': 40}),
  ('two_gaussians', {'num_train': 10}), ('checkerboard', {'num_train': 10}),
])
def test_spec_is_what_load_gives(name, options):
  loaded = data.load(name, **options)
  assert data.spec(name, **options) == (loaded.event_shape, loaded.train.x.dtype, loaded.levels)


def test_spec_of_folders_needs_size_and_channels():
  assert data.spec('folder', size=64, channels=3) == ((64, 64, 3), np.uint8, 256)
  with pytest.raises(ValueError, match='pass size and channels, or load it'):
    data.spec('folder', size=64)
  with pytest.raises(ValueError, match="'npz' stands in its files; load it"):
    data.spec('npz')


@pytest.mark.parametrize('name, option', [('digits', 'size'), ('folder', 'download'),
                                          ('redwine', 'size'), ('cifar10', 'seeds')])
def test_an_option_of_another_set_is_refused(name, option):
  with pytest.raises(ValueError, match=f'{name!r} has no option {option!r}; its options: '):
    data.load(name, **{option: 1})


def test_a_part_of_a_split_is_spread_over_it():
  x, labels = np.arange(23, dtype=np.float32)[:, None], np.arange(23)
  split = dataset.Split('validation', x, labels)
  part = split.spread(5)
  np.testing.assert_array_equal(part.x[:, 0], [0, 4, 9, 13, 18])
  np.testing.assert_array_equal(part.labels, [0, 4, 9, 13, 18])
  assert (part.name, part.sha256 != split.sha256) == ('validation', True)
  assert dataset.Split('validation', x).spread(5).labels is None
  assert all(split.spread(n) is split for n in (0, 23, 99))
