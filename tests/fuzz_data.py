"""What is fuzzed of data: readers of arrays, tables, images and caches."""
import contextlib
import io
import json
import os
import pathlib
import struct
import tempfile
import zipfile
from unittest import mock

import numpy as np
from PIL import Image

from mollification import files, npz
from mollification.data import cache, density_tables, images, tabular
from mollification.evaluation import sources
from tests.fuzzing import Target, to_file


def arrays():
  """Some of each kind, by name."""
  rng = np.random.default_rng(0)
  return {'a.weight': rng.normal(size=(3, 4)).astype(np.float32), 'a.bias': np.arange(4.),
          'n': np.int64([3])}


def saved(**arrays):
  """The bytes of an npz file."""
  stream = io.BytesIO()
  np.savez(stream, **arrays)
  return stream.getvalue()


def _npz_seeds():
  seeds = []
  for write in (np.savez, np.savez_compressed):
    stream = io.BytesIO()
    write(stream, **arrays(), f=np.asfortranarray(np.ones((3, 2))), s=np.array('text'))
    seeds.append(stream.getvalue())
  return seeds


def _npy_seeds():
  seeds = []
  for array in (*arrays().values(), np.asfortranarray(np.ones((3, 2)))):
    stream = io.BytesIO()
    np.save(stream, array)
    seeds.append(stream.getvalue())
  return seeds


def _read_npz(content, folder):
  npz.read(io.BytesIO(content))


def _map(suffix):
  def read(content, folder):
    path = folder / f'x{suffix}'
    path.write_bytes(content)
    array = npz.mapped(path, lambda names: names[0] if names else 'none')
    bytes(array)   # what is mapped beyond the file's end kills the process
  return read


def _image(kind, mode='RGB', **options):
  stream = io.BytesIO()
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
  Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
  return stream.getvalue()


def claiming(width, height):
  """A bitmap of which there is but the header: 54 bytes that claim so many pixels."""
  content = bytearray(_image('BMP')[:54])
  content[18:26] = struct.pack('<ii', width, height)
  return bytes(content)


def _image_seeds():
  return [_image('PNG'), _image('PNG', 'P'), _image('PNG', 'L'), _image('JPEG'), _image('WEBP'),
          _image('BMP'), claiming(8_500, 8_500)]   # of this Pillow but warns


def _read_images(content, folder):
  (folder / 'images').mkdir(exist_ok=True)
  (folder / 'images' / 'good.png').write_bytes(_image('PNG'))
  (folder / 'images' / 'x.png').write_bytes(content)
  _read_source(folder / 'images')


# A flat image of any size is a few bytes of WebP: the limit of pixels bounds what one takes.
_limited = mock.patch.object(Image, 'MAX_IMAGE_PIXELS', 40_000_000)


@_limited
def _read_source(path):
  source = sources.open_images(path)
  found = source.piece(0, source.n)
  assert len(found) == source.n
  assert all(image.dtype == np.uint8 and image.ndim == 3 for image in found)


def _archive_seeds():
  seeds = []
  for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as archive:
      for i, image in enumerate((_image('PNG'), _image('JPEG'))):
        archive.writestr(f'folder/{i}.png', image)
    seeds.append(stream.getvalue())
  return seeds


def _read_archive(content, folder):
  path = folder / 'x.zip'
  path.write_bytes(content)
  _read_source(path)


def _own_images_seeds():
  x = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
  return [saved(train=x, test=x[:3]),
          saved(train=x, test=x, validation=x, train_labels=x[:, 0, 0, 0])]


@_limited
def _read_own_image(path):
  """As of a folder of images: in its own size and mode where they may be, and made to fit."""
  with contextlib.suppress(ValueError):
    assert images._read_image(path, None, None).dtype == np.uint8
  for channels in (1, 3):
    assert images._read_image(path, 4, channels).shape == (4, 4, channels)


_CACHED = np.arange(80, dtype=np.uint8).reshape(20, 2, 2, 1)


def _cache_in(folder):
  """A cache whose stamps are the same wherever and whenever it is written."""
  def write(place):
    for name, rows in (('train', _CACHED), ('test', _CACHED[:3])):
      files.write_rows(place / f'{name}.npy', rows.shape, np.uint8, [rows])
      os.utime(place / f'{name}.npy', ns=(0, 0))
    return {'carve': 5}

  place = folder / 'cache'
  if not place.exists():
    cache.ensure(place, write)
  return place


def _cache_seeds(name):
  """A file of the cache; meta.json also as it was before it had a sha256."""
  with tempfile.TemporaryDirectory() as folder:
    content = (_cache_in(pathlib.Path(folder)) / name).read_bytes()
  meta = json.loads(content)
  if 'sha256' not in meta:
    return [content]
  del meta['sha256']
  return [content, json.dumps(meta).encode()]


def _read_cache(folder):
  trouble = cache.problem(folder)
  if trouble:
    raise ValueError(trouble)
  found = cache.read(folder, 'x')
  for split, rows in (('train', _CACHED[:15]), ('validation', _CACHED[15:]), ('test', _CACHED[:3])):
    np.testing.assert_array_equal(getattr(found, split).x, rows)


def _read_cache_meta(content, folder):
  place = _cache_in(folder)
  (place / 'meta.json').write_bytes(content)
  _read_cache(place)


def _read_cache_stamp(content, folder):
  """It spares the hash of what is large; what is wrong with it is written anew."""
  place = _cache_in(folder)
  (place / 'stamp.json').write_bytes(content)
  with mock.patch.object(cache, 'VERIFY_BYTES', 0):
    assert not cache.problem(place)
  if json.loads((place / 'stamp.json').read_text()) != _or_none(content):
    raise ValueError('written anew')


def _or_none(content):
  try:
    return json.loads(content)
  except (ValueError, RecursionError):
    return None


TARGETS = {
  'npz': Target(_npz_seeds, _read_npz),
  'npz_mapped': Target(_npz_seeds, _map('.npz')),
  'npy_mapped': Target(_npy_seeds, _map('.npy')),
  'table': Target(_npy_seeds, to_file('x.npy', tabular.read_npy)),
  'table_text': Target(lambda: [b'a,b,c\n1,2,3\n4.5,1e3,-7\n', b'x y z\n1,nan,2\n'], to_file(
    'x.csv', lambda path: density_tables._read_text(path, 3, ','))),
  'csv': Target(lambda: [b'"a";"b";"c"\n1;2;3\n4.5;"1e3";-7\n', b'\xef\xbb\xbfa;x;b\r\n1;;nan\r\n'],
                to_file('x.csv', lambda path: tabular.read_csv(path, ('b', 'a'), ';'))),
  'images': Target(_image_seeds, _read_images),
  'archive': Target(_archive_seeds, _read_archive),
  'own_image': Target(_image_seeds, to_file('x.png', _read_own_image)),
  'own_images': Target(_own_images_seeds, to_file('x.npz', images.load_npz)),
  'cache_meta': Target(lambda: _cache_seeds('meta.json'), _read_cache_meta),
  'cache_stamp': Target(lambda: _cache_seeds('stamp.json'), _read_cache_stamp),
}
