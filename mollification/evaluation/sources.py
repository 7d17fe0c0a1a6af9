"""Images by name, in pieces: folders, zip archives, arrays in npy and npz files, data sets.

Order, and with it every sum, is a function of the names: files are sorted, those of one size
together, and of sizes that are padded to the same. An image that cannot be read is an error that
names it, never left out.
"""
import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

from mollification import data, notices, npz
from mollification.data import dataset
from mollification.data import images as image_data
from mollification.evaluation import resize

THREADS = 4
GREY = ('L', '1')   # modes of Pillow
SPLITS = ('train', 'full_train', 'validation', 'test')
LOSSY = ('JPEG', 'JPEG2000', 'MPO', 'WEBP')   # formats of Pillow that may lose what features see
COUNTED = 10   # sizes that are counted each; the others are counted together


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """`n` >= 2 images: `piece(start, stop)` are uint8 [H, W, 1 or 3], in a fixed order.

  A piece is an array, or a list where sizes may differ; every image may be read alone. `name` and
  `split` identify the set ('all' where there are no splits); `notes` are what people should know of
  it; `formats` and `sizes` count its images: {'PNG': 3}, or 'array', and {'32x32': 3}, width first.
  `content` is a hash that tells other images under the same name without decoding them: of the
  files' names, sizes and times (in an archive checksums), or of an array's shape and some of its
  means; `listing` is the same without times, which differ between machines. Of a data set, `levels`
  are its grey levels.
  """
  name: str
  split: str
  n: int
  piece: Callable = dataclasses.field(repr=False)
  notes: tuple = ()
  content: str = ''
  listing: str = ''
  levels: int | None = 256
  formats: dict = dataclasses.field(default_factory=dict)
  sizes: dict = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.n < 2:
      raise ValueError(f'{self.name} must hold at least 2 images, got {self.n}.')


def digest(image):
  """sha256 of the shape and pixels of an image, uint32 [8]."""
  found = hashlib.sha256(f'{image.shape} '.encode())
  found.update(np.ascontiguousarray(image))
  return np.frombuffer(found.digest(), '<u4')


def chained(sha256, digests):
  """sha256, as text, of the images so far ('' for none), and of those of `digests` [b, 8] after.

  A text is all that a run needs to go on, and a digest all that others need of an image.
  """
  for row in np.asarray(digests, '<u4'):
    sha256 = hashlib.sha256(sha256.encode() + row.tobytes()).hexdigest()
  return sha256


def open_images(where, *, split='', data_dir='', grey=False):
  """The `Source` of a folder, a zip archive, an npy or npz file, or a data set of TFDS.

  A path that exists comes before a name; `data_dir` and `split` ('train', 'full_train' (with what
  was carved out for validation), 'validation', 'test' (the default)) are for data sets. Files
  become RGB or, where `grey` is set and all of them are grey, one channel. Raises FileNotFoundError
  where there is nothing of that name, ValueError for fewer than 2 images and for files that cannot
  be read, which it counts and names.
  """
  path = pathlib.Path(where).expanduser()
  if path.exists() and split:
    raise ValueError(f'--split is for data sets, {where} is a file or folder; leave it out.')
  if path.is_dir():
    names = [name for name in _walk(path) if _is_image(name)]
    stamps = {name: (path / name).stat() for name in names}
    stamps = {name: (stamp.st_size, stamp.st_mtime_ns) for name, stamp in stamps.items()}
    return _files(str(where), names, lambda name: (path / name).open('rb'), stamps, grey)
  if path.suffix.lower() == '.zip' and path.is_file():
    return _zip(path, grey)
  if path.suffix.lower() in ('.npy', '.npz') and path.is_file():
    return from_array(_array(path), str(where))
  if where in data.DATASETS:
    return _dataset(where, split or 'test', data_dir)
  raise FileNotFoundError(
    f'{where} is no folder, .zip, .npy or .npz of images and no data set ('
    f'{", ".join(sorted(data.DATASETS))}); check the path.')


def _walk(path):
  """Names of all files below a folder, relative to it; links to folders are followed, once each."""
  seen = set()
  for folder, folders, names in os.walk(path, followlinks=True):
    seen.add(os.path.realpath(folder))
    folders[:] = [name for name in sorted(folders)
                  if os.path.realpath(os.path.join(folder, name)) not in seen]
    for name in names:
      if os.path.isfile(os.path.join(folder, name)):
        yield os.path.relpath(os.path.join(folder, name), path)


def from_array(images, name, split='all', notes=(), levels=256):
  """The `Source` of uint8 images [N, H, W, 1 or 3], or [N, H, W]; ValueError for others."""
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
    raise ValueError(f'{name} must hold images uint8 [N, H, W, 1 or 3], got {images.dtype} '
                     f'{images.shape}; quantise and transpose them first.')
  n, height, width, _ = images.shape
  content = _hash(dataset.summary(images))
  return Source(name, split, n, lambda start, stop: np.asarray(images[start:stop]), notes=notes,
                content=content, listing=content, levels=levels, formats={'array': n},
                sizes={f'{width}x{height}': n})


def _hash(what):
  return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def notes_on_levels(name, levels):
  """What people should know of images with so many grey levels (None: no images)."""
  if levels in (256, None):
    return ()
  return (f'{name} has {levels} grey levels; other extractors than its own see it dark',)


def _dataset(name, split, data_dir):
  if split not in SPLITS:
    raise ValueError(f'--split must be one of {", ".join(SPLITS)}, got {split!r}.')
  found = data.load(name, **({'data_dir': data_dir} if data_dir else {}))
  return from_array(getattr(found, split).x, name, split, levels=found.levels)


def _array(path):
  def choose(names):
    found = [name for name in ('arr_0', 'images', 'x') if name in names] or names
    if len(found) != 1:
      raise ValueError(f'one array of images wanted among {names}')
    return found[0]

  try:
    return npz.mapped(path, choose)
  except ValueError as error:
    raise ValueError(f'{path} holds no array of images: {error}; write it with '
                     'np.savez(path, arr_0=images).') from error


def _is_image(name):
  """By its ending; not what macOS puts beside each file of an archive."""
  return (name.lower().endswith(image_data.EXTENSIONS)
          and not os.path.basename(name).startswith('._'))


def _zip(path, grey):
  try:
    archive = zipfile.ZipFile(path)
    stamps = {info.filename: (info.file_size, info.CRC) for info in archive.infolist()
              if _is_image(info.filename)}
  except Exception as error:   # as above
    raise ValueError(f'{path} is no zip archive that can be read: {error}.') from error

  # Threads may read members of one archive; to open it anew reads its whole directory each time.
  return _files(str(path), list(stamps), archive.open, stamps, grey)


def _files(where, names, opened, stamps, grey):
  """The Source of image files, sorted by size and name; `stamps`: {name: what changes with it}.

  `opened(name)` is the file, open for reading: of its header no more is read than that.
  """
  if not names:
    raise ValueError(f'{where} holds no images ({", ".join(image_data.EXTENSIONS)}, any depth); '
                     'check the path.')
  dataset.require('PIL.Image', 'train')   # else each image would be one that cannot be read
  names = sorted(names)
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    seen = list(zip(pool.map(functools.partial(_header, opened), names), names))
  if any(isinstance(header, Exception) for header, _ in seen):
    raise _cannot_read(where, opened, names)
  seen.sort(key=lambda item: _rank(item[0][0]))   # stable: by name within a size
  ordered, headers = [name for _, name in seen], [header for header, _ in seen]
  grey = grey and all(mode in GREY for _, mode, _ in headers)
  decode = functools.partial(_decode, opened, mode='L' if grey else 'RGB')

  def piece(start, stop):
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
      found = list(pool.map(decode, ordered[start:stop]))
    if any(isinstance(image, Exception) for image in found):
      raise _cannot_read(where, opened, names)
    return found

  sizes = collections.Counter(f'{width}x{height}' for (width, height), _, _ in headers)
  return Source(where, 'all', len(ordered), piece, _notes(where, headers, grey), _hash(stamps),
                _hash({name: stamp[0] for name, stamp in stamps.items()}),
                formats=dict(collections.Counter(kind for *_, kind in headers)),
                sizes=_counted(sizes))


def _counted(sizes):
  """{size: count} of the most frequent, and 'others'."""
  found = dict(sizes.most_common(COUNTED))
  others = sizes.total() - sum(found.values())
  return found | ({'others': others} if others else {})


def _rank(size):
  """Sizes that are padded to the same come together: a batch of them is one program's."""
  return tuple(map(resize.bucket, size)), size


def _header(opened, name):
  """((width, height), mode, format) of an image file, or what reading it raised.

  The mode is Pillow's, but 'RGB;16' for the 16-bit colours that it reads as 8, and 'PA' for a
  palette with transparency.
  """
  try:
    with opened(name) as file, image_data.open_image(file) as image:
      mode = image.mode
      if mode in ('RGB', 'RGBA') and image.format == 'PNG':
        file.seek(24)   # bits of a channel, which Pillow does not tell
        mode += ';16' if file.read(1) == b'\x10' else ''
      if mode == 'P' and 'transparency' in image.info:
        mode = 'PA'
      return image.size, mode, image.format
  # Whatever a parser of a damaged file may raise.
  except Exception as error:
    return error


def _decode(opened, name, mode='RGB'):
  """uint8 [H, W, 3], as pytorch-fid converts: alpha is dropped, 16 bits become 8 (grey ones are
  clipped, of colours the high byte is left); [H, W, 1] for the mode 'L'.

  Returns what reading raised: a file may have a sound header and break off later.
  """
  try:
    with opened(name) as file, image_data.open_image(file) as image:
      pixels = np.asarray(image.convert(mode))
      return pixels[..., None] if mode == 'L' else pixels
  except Exception as error:
    return error


def _cannot_read(where, opened, names):
  """The ValueError that counts and names all images that cannot be read: each is decoded."""
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    broken = [f'{name} ({_reason(found)})'
              for name, found in zip(names, pool.map(functools.partial(_decode, opened), names))
              if isinstance(found, Exception)]
  return ValueError(f'{where}: {len(broken)} of {len(names)} images cannot be read: '
                    f'{", ".join(broken[:3])}{", ..." if len(broken) > 3 else ""}; mend or remove '
                    'them.')


def _reason(error):
  text = str(error)
  if 'cannot identify image file' in text:
    return 'no image'
  return text or type(error).__name__


def _notes(where, headers, grey):
  """What conversions and mixtures people should know of; `grey`: they are read as one channel."""
  modes = [mode for _, mode, _ in headers]
  formats, sizes = sorted({kind for *_, kind in headers}), len({size for size, *_ in headers})
  found = []
  deep = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'RGB;16', 'RGBA;16')
  for what, wanted in (
      ('have an alpha channel, which is dropped', ('RGBA', 'LA', 'PA', 'La', 'RGBA;16')),
      ('have 16 bits or more a channel, which become 8', deep),
      ('are grey and ' + ('stay so' if grey else 'become RGB'), GREY)):
    count = sum(mode in wanted for mode in modes)
    if count:
      found.append(f'{count} of {len(modes)} images of {where} {what}')
  if sizes > 1:
    found.append(f'{where} holds images of {sizes} sizes, each resized for itself')
  if len(formats) > 1:
    found.append(f'{where} mixes {", ".join(formats)}: compression moves the features')
  return tuple(found)


def differences(own, other):
  """Notes on what moves features beside the images' content, between two sets.

  Each is a dict with 'name' and, where they are known, the `formats` and `sizes` of a `Source`.
  Nothing is said of sizes where both sets hold several: photographs differ.
  """
  found, names = [], (own['name'], other['name'])
  formats, sizes = ([side.get(key) or {} for side in (own, other)] for key in ('formats', 'sizes'))
  lossy = [set(side) & set(LOSSY) for side in formats]
  if all(formats) and lossy[0] != lossy[1]:
    found.append(_differ(names, formats, 'compression'))
  if all(sizes) and set(sizes[0]) != set(sizes[1]) and min(map(len, sizes)) == 1:
    found.append(_differ(names, sizes, 'resizing'))
  return found


def _differ(names, kinds, what):
  listed = [', '.join([*list(side)[:3], *['...'] * (len(side) > 3)]) for side in kinds]
  return (f'{names[0]} holds images of {listed[0]} and {names[1]} of {listed[1]}: {what} alone '
          'moves the features')


def state_notes(notes):
  """Print notes, as a `Source` has them, to stderr."""
  for note in notes:
    notices.say(f'note: {note}')
