"""Image sets: TFDS (read once, then cached), folders of image files, npz archives.

TensorFlow is imported inside functions, and only where a cache must be built.
"""
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import pathlib
import re
import urllib.parse

import numpy as np

from mollification import files, npz
from mollification.data import cache, dataset

CARVE = 5_000  # validation examples taken from the end of train, or a tenth of it if that is less
# What those files may be, whatever they are called: of its other formats Pillow hands PostScript to
# an interpreter of it.
FORMATS = ('PNG', 'JPEG', 'BMP', 'WEBP', 'TIFF', 'PPM')
EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
_BATCH = 512
_TIMEOUT = 10   # seconds without an answer


@dataclasses.dataclass(frozen=True)
class Source:
  """A TFDS builder and the event shape that is made of its images.

  Where the builder has no test split, its validation split is the test set.
  """
  builder: str
  event_shape: tuple
  crop: tuple = ()   # (top, left, side) of a square that is then resized to event_shape


SOURCES = {
  'mnist': Source('mnist', (28, 28, 1)),
  'fashion_mnist': Source('fashion_mnist', (28, 28, 1)),
  'svhn_cropped': Source('svhn_cropped', (32, 32, 3)),
  'cifar10': Source('cifar10', (32, 32, 3)),
  'celeba64': Source('celeb_a', (64, 64, 3), crop=(40, 15, 148)),
  'downsampled_imagenet32': Source('downsampled_imagenet/32x32', (32, 32, 3)),
  'downsampled_imagenet64': Source('downsampled_imagenet/64x64', (64, 64, 3)),
}


def carved(n):
  """Validation examples that are taken from the end of `n` training examples."""
  carve = min(CARVE, n // 10)
  if not carve:
    raise ValueError(f'{n} training images leave none for validation; 10 or more are needed.')
  return carve


def resize(image, size):
  """uint8 [H, W, C], its central square resized to size × size.

  Pillow's bilinear filter, which averages over the whole footprint of a pixel (antialias).
  """
  pillow = dataset.require('PIL.Image', 'data')
  side = min(image.shape[:2])
  top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
  square = image[top:top + side, left:left + side]
  squeezed = square[..., 0] if square.shape[-1] == 1 else square
  resized = pillow.fromarray(squeezed).resize((size, size), pillow.Resampling.BILINEAR)
  return np.asarray(resized).reshape(size, size, -1)


# --- TFDS ---------------------------------------------------------------------------------------

def _tfds():
  # TensorFlow reads records here; left alone it would take the memory of the GPU that JAX needs.
  tensorflow = dataset.require('tensorflow', 'data')
  with contextlib.suppress(RuntimeError):  # the caller has initialised it already, and decided
    tensorflow.config.set_visible_devices([], 'GPU')
  return dataset.require('tensorflow_datasets', 'data')


def _prepared(tfds, source, data_dir):
  """The TFDS builder with its data on disk; RuntimeError names the command and the folder.

  Of several processes that miss them one prepares them, and the others find what it left.
  """
  builder = tfds.builder(source.builder, data_dir=data_dir)
  if builder.is_prepared():
    return builder
  try:
    data_dir.mkdir(parents=True, exist_ok=True)
    with cache.locked(data_dir):
      builder = tfds.builder(source.builder, data_dir=data_dir)
      if not builder.is_prepared():
        _reach(builder, data_dir)
        builder.download_and_prepare()
  except Exception as error:  # whatever the network, the disk or a parser may raise
    reason = (str(error).splitlines() or [''])[0]
    raise RuntimeError(
      f'{source.builder} is not prepared in {data_dir}, and preparing it failed '
      f'({type(error).__name__}: {reason}); run `tfds build {source.builder} '
      f'--data_dir={data_dir}` where there is a network and copy the folder, or put the original '
      f'archives into {data_dir}/downloads/manual and run this again.') from error
  return builder


def _reach(builder, data_dir):
  """Raise OSError at once where a file of `builder` is on a host that cannot be reached.

  TFDS itself tries for minutes, and logs each try. Archives that are there need no network.
  """
  import requests  # comes with tensorflow-datasets
  downloads = data_dir / 'downloads'
  names = {path.name for path in downloads.rglob('*')}
  known = ''.join(path.read_text(errors='replace') for path in downloads.glob('*.INFO'))
  for url, info in _wanted(builder).items():
    if url in known or info.filename in names:
      continue
    try:
      requests.head(url, timeout=_TIMEOUT)   # any answer will do
    except requests.exceptions.RequestException as error:
      raise OSError(f'{urllib.parse.urlsplit(url).hostname} cannot be reached') from error
    return


def _wanted(builder):
  """{url: UrlInfo} of what `builder` downloads: TFDS lists the files of all configs together."""
  config = builder.builder_config
  own = {url: info for url, info in builder.url_infos.items()
         if config is not None and config.name in info.filename}
  return own or builder.url_infos


def _read_split(tfds, builder, split):
  """Batches {'image': uint8 [B, H, W, C], 'label': ...} in the order of the records."""
  wanted = {key: True for key in ('image', 'label') if key in builder.info.features}
  return builder.as_dataset(
    split=split, batch_size=_BATCH, shuffle_files=False,
    decoders=tfds.decode.PartialDecoding(wanted),
    # Shard after shard, and no copy of the whole set in memory.
    read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
  ).as_numpy_iterator()


def _convert(images, source):
  """uint8 [B, *source.event_shape] of raw images: cropped and resized where the source says so."""
  if source.crop:
    top, left, side = source.crop
    window = images[:, top:top + side, left:left + side]
    return np.stack([resize(image, source.event_shape[0]) for image in window])
  return images


def _write_tfds(tfds, builder, source, folder):
  """Writes the splits of `builder` into `folder`; returns the meta of the cache."""
  present = builder.info.splits
  names = {'train': 'train', 'test': 'test' if 'test' in present else 'validation'}
  if names['test'] == 'test' and 'validation' in present:
    names['validation'] = 'validation'
  for name, split in names.items():
    n, labels = present[split].num_examples, []

    def images(split=split, labels=labels):
      for batch in _read_split(tfds, builder, split):
        labels.extend([batch['label']] if 'label' in batch else [])
        yield _convert(batch['image'], source)

    files.write_rows(folder / f'{name}.npy', (n, *source.event_shape), np.uint8, images())
    if labels:
      np.save(folder / f'{name}.labels.npy', np.concatenate(labels).astype(np.int32))
  carve = 0 if 'validation' in names else carved(present['train'].num_examples)
  return {'carve': carve, 'source': builder.info.full_name, 'tfds_version': tfds.__version__,
          'tfds_splits': names, 'crop': list(source.crop)}


def _newest(parent):
  """The sound cache of the highest version below `parent`, or None: needs no TFDS to know it."""
  found = [p for p in parent.glob('[0-9]*') if re.fullmatch(r'\d+\.\d+\.\d+', p.name)]
  found.sort(key=lambda p: tuple(map(int, p.name.split('.'))), reverse=True)
  return next(filter(cache.sound, found), None)


def load(name, *, data_dir='', cache_dir=''):
  """An image set of `SOURCES` as memory maps, uint8 [N, H, W, C], levels 256.

  The first load reads TFDS in `data_dir` ('' for ~/tensorflow_datasets; it is downloaded there if
  missing) and fills `<cache_dir>/<name>/<version>`; later ones need no TensorFlow, and no data_dir:
  a name and a version are one data set, wherever it was prepared. Where TFDS has no validation
  split (all but celeba64), the last 5,000 of train, or a tenth if that is less, are held out, and
  `full_train` is both. downsampled_imagenet: TFDS's validation split is test. celeba64: the square
  of 148 pixels from left 15, top 40, resized to 64 as in `resize`.

  ValueError for an unknown name, RuntimeError where the data cannot be prepared (it names the TFDS
  command and the folder for archives), ImportError without the extra `data`.
  """
  if name not in SOURCES:
    raise ValueError(f'no image set {name!r}; choose one of {sorted(SOURCES)}.')
  source, parent = SOURCES[name], cache.root(cache_dir) / name
  folder = _newest(parent)
  if folder is not None:
    return cache.read(folder, name)
  tfds = _tfds()
  data_dir = pathlib.Path(str(data_dir) or '~/tensorflow_datasets').expanduser()
  builder = _prepared(tfds, source, data_dir)
  folder = cache.ensure(parent / str(builder.version),
                        lambda place: _write_tfds(tfds, builder, source, place))
  return cache.read(folder, name)


# --- folders ------------------------------------------------------------------------------------

def _listing(path):
  """The image files below `path`, hidden ones left out, sorted by their relative path."""
  found = (p for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS and p.is_file()
           and not p.name.startswith('.'))
  return sorted(found, key=lambda p: p.relative_to(path).as_posix())


def open_image(file):
  """The Pillow image of a path or an open file, of one of `FORMATS`, not yet decoded.

  ValueError where its header claims more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (89 million):
  Pillow makes room for all of them before it reads any, and up to twice as many it only warns of.
  """
  pillow = dataset.require('PIL.Image', 'data')
  way_out = ('shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS (None for no limit) in a program of '
             'yours')
  try:
    image = pillow.open(file, formats=FORMATS)
  except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
    raise ValueError(f'{str(error).rstrip(".")}; {way_out}') from error
  width, height = image.size
  if pillow.MAX_IMAGE_PIXELS is not None and width * height > pillow.MAX_IMAGE_PIXELS:
    image.close()
    raise ValueError(f'Image size {width} × {height} ({width * height} pixels) exceeds limit of '
                     f'{pillow.MAX_IMAGE_PIXELS} pixels; {way_out}')
  return image


def _read_image(path, size, channels):
  """uint8 [H, W, C] of one file; ValueError names it."""
  dataset.require('PIL.Image', 'data')   # that it is missing is no fault of the file
  try:
    with open_image(path) as image:
      mode = image.mode
      if channels and mode[0] not in 'IF':  # 16-bit and float pixels would be clipped
        image = image.convert('L' if channels == 1 else 'RGB')
        mode = image.mode
      pixels = np.asarray(image)
  except Exception as error:   # its many parsers raise what they like
    raise ValueError(f'{path}: not a readable image ({error}); remove or replace it.') from error
  if mode not in ('L', 'RGB'):
    raise ValueError(f'{path}: pixels are {mode}, but 8-bit grey (L) or RGB is read; convert the '
                     'file, or set data.channels=3 (or 1) to have 8-bit modes converted.')
  pixels = pixels.reshape(*pixels.shape[:2], -1)
  return resize(pixels, size) if size else pixels


def _image_batches(listed, first, expected, size, channels):
  """Batches [B, H, W, C] of `listed`; ValueError names the first whose shape is not `expected`."""
  read = functools.partial(_read_image, size=size, channels=channels)
  with concurrent.futures.ThreadPoolExecutor() as pool:  # Pillow decodes outside the GIL
    for start in range(0, len(listed), _BATCH):
      batch = listed[start:start + _BATCH]
      images = list(pool.map(read, batch))
      for path, image in zip(batch, images):
        if image.shape != expected:
          raise ValueError(f'{path}: height, width, channels are {image.shape}, those of {first} '
                           f'{expected}; set data.size=64 (say) to crop and resize all images, '
                           'and data.channels=3 (or 1) to convert them.')
      yield np.stack(images)


def _folder_splits(path, listed, seed):
  """({split: files}, validation examples to carve off train)."""
  own = {name: [p for p in listed if p.relative_to(path).parts[0] == name]
         for name in dataset.SPLITS if (path / name).is_dir()}
  if own.get('train') and own.get('test'):
    own = {name: found for name, found in own.items() if found}
    return own, 0 if 'validation' in own else carved(len(own['train']))
  held = len(listed) // 20
  if not held:
    raise ValueError(f'{path}: {len(listed)} images; a split 90/5/5 needs at least 20.')
  order = [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]
  return {'train': order[:-held], 'test': order[-held:]}, held


def load_folder(path, *, size=None, channels=None, seed=0, cache_dir=''):
  """The images below the folder `path` (LSUN that way), uint8 [N, H, W, C], levels 256, cached.

  All must be of one size and mode, 8-bit grey or RGB, unless `size` is given (central square,
  then `resize`) and `channels` (1 or 3: converted, alpha dropped). Subfolders `train` and `test`
  (and `validation`, else the end of train) are the splits; where they are not there, the sorted
  files are permuted by `seed` and split 90/5/5. A change of the files or options is a new cache.

  FileNotFoundError for no folder or no images in it; ValueError naming the first bad file.
  """
  path = pathlib.Path(path).expanduser()
  if (size is not None and size < 1) or channels not in (None, 1, 3):
    raise ValueError(f'size must be positive and channels 1 or 3, got {size} and {channels}.')
  if not path.is_dir():
    raise FileNotFoundError(f'no folder {path}; set data.data_dir to the folder of images.')
  listed = _listing(path)
  if not listed:
    raise FileNotFoundError(f'no image files ({", ".join(EXTENSIONS)}) below {path}.')
  state = [f'{size} {channels} {seed}']
  state += [f'{p.relative_to(path)} {p.stat().st_size} {p.stat().st_mtime_ns}' for p in listed]
  version = hashlib.sha256('\n'.join(state).encode(errors='surrogateescape')).hexdigest()[:16]

  def write(place):
    splits, carve = _folder_splits(path, listed, seed)
    first = splits['train'][0]
    shape = _read_image(first, size, channels).shape
    for name, members in splits.items():
      files.write_rows(place / f'{name}.npy', (len(members), *shape), np.uint8,
                       _image_batches(members, first, shape, size, channels))
    return {'carve': carve, 'source': str(path), 'size': size, 'channels': channels, 'seed': seed}

  name = f'folder/{path.resolve().name}'
  return cache.read(cache.ensure(cache.root(cache_dir) / name / version, write), name)


# --- npz ----------------------------------------------------------------------------------------

def load_npz(path):
  """An .npz with uint8 arrays `train` and `test` [N, H, W, C], levels 256.

  Optional: `validation` (else the last 5,000 of train, or a tenth if that is less), and
  `<split>_labels`, integers [N]. Nothing is unpickled. FileNotFoundError or ValueError for a file
  that is not there or not that.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f'no file {path}; set data.data_dir to an .npz archive.')
  try:
    found = npz.read(path)
  except ValueError as error:
    raise ValueError(f'{path}: not an .npz archive of plain arrays ({error}); write it with '
                     'np.savez(path, train=..., test=...).') from error
  missing = [name for name in ('train', 'test') if name not in found]
  if missing:
    raise ValueError(f'{path}: no array {missing[0]!r} among {sorted(found)}; name the arrays '
                     'train, test and, optionally, validation and <split>_labels.')
  for name in dataset.SPLITS:
    if name in found:
      dataset.check_images(found[name], f'{path}, array {name}')
  splits = {name: dataset.Split(name, found[name], found.get(f'{name}_labels'))
            for name in dataset.SPLITS if name in found}
  if 'validation' not in splits:
    splits |= carve_arrays(splits['train'])
  return dataset.Dataset(f'npz/{path.stem}', **splits, levels=256)


def carve_arrays(split):
  """Dataset fields train, validation and carved_from: `carved` examples off the end of train."""
  edge = split.num_examples - carved(split.num_examples)
  labels = split.labels
  parts = {'train': slice(None, edge), 'validation': slice(edge, None)}
  fields = {name: dataset.Split(name, split.x[rows], None if labels is None else labels[rows])
            for name, rows in parts.items()}
  return fields | {'carved_from': dataset.Split('full_train', split.x, labels)}
