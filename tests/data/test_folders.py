"""Folders of image files and npz archives."""
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mollification import data
from mollification.data import dataset, images


def _pixels(n, shape, seed):
  return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def _save(path, pixels, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(pixels)
  (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def folder(tmp_path):
  """40 images in two subfolders, with upper-case extensions and files that are no images."""
  x = _pixels(40, (6, 6, 3), 0)
  for i, pixels in enumerate(x):
    _save(tmp_path / 'in' / 'ab'[i % 2] / f'{i:02}.{"PNG" if i % 3 else "png"}', pixels)
  (tmp_path / 'in/readme.txt').write_text('no image')
  (tmp_path / 'in/._00.png').write_bytes(b'no image')
  return tmp_path / 'in', x


def test_folder_is_split_by_seed_and_complete(folder, tmp_path):
  path, x = folder
  loaded = data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache')
  splits = (loaded.train, loaded.validation, loaded.test)
  assert [s.num_examples for s in splits] == [36, 2, 2]
  as_set = lambda pixels: {p.tobytes() for p in pixels}
  assert as_set(np.concatenate([s.x for s in splits])) == as_set(x)
  order = [*range(0, 40, 2), *range(1, 40, 2)]              # sorted paths: a/00, a/02, ..., b/01
  permuted = x[order][np.random.default_rng(0).permutation(40)]
  np.testing.assert_array_equal(loaded.full_train.x, permuted[:38])
  np.testing.assert_array_equal(loaded.test.x, permuted[38:])
  other = data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache', seed=1)
  assert as_set(other.test.x) != as_set(loaded.test.x)


def test_folder_is_decoded_once_and_again_when_it_changes(folder, tmp_path, monkeypatch):
  path, _ = folder
  load = lambda: data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache')
  first = load()
  with monkeypatch.context() as patch:
    patch.setattr(images, '_read_image', None)
    assert load().test.sha256 == first.test.sha256
  _save(path / 'c/99.png', _pixels(1, (6, 6, 3), 9)[0])
  assert load().full_train.num_examples == 39


def test_folder_with_its_own_splits(tmp_path):
  x = _pixels(30, (4, 4), 0)
  for i, pixels in enumerate(x):
    _save(tmp_path / 'in' / ('train' if i < 25 else 'test') / f'{i:02}.png', pixels)
  loaded = data.load('folder', data_dir=tmp_path / 'in', cache_dir=tmp_path / 'cache')
  np.testing.assert_array_equal(loaded.full_train.x[..., 0], x[:25])
  np.testing.assert_array_equal(loaded.test.x[..., 0], x[25:])
  assert loaded.validation.num_examples == 2


def test_resize_crops_the_centre_and_averages(tmp_path):
  image = np.zeros((4, 8, 3), np.uint8)
  image[:, 2:6] = 100                                       # the central square
  image[::2, 2:6] += 50                                     # stripes: antialiasing averages them
  np.testing.assert_array_equal(images.resize(image[:, 2:6], 4), image[:, 2:6])
  small = images.resize(image, 2)
  assert small.shape == (2, 2, 3)
  assert ((small > 105) & (small < 145)).all()
  assert images.resize(image[..., :1], 2).shape == (2, 2, 1)


def _refuse(path, tmp_path, message, error=ValueError, **options):
  with pytest.raises(error, match=message):
    data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache', **options)


def test_folder_of_mixed_sizes_names_the_offender(folder, tmp_path):
  path, _ = folder
  _save(path / 'z/odd.png', _pixels(1, (6, 8, 3), 0)[0])
  _refuse(path, tmp_path, r'odd.png: .* \(6, 8, 3\), those of .*\(6, 6, 3\); set data.size=64|'
                          r'those of .*odd.png \(6, 8, 3\)')
  loaded = data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache', size=3)
  assert loaded.event_shape == (3, 3, 3)


def test_folder_of_mixed_modes(folder, tmp_path):
  path, _ = folder
  _save(path / 'z/alpha.png', _pixels(1, (6, 6, 4), 0)[0])
  _refuse(path, tmp_path, r'alpha.png: pixels are RGBA, .*set data.channels=3')
  loaded = data.load('folder', data_dir=path, cache_dir=tmp_path / 'cache', channels=1)
  assert loaded.event_shape == (6, 6, 1)
  Image.fromarray(np.zeros((6, 6), np.uint16)).save(path / 'z/deep.png')
  _refuse(path, tmp_path, 'deep.png: pixels are I;16', channels=3)


@pytest.mark.parametrize(('side', 'message'), [
  (60_000, '3600000000 pixels'),
  # Of so many Pillow only warns, and makes room for them.
  (10_000, r'10000 × 10000 .100000000 pixels. exceeds limit of \d+ pixels; shrink it, or raise')],
  ids=['refused', 'warned of'])
def test_an_image_that_claims_more_than_pillow_takes_is_named(folder, tmp_path, side, message):
  path, _ = folder
  chunk = lambda kind, content: (struct.pack('>I', len(content)) + kind + content
                                 + struct.pack('>I', zlib.crc32(kind + content)))
  header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  (path / 'z.png').write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IEND', b''))
  with warnings.catch_warnings(record=True):   # as outside of tests, where they are errors
    warnings.simplefilter('default')
    _refuse(path, tmp_path, fr'z\.png: not a readable image .*{message}.*remove or replace it')


def test_folder_errors(tmp_path):
  _refuse(tmp_path / 'no', tmp_path, 'no folder .*no; set data.data_dir', FileNotFoundError)
  (tmp_path / 'empty').mkdir()
  _refuse(tmp_path / 'empty', tmp_path, r'no image files \(.png, .*below', FileNotFoundError)
  for i in range(19):
    _save(tmp_path / f'few/{i}.png', _pixels(1, (4, 4), i)[0])
  _refuse(tmp_path / 'few', tmp_path, '19 images; a split 90/5/5 needs at least 20')
  _refuse(tmp_path / 'few', tmp_path, 'channels 1 or 3, got None and 2', channels=2)
  # Pillow would hand PostScript to an interpreter, which runs what the file says.
  Image.new('L', (4, 4)).save(tmp_path / 'few/zz.jpg', 'EPS')
  _refuse(tmp_path / 'few', tmp_path, 'zz.jpg: not a readable image .cannot identify image file')
  (tmp_path / 'few/zz.jpg').write_bytes(b'not a jpeg')
  _refuse(tmp_path / 'few', tmp_path, 'zz.jpg: not a readable image')
  _refuse('', tmp_path, "'folder' needs data.data_dir, the folder of images")


# --- npz ----------------------------------------------------------------------------------------

def test_npz(tmp_path):
  x = {'train': _pixels(50, (4, 4, 3), 0), 'test': _pixels(7, (4, 4, 3), 1)}
  np.savez(tmp_path / 'set.npz', **x, train_labels=np.arange(50), test_labels=np.arange(7))
  loaded = data.load('npz', data_dir=tmp_path / 'set.npz')
  np.testing.assert_array_equal(loaded.validation.x, x['train'][45:])
  np.testing.assert_array_equal(loaded.validation.labels, np.arange(45, 50))
  np.testing.assert_array_equal(loaded.train.labels, np.arange(45))
  assert loaded.full_train.sha256 == dataset.digest(x['train'])
  np.savez(tmp_path / 'own.npz', **x, validation=x['test'][:3])
  own = data.load('npz', data_dir=tmp_path / 'own.npz')
  assert own.full_train is own.train
  assert own.validation.num_examples == 3


@pytest.mark.parametrize(('arrays', 'message'), [
  ({'train': _pixels(20, (4, 4, 3), 0)}, r"no array 'test' among \['train'\]"),
  ({'train': np.zeros((20, 4, 4, 3)), 'test': _pixels(2, (4, 4, 3), 0)},
   'array train: images must be uint8 in 0..255, got float64'),
  ({'train': _pixels(20, (4, 4, 3), 0), 'test': _pixels(2, (4, 4), 0)},
   r'array test: images must be \[N, height, width, channels\]'),
  ({'train': _pixels(20, (4, 4, 3), 0), 'test': _pixels(2, (5, 4, 3), 0)}, 'splits must agree'),
  ({'train': _pixels(20, (4, 4, 3), 0), 'test': _pixels(0, (4, 4, 3), 0)}, 'array test: no images'),
  ({'train': _pixels(9, (4, 4, 3), 0), 'test': _pixels(2, (4, 4, 3), 0)}, '9 training images'),
  ({'train': np.array([None]), 'test': _pixels(2, (4, 4, 3), 0)}, 'not an .npz archive of plain'),
])
def test_npz_errors(tmp_path, arrays, message):
  np.savez(tmp_path / 'set.npz', **arrays)
  with pytest.raises(ValueError, match=message):
    data.load('npz', data_dir=tmp_path / 'set.npz')


def test_files_that_are_no_npz(tmp_path):
  (tmp_path / 'set.npz').write_text('hello')
  with pytest.raises(ValueError, match=r'set.npz: not an .npz archive'):
    data.load('npz', data_dir=tmp_path / 'set.npz')
  np.save(tmp_path / 'one.npy', np.zeros(3))
  with pytest.raises(ValueError, match=r'one.npy: not an .npz archive'):
    data.load('npz', data_dir=tmp_path / 'one.npy')
  with pytest.raises(FileNotFoundError, match=r'no file .*gone.npz; set data.data_dir'):
    data.load('npz', data_dir=tmp_path / 'gone.npz')


def test_a_cut_npz_is_an_error_that_names_it(tmp_path):
  path = tmp_path / 'cut.npz'
  np.savez(path, train=np.zeros((40, 4, 4, 1), np.uint8), test=np.zeros((4, 4, 4, 1), np.uint8))
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(ValueError, match=r'cut\.npz: not an \.npz archive'):
    images.load_npz(path)
