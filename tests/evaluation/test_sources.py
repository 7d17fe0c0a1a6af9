"""Sets of images: order, sizes, modes, and files that cannot be read."""
import io
import os
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from mollification.evaluation import sources


def pixels(seed, *shape):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def everything(source, size=3):
  starts = range(0, source.n, size)
  return [image for i in starts for image in source.piece(i, min(i + size, source.n))]


@pytest.fixture
def folder(tmp_path):
  """Images of two sizes, at two depths, with extensions in both cases."""
  root = tmp_path / 'images'
  (root / 'deep').mkdir(parents=True)
  shapes = {'b.png': (8, 6), 'a.PNG': (8, 6), 'deep/c.bmp': (8, 6), 'deep/a.png': (5, 5),
            'z.png': (8, 6)}
  images = {name: pixels(i, *shape, 3) for i, (name, shape) in enumerate(shapes.items())}
  for name, image in images.items():
    Image.fromarray(image).save(root / name)
  (root / 'notes.txt').write_text('no image')
  return root, [images[name] for name in ('deep/a.png', 'a.PNG', 'b.png', 'deep/c.bmp', 'z.png')]


def same(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('size', [1, 2, 100])
def test_a_folder_at_any_depth_in_order_of_size_and_name(folder, size):
  root, expected = folder
  source = sources.open_images(root)
  assert (source.n, source.split) == (5, 'all')
  same(everything(source, size), expected)
  assert any('2 sizes' in note for note in source.notes)
  assert any('BMP, PNG' in note for note in source.notes)
  assert source.formats == {'PNG': 4, 'BMP': 1}
  assert source.sizes == {'5x5': 1, '6x8': 4}


def test_of_many_sizes_the_frequent_ones_are_counted(tmp_path):
  for i in range(sources.COUNTED + 5):
    Image.fromarray(pixels(i, 4, i % (sources.COUNTED + 2) + 1, 3)).save(tmp_path / f'{i:02}.png')
  sizes = sources.open_images(tmp_path).sizes
  assert (sizes['1x4'], sizes['3x4'], sizes['others']) == (2, 2, 2)
  assert sum(sizes.values()) == sources.COUNTED + 5


def side(name, formats=(), sizes=()):
  return {'name': name, 'formats': dict.fromkeys(formats, 2), 'sizes': dict.fromkeys(sizes, 2)}


def test_what_else_differs_between_two_sets():
  known = side('a', ['PNG'], ['32x32'])
  assert sources.differences(known, side('b', ['array', 'BMP'], ['32x32'])) == []
  assert sources.differences(known, {'name': 'statistics of others'}) == []
  compressed, resized = sources.differences(
    known, side('b', ['PNG', 'JPEG'], ['64x64', '1x1', '2x2', '3x3']))
  assert compressed == ('a holds images of PNG and b of PNG, JPEG: compression alone moves the '
                        'features')
  assert resized == ('a holds images of 32x32 and b of 64x64, 1x1, 2x2, ...: resizing alone moves '
                     'the features')
  photographs = [side(name, sizes=[f'{name}1', f'{name}2']) for name in 'ab']
  assert sources.differences(*photographs) == []


def test_links_to_folders_are_followed_once_and_what_macos_adds_is_no_image(folder, tmp_path):
  root, expected = folder
  (tmp_path / 'linked').mkdir()
  (tmp_path / 'linked' / 'all').symlink_to(root)
  (root / 'deep' / 'round').symlink_to(root)
  (root / '._a.png').write_bytes(b'resource fork')
  source = sources.open_images(tmp_path / 'linked')
  same(everything(source), expected)
  os.utime(root / 'z.png', (0, 0))
  touched = sources.open_images(tmp_path / 'linked')
  assert (touched.listing, touched.content != source.content) == (source.listing, True)


def _archive_of_paths(path, names, link):
  """A zip of an image under each name, and at `link` a symbolic link to /etc/passwd."""
  stream = io.BytesIO()
  Image.fromarray(pixels(0, 4, 4, 3)).save(stream, 'PNG')
  with zipfile.ZipFile(path, 'w') as archive:
    for name in names:
      archive.writestr(name, stream.getvalue())
    if link:
      info = zipfile.ZipInfo(link)
      info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
      archive.writestr(info, '/etc/passwd')


@pytest.mark.parametrize('link', ['', 'link.png'])
def test_an_archive_is_never_extracted(tmp_path, monkeypatch, link):
  """Its names are names, not places: up, absolute, through a link."""
  work = tmp_path / 'a' / 'b'
  work.mkdir(parents=True)
  names = ['../x.png', '../../../x.png', str(tmp_path / 'outside.png'), 'within/x.png']
  _archive_of_paths(work / 'set.zip', names, link)
  monkeypatch.chdir(work)
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  everywhere = lambda: sorted(tmp_path.rglob('*'))
  before = everywhere()
  if link:   # its content is a path, which is no image
    with pytest.raises(ValueError, match=r'1 of 5 images cannot be read: link\.png \(no image\)'):
      sources.open_images('set.zip')
  else:
    source = sources.open_images('set.zip')
    same(everything(source), [pixels(0, 4, 4, 3)] * 4)
  assert everywhere() == before


def test_a_zip_is_its_folder(folder, tmp_path):
  root, expected = folder
  with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as archive:
    for path in root.rglob('*.*'):
      archive.write(path, path.relative_to(root))
  same(everything(sources.open_images(tmp_path / 'set.zip')), expected)


@pytest.mark.parametrize('name', ['x.npy', 'x.npz'])
def test_arrays(tmp_path, name):
  x = pixels(0, 7, 4, 4, 3)
  (np.save if name.endswith('y') else np.savez)(tmp_path / name, x)
  source = sources.open_images(tmp_path / name)
  same(everything(source), list(x))
  grey = sources.from_array(x[..., 0], 'grey')
  assert grey.piece(0, 2).shape == (2, 4, 4, 1)


def test_data_sets_by_name():
  source = sources.open_images('digits')
  assert (source.name, source.split) == ('digits', 'test')
  assert sources.open_images('digits', split='full_train').n == 1257
  assert source.levels == 17
  assert '17 grey levels' in sources.notes_on_levels('digits', 17)[0]


def test_modes_are_converted_and_said_once(tmp_path):
  rgb = pixels(0, 4, 4, 3)
  alpha = np.concatenate([rgb, pixels(1, 4, 4, 1)], -1)
  Image.fromarray(alpha).save(tmp_path / 'a.png')
  Image.fromarray(rgb[..., 0]).save(tmp_path / 'b.png')
  deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 100
  Image.fromarray(deep).save(tmp_path / 'c.png')
  Image.fromarray(rgb).convert('P').save(tmp_path / 'd.png')
  source = sources.open_images(tmp_path)
  found = everything(source)
  assert all(image.shape == (4, 4, 3) for image in found)
  np.testing.assert_array_equal(found[0], rgb)
  np.testing.assert_array_equal(found[1], np.repeat(rgb[..., :1], 3, -1))
  np.testing.assert_array_equal(found[2][..., 0], np.minimum(deep, 255))
  assert len(source.notes) == 3
  for part, note in zip(('alpha', '16 bits', 'grey'), source.notes):
    assert note.startswith('1 of 4 images')
    assert part in note


def test_grey_files_stay_grey_where_that_is_wanted_and_all_are(tmp_path):
  grey = [pixels(i, 4, 4) for i in range(3)]
  for i, image in enumerate(grey):
    Image.fromarray(image).save(tmp_path / f'{i}.png')
  with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as archive:
    for path in tmp_path.glob('*.png'):
      archive.write(path, path.name)
  for where in (tmp_path, tmp_path / 'set.zip'):
    source = sources.open_images(where, grey=True)
    same(everything(source), [image[..., None] for image in grey])
    assert source.notes == (f'3 of 3 images of {where} are grey and stay so',)
    assert everything(sources.open_images(where))[0].shape == (4, 4, 3)
  Image.fromarray(pixels(3, 4, 4, 3)).save(tmp_path / 'z.png')
  mixed = sources.open_images(tmp_path, grey=True)
  assert [image.shape for image in everything(mixed)] == [(4, 4, 3)] * 4
  assert mixed.notes == (f'3 of 4 images of {tmp_path} are grey and become RGB',)


def test_deep_colours_and_transparent_palettes_are_said(tmp_path):
  """Pillow reads the former as 8 bits and says nothing."""
  rows = b''.join(b'\0' + bytes([255, 0] * 3 * 4) for _ in range(4))
  chunk = lambda kind, body: (struct.pack('>I', len(body)) + kind + body
                              + struct.pack('>I', zlib.crc32(kind + body)))
  (tmp_path / 'deep.png').write_bytes(
    b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 4, 4, 16, 2, 0, 0, 0))
    + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
  Image.fromarray(pixels(0, 4, 4, 3)).convert('P').save(tmp_path / 'p.png', transparency=0)
  notes = sources.open_images(tmp_path).notes
  assert [note.split(' of ', 1)[0] for note in notes] == ['1', '1']
  assert 'alpha' in notes[0]
  assert '16 bits' in notes[1]


def test_other_images_under_the_same_name_have_another_content(tmp_path):
  def content(name='x', value=0):
    (tmp_path / name).mkdir(exist_ok=True)
    for i in range(2):
      path = tmp_path / name / f'{i}.png'
      Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
      os.utime(path, (10**9, 10**9 + value))
    with zipfile.ZipFile(tmp_path / f'{name}.zip', 'w') as archive:
      for i in range(2):
        archive.write(tmp_path / name / f'{i}.png', f'{i}.png')
    np.save(tmp_path / f'{name}.npy', np.full((2, 4, 4, 1), value, np.uint8))
    return [sources.open_images(tmp_path / f'{name}{suffix}').content
            for suffix in ('', '.zip', '.npy')]

  first = content()
  assert first == content()
  assert all(a != b for a, b in zip(first, content(value=7)))
  assert len(set(first)) == 3


def test_an_archive_is_opened_once(tmp_path, monkeypatch):
  with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
    for i in range(300):
      buffer = io.BytesIO()
      Image.fromarray(pixels(i, 4, 4, 3)).save(buffer, 'PNG')
      archive.writestr(f'{i:03}.png', buffer.getvalue())
  opened, init = [], zipfile.ZipFile.__init__
  monkeypatch.setattr(zipfile.ZipFile, '__init__',
                      lambda self, *args: (opened.append(args), init(self, *args))[1])
  source = sources.open_images(tmp_path / 'a.zip')
  same(everything(source, 64), [pixels(i, 4, 4, 3) for i in range(300)])   # threads side by side
  assert len(opened) == 1


def test_images_that_cannot_be_read_are_counted_and_named(folder):
  root, _ = folder
  (root / 'bad.png').write_bytes(b'\x89PNG no')
  (root / 'empty.jpg').write_bytes(b'')
  with pytest.raises(ValueError, match=r'2 of 7 images .* bad\.png \(no image\), empty\.jpg'):
    sources.open_images(root)


def test_a_truncated_image_is_named(tmp_path):
  buffer = io.BytesIO()
  Image.fromarray(pixels(0, 64, 64, 3)).save(buffer, 'PNG')
  (tmp_path / 'a.png').write_bytes(buffer.getvalue())
  for name in ('b.png', 'c.png'):   # sound headers
    (tmp_path / name).write_bytes(buffer.getvalue()[:-5000])
  with pytest.raises(ValueError, match=r'2 of 3 images cannot be read: b\.png .*trunc.* c\.png'):
    everything(sources.open_images(tmp_path))


def test_room_is_not_made_for_more_pixels_than_an_image_may_claim(tmp_path):
  """A bitmap of which there is but the header: Pillow would make room for all that it claims."""
  stream = io.BytesIO()
  Image.new('RGB', (1, 1)).save(stream, 'BMP')
  content = bytearray(stream.getvalue())
  content[22:26] = struct.pack('<i', Image.MAX_IMAGE_PIXELS + 1)   # its height
  (tmp_path / 'a.bmp').write_bytes(content)
  with warnings.catch_warnings(record=True):   # as outside of tests, where they are errors
    warnings.simplefilter('default')
    before = list(warnings.filters)
    with pytest.raises(ValueError, match=r'1 of 1 images cannot be read: a\.bmp .*exceeds limit'):
      sources.open_images(tmp_path)
    assert warnings.filters == before   # they are the program's


def test_postscript_is_no_image_whatever_it_is_called(tmp_path):
  """Pillow would hand it to an interpreter, which runs what the file says."""
  Image.new('L', (4, 4)).save(tmp_path / 'a.png', 'EPS')
  with pytest.raises(ValueError, match=r'1 of 1 images cannot be read: a\.png \(no image\)'):
    sources.open_images(tmp_path)


def test_hashes_follow_pixels_shapes_and_order_and_go_on():
  x = pixels(0, 5, 4, 4, 3)

  def sha256(images, before=''):
    return sources.chained(before, [sources.digest(image) for image in images])

  whole, part = sha256(x), sha256(x[:3])
  assert whole == sha256(x[3:], part)
  first, last = x.copy(), x.copy()
  first[0, 0, 0, 0] ^= 1
  last[4, 0, 0, 0] ^= 1
  others = {sha256(first), sha256(last), sha256(x[::-1]), sha256(x.reshape(5, 2, 8, 3)), part}
  assert len(others | {whole}) == 6


def test_refusals(tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match=r'empty holds no images .*\.png'):
    sources.open_images(tmp_path / 'empty')
  Image.fromarray(pixels(0, 4, 4, 3)).save(tmp_path / 'empty' / 'one.png')
  with pytest.raises(ValueError, match='at least 2 images, got 1'):
    sources.open_images(tmp_path / 'empty')
  with pytest.raises(ValueError, match='--split is for data sets'):
    sources.open_images(tmp_path / 'empty', split='train')
  with pytest.raises(FileNotFoundError, match=r'nowhere is no folder.*digits'):
    sources.open_images('nowhere')
  with pytest.raises(ValueError, match=r"one of train, full_train.*got 'all'"):
    sources.open_images('digits', split='all')
  np.save(tmp_path / 'floats.npy', np.zeros((3, 4, 4, 3)))
  with pytest.raises(ValueError, match=r'must hold images uint8 .*got float64'):
    sources.open_images(tmp_path / 'floats.npy')
  np.save(tmp_path / 'objects.npy', np.array([{}], object), allow_pickle=True)
  with pytest.raises(ValueError, match='Python objects'):
    sources.open_images(tmp_path / 'objects.npy')
  (tmp_path / 'bad.zip').write_bytes(b'PK no')
  with pytest.raises(ValueError, match='is no zip archive'):
    sources.open_images(tmp_path / 'bad.zip')
  with zipfile.ZipFile(tmp_path / 'new.zip', 'w') as archive:
    archive.writestr('x.png', b'')
  content = (tmp_path / 'new.zip').read_bytes()   # the version that it takes: 9.9
  (tmp_path / 'new.zip').write_bytes(content.replace(b'\x01\x02\x14\x03\x14',
                                                     b'\x01\x02\x14\x03\x63'))
  with pytest.raises(ValueError, match=r'new.zip is no zip archive that can be read: .*9\.9'):
    sources.open_images(tmp_path / 'new.zip')
