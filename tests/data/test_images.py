"""Image sets of TFDS: read once into a cache, which may be damaged."""
import json
import os
import pathlib
import shutil
import sys
import threading
import time
import types

import numpy as np
import pytest

from mollification import data
from mollification.data import cache, dataset, images

TFDS = pathlib.Path(__file__).parents[3] / 'shared/tfds'
CELEBA_VERSION = '2.1.0'
CIFAR_VERSION = '3.0.2'


def _pixels(n, shape, seed):
  return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def _store(folder, builder, version, features, splits, config=None):
  """Prepares a TFDS data set on disk, in the records and with the metadata of the real one."""
  import tensorflow as tf
  import tensorflow_datasets as tfds
  tfds.dataset_builders.store_as_tfds_dataset(
    name=builder, version=version, config=config, data_dir=str(folder), disable_shuffling=True,
    features=tfds.features.FeaturesDict(features),
    split_datasets={name: tf.data.Dataset.from_tensor_slices(x) for name, x in splits.items()})


@pytest.fixture(scope='session')
def cifar(tmp_path_factory):
  """(data_dir of a CIFAR-10 of 600 + 20 images, its arrays): two batches of records in train."""
  import tensorflow_datasets as tfds
  folder = tmp_path_factory.mktemp('tfds')
  splits = {name: {'id': [f'{name}{i}' for i in range(n)], 'image': _pixels(n, (32, 32, 3), n),
                   'label': np.arange(n) % 10} for name, n in (('train', 600), ('test', 20))}
  features = {'id': tfds.features.Text(), 'label': tfds.features.ClassLabel(num_classes=10),
              'image': tfds.features.Image(shape=(32, 32, 3))}
  _store(folder, 'cifar10', CIFAR_VERSION, features, splits)
  return folder, splits


@pytest.fixture(scope='session')
def cifar_cache(cifar, tmp_path_factory):
  """A cache of it, filled through the real path; not to be written to."""
  folder = tmp_path_factory.mktemp('cache')
  data.load('cifar10', data_dir=cifar[0], cache_dir=folder)
  return folder


@pytest.fixture
def own_cache(cifar_cache, tmp_path):
  """A copy of the cache that a test may damage: (cache_dir, the folder with the files)."""
  shutil.copytree(cifar_cache, tmp_path / 'cache')
  return tmp_path / 'cache', tmp_path / 'cache/cifar10' / CIFAR_VERSION


@pytest.fixture
def no_tensorflow(monkeypatch):
  for name in ('tensorflow', 'tensorflow_datasets'):
    monkeypatch.setitem(sys.modules, name, None)


def test_tfds_becomes_arrays_in_order(cifar, cifar_cache, no_tensorflow):
  loaded = data.load('cifar10', data_dir='/nowhere', cache_dir=cifar_cache)
  splits = cifar[1]
  np.testing.assert_array_equal(loaded.full_train.x, splits['train']['image'])
  np.testing.assert_array_equal(loaded.full_train.labels, splits['train']['label'])
  np.testing.assert_array_equal(loaded.test.x, splits['test']['image'])
  np.testing.assert_array_equal(loaded.test.labels, splits['test']['label'])
  assert isinstance(loaded.train.x, np.memmap)
  assert loaded.levels == 256


def test_validation_is_the_end_of_train(cifar_cache):
  loaded = data.load('cifar10', cache_dir=cifar_cache)
  assert (loaded.train.num_examples, loaded.validation.num_examples) == (540, 60)
  np.testing.assert_array_equal(loaded.validation.x, loaded.full_train.x[540:])
  np.testing.assert_array_equal(loaded.validation.labels, loaded.full_train.labels[540:])
  for part in (loaded.train, loaded.validation):
    assert np.shares_memory(part.x, loaded.full_train.x)
  assert images.carved(60_000) == 5_000


def test_recorded_digests_are_those_of_the_splits(cifar_cache):
  loaded = data.load('cifar10', cache_dir=cifar_cache)
  for split in (loaded.train, loaded.validation, loaded.test, loaded.full_train):
    assert split.known_sha256 == dataset.digest(np.asarray(split.x))
  meta = json.loads((cifar_cache / 'cifar10' / CIFAR_VERSION / 'meta.json').read_text())
  assert meta['source'] == f'cifar10/{CIFAR_VERSION}'
  assert meta['splits']['full_train']['n'] == 600


def test_a_damaged_cache_is_built_anew(cifar, own_cache):
  folder, files = own_cache
  content = bytearray((files / 'test.npy').read_bytes())
  content[-1] ^= 1
  (files / 'test.npy').write_bytes(content)
  with pytest.warns(UserWarning, match='the sha256 of test.npy is not that in meta.json'):
    loaded = data.load('cifar10', data_dir=cifar[0], cache_dir=folder)
  np.testing.assert_array_equal(loaded.test.x, cifar[1]['test']['image'])
  assert not cache.problem(files)
  assert [p.name for p in files.parent.iterdir() if p.name != '.lock'] == [CIFAR_VERSION]


@pytest.mark.parametrize(('damage', 'message'), [
  (lambda files: (files / 'test.npy').write_bytes(b'short'), 'test.npy is missing or not'),
  (lambda files: (files / 'train.labels.npy').unlink(), 'train.labels.npy is missing or not'),
  (lambda files: (files / 'meta.json').write_text('{"form'), 'meta.json is missing, unreadable'),
  (lambda files: (files / 'meta.json').write_text('[]'), 'meta.json is missing, unreadable'),
  (lambda files: (files / 'meta.json').write_text('[' * 10**5), 'meta.json is missing, unreadable'),
  (lambda files: (files / 'meta.json').write_text('{"format": 1}'), 'meta.json is damaged'),
  (lambda files: _change(files, 'carve', 59), 'meta.json is not what was written'),
  (lambda files: _change(files, 'source', 'x'), 'meta.json is not what was written'),
])
def test_damage_without_tensorflow_is_warned_of(own_cache, no_tensorflow, damage, message):
  folder, files = own_cache
  damage(files)
  with (pytest.warns(UserWarning, match=message),
        pytest.raises(ImportError, match=r"tensorflow is needed.*'mollification\[data\]'")):
    data.load('cifar10', cache_dir=folder)


def _change(files, *path_and_value, with_sha256=True):
  """Set (or, for a value of None, drop) an entry of the cache's meta.json."""
  *path, value = path_and_value
  meta = json.loads((files / 'meta.json').read_text())
  node = meta
  for key in path[:-1]:
    node = node[key]
  if value is None:
    del node[path[-1]]
  else:
    node[path[-1]] = value
  if not with_sha256:
    del meta['sha256']
  (files / 'meta.json').write_text(json.dumps(meta))


def test_a_cache_of_before_its_meta_had_a_sha256_is_read(own_cache, no_tensorflow):
  folder, files = own_cache
  _change(files, 'sha256', None)
  assert data.load('cifar10', cache_dir=folder).train.num_examples == 540


@pytest.mark.parametrize('change', [
  ('carve', 59), ('carve', 60.), ('carve', 0), ('carve', None), ('files', []), ('splits', None),
  ('files', 'test.npy', None), ('files', 'test.npy', 'bytes', None),
  ('files', 'train.labels.npy', 'sha256', None), ('files', 'train.npy', []),
  ('files', '../x', {'bytes': 1, 'sha256': 'x'}), ('splits', 'validation', 'n', 59),
  ('splits', 'full_train', None), ('splits', 'test', 'sha256', None)], ids=str)
def test_the_meta_of_such_a_cache_must_fit_itself(own_cache, change):
  _, files = own_cache
  _change(files, *change, with_sha256=False)
  assert cache.problem(files) == 'meta.json is damaged'


@pytest.mark.parametrize('text', ['[]', '7', '{"test.npy": {}}', '\0', '[' * 10**5])
def test_a_damaged_stamp_is_written_anew(own_cache, monkeypatch, text):
  _, files = own_cache
  monkeypatch.setattr(cache, 'VERIFY_BYTES', 0)
  good = (files / 'stamp.json').read_text()
  (files / 'stamp.json').write_text(text)
  assert not cache.problem(files)
  assert json.loads((files / 'stamp.json').read_text()).keys() == json.loads(good).keys()


def test_large_files_are_hashed_once_per_state(own_cache, monkeypatch):
  """Above VERIFY_BYTES the stamp stands in for the hash, until the file changes."""
  _, files = own_cache
  monkeypatch.setattr(cache, 'VERIFY_BYTES', 0)
  hashed, sha256 = [], cache._file_sha256
  monkeypatch.setattr(cache, '_file_sha256', lambda p: hashed.append(p.name) or sha256(p))
  os.utime(files / 'test.npy', ns=(1, 1))                  # as after a copy
  assert not cache.problem(files)
  assert hashed == ['test.npy']
  assert not cache.problem(files)
  assert hashed == ['test.npy']
  content = bytearray((files / 'test.npy').read_bytes())
  content[-1] ^= 1
  (files / 'test.npy').write_bytes(content)
  assert 'sha256 of test.npy' in cache.problem(files)


def test_the_highest_version_is_read(own_cache, no_tensorflow):
  _, files = own_cache
  newer = files.parent / '3.0.10'
  shutil.copytree(files, newer)
  assert images._newest(files.parent) == newer
  (newer / 'meta.json').unlink()
  with pytest.warns(UserWarning, match='meta.json is missing'):
    assert images._newest(files.parent) == files


def test_unprepared_data_names_command_and_folder(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  def refuse(self):
    raise ConnectionError('no route\nto host')

  probed = []
  monkeypatch.setattr(images, '_reach', lambda builder, folder: probed.append(folder))
  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', refuse)
  message = (r'ConnectionError: no route.; run `tfds build cifar10 --data_dir=.*'
             r'downloads/manual and run this again')
  with pytest.raises(RuntimeError, match=message):
    data.load('cifar10', data_dir=tmp_path, cache_dir=tmp_path / 'cache')
  with pytest.raises(ValueError, match=r"no image set 'lsun'; choose one of \['celeba64'"):
    images.load('lsun')
  assert probed == [tmp_path]


def test_of_several_processes_one_prepares_the_data(tmp_path, monkeypatch):
  """Both miss them at the same time; a lock of threads is one of processes here."""
  both, made, prepared = threading.Barrier(2, timeout=60), [], []

  class Builder:
    """A new one knows what is on the disk, as those of TFDS do."""

    def __init__(self, name, data_dir):
      self._mark, self._there = data_dir / name, (data_dir / name).exists()
      made.append(self)
      if len(made) <= 2:
        both.wait()

    def is_prepared(self):
      return self._there

    def download_and_prepare(self):
      prepared.append(self)
      time.sleep(.1)
      self._mark.touch()

  monkeypatch.setattr(images, '_reach', lambda builder, folder: None)
  tfds, builders = types.SimpleNamespace(builder=Builder), []
  prepare = lambda: builders.append(images._prepared(tfds, images.SOURCES['cifar10'], tmp_path))
  threads = [threading.Thread(target=prepare) for _ in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (len(prepared), len(builders)) == (1, 2)


def test_a_host_out_of_reach_is_found_out_at_once(tmp_path, monkeypatch):
  """TFDS would try for minutes; with archives in place nothing is asked of the network."""
  import requests
  asked = []

  def refuse(url, timeout):
    asked.append(url)
    raise requests.exceptions.ConnectionError('no route')

  monkeypatch.setattr(requests, 'head', refuse)
  def listed(name):
    info = types.SimpleNamespace(filename=f'{name}.tar')
    return types.SimpleNamespace(url_infos={f'http://a/get?id={name}': info}, builder_config=None)

  builder = listed('b')
  with pytest.raises(OSError, match=r'^a cannot be reached$'):
    images._reach(builder, tmp_path)
  (tmp_path / 'downloads' / 'manual').mkdir(parents=True)
  (tmp_path / 'downloads' / 'other.tar').touch()   # of another data set
  with pytest.raises(OSError, match='cannot be reached'):
    images._reach(builder, tmp_path)
  assert asked == ['http://a/get?id=b'] * 2
  (tmp_path / 'downloads' / 'manual' / 'b.tar').touch()
  images._reach(builder, tmp_path)
  (tmp_path / 'downloads' / 'a_c_x1y2.tar.INFO').write_text('{"urls": ["http://a/get?id=c"]}')
  images._reach(listed('c'), tmp_path)
  assert len(asked) == 2


@pytest.mark.parametrize('name, archives', [
  ('downsampled_imagenet/32x32', ['train_32x32.tar', 'valid_32x32.tar']),
  ('downsampled_imagenet/64x64', ['train_64x64.tar', 'valid_64x64.tar']),
  ('celeb_a', ['list_eval_partition.txt', 'img_align_celeba.zip', 'list_attr_celeba.txt',
               'list_landmarks_align_celeba.txt', 'identity_CelebA.txt'])])
def test_archives_of_ones_own_are_all_that_is_needed(name, archives, tmp_path, monkeypatch):
  """As TFDS itself names and lists them; one that is missing is asked for."""
  import requests
  import tensorflow_datasets as tfds

  def refuse(url, timeout):
    raise requests.exceptions.ConnectionError('no route')

  monkeypatch.setattr(requests, 'head', refuse)
  builder = tfds.builder(name, data_dir=tmp_path)
  manual = tmp_path / 'downloads' / 'manual'
  manual.mkdir(parents=True)
  for archive in archives[1:]:
    (manual / archive).touch()
  with pytest.raises(OSError, match='cannot be reached'):
    images._reach(builder, tmp_path)
  (manual / archives[0]).touch()
  images._reach(builder, tmp_path)


def test_celeba_is_cropped_resized_and_keeps_its_own_validation(tmp_path):
  import tensorflow_datasets as tfds
  features = dict(tfds.builder('celeb_a', data_dir=tmp_path).info.features)
  # PNG inside, which TFDS decodes as well: JPEG would move the ramps by a grey level.
  features['image'] = tfds.features.Image(shape=(218, 178, 3), encoding_format='png')
  # Two ramps: the first image counts rows, the second columns.
  frame = np.stack([np.indices((218, 178))] * 3, -1).astype(np.uint8)
  rest = {key: {k: np.zeros(2, v.np_dtype) for k, v in features[key].items()}
          for key in ('attributes', 'landmarks', 'identity')}
  _store(tmp_path, 'celeb_a', CELEBA_VERSION, features,
         {name: {'image': frame + 10 * i, **rest} for i, name in enumerate(('train', 'validation',
                                                                      'test'))})
  loaded = data.load('celeba64', data_dir=tmp_path, cache_dir=tmp_path / 'cache')
  assert loaded.event_shape == (64, 64, 3)
  centres = (np.arange(64) + .5) * 148 / 64 - .5
  for i, split in enumerate((loaded.train, loaded.validation, loaded.test)):
    rows, columns = split.x[..., 0].astype(float) - 10 * i
    np.testing.assert_allclose(rows.mean(1), 40 + centres, atol=.51)
    np.testing.assert_allclose(columns.mean(0), 15 + centres, atol=.51)
  assert loaded.full_train is loaded.train
  assert loaded.train.labels is None


def test_imagenet_validation_is_the_test_set(tmp_path):
  import tensorflow_datasets as tfds
  x = {'train': _pixels(20, (32, 32, 3), 0), 'validation': _pixels(5, (32, 32, 3), 1)}
  _store(tmp_path, 'downsampled_imagenet', '2.0.0',
         {'image': tfds.features.Image(shape=(None, None, 3))},
         {name: {'image': pixels} for name, pixels in x.items()}, config='32x32')
  loaded = data.load('downsampled_imagenet32', data_dir=tmp_path, cache_dir=tmp_path / 'cache')
  np.testing.assert_array_equal(loaded.test.x, x['validation'])
  np.testing.assert_array_equal(loaded.validation.x, x['train'][18:])


@pytest.mark.skipif(not TFDS.is_dir(), reason=f'no prepared TFDS data in {TFDS}')
def test_fashion_mnist(tmp_path):
  loaded = data.load('fashion_mnist', data_dir=TFDS, cache_dir=tmp_path)
  sizes = [s.num_examples for s in (loaded.train, loaded.validation, loaded.test)]
  assert sizes == [55_000, 5_000, 10_000]
  assert (loaded.event_shape, loaded.train.x.dtype, loaded.levels) == data.spec('fashion_mnist')
  # The published mean of the training images is 0.2860 of 255; every class has 6,000 of them.
  assert loaded.full_train.x.mean() / 255 == pytest.approx(.2860, abs=1e-4)
  np.testing.assert_array_equal(np.bincount(loaded.full_train.labels), [6_000] * 10)
