"""Feature extractors: uint8 [B, H, W, C] -> [B, F], each known by name and sha256."""
import concurrent.futures
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from mollification import parallel
from mollification.evaluation import (
  batching,
  classifiers,
  efficientnet,
  inception,
  resize,
  sources,
  weights,
)

# Images per device and call. Image i always stands at place i mod 32 of a batch of 32, so that its
# features are the same bits on any number of devices, whatever they are read in.
DEVICE_BATCH = 32
DATASETS = {'digits': 'digits_cnn_8x8', 'fashion_mnist': 'fashion_mnist_cnn_28x28'}
FIXED = sorted(classifiers.CLASSIFIERS)
PRECISIONS = ('float32', 'float64')
# What a name may be; the network's input size is part of it.
NAMES = (*FIXED, *(f'inception_{mode}' for mode in resize.MODES), 'efficientnet_lite0_SIZE')


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
  """A fixed network: uint8 images [B, *image_shape] -> {output: [B, F]}, of type `precision`.

  `image_shape` is None where the network takes images of any size, grey or RGB; `resizing` is then
  (mode of `resize`, side). Two stages: `prepare(images, rows, columns)`, compiled once per
  `resize.bucket` of the images' sides, with the weights of `resize.resample`, and `apply(variables,
  x)`, compiled once. The output 'features' is there always; inception has 'logits_unbiased' and
  'spatial' besides.
  `name` says the network and its input size, `sha256` is that of the weights (of their file, or of
  Inception's arrays) and `input_mode` how images become its input; all three belong in the record
  of every figure made of them. `origin` is where the weights come from, if that is a question, and
  `verified` is False for Inception weights that are not of a known file.
  """
  name: str
  sha256: str
  image_shape: tuple | None
  variables: dict = dataclasses.field(repr=False)
  apply: Callable = dataclasses.field(repr=False)
  prepare: Callable | None = dataclasses.field(default=None, repr=False)
  resizing: tuple = ()
  input_mode: str = 'uint8'
  origin: str = ''
  verified: bool = True
  precision: str = 'float32'

  @functools.cached_property
  def mapped(self):
    """`apply` over all local devices."""
    return parallel.pmap_examples(self.apply)

  @functools.cached_property
  def prepared(self):
    """`prepare` over all local devices."""
    return parallel.pmap_examples(lambda _, *inputs: self.prepare(*inputs))

  def outputs(self, variables, blocks):
    """{output: [n, B/n, F]} on the devices, of the [_Block] of a batch."""
    with self.types():
      return self.mapped(variables, _prepared(self, blocks))

  def types(self):
    """The context in which JAX has this network's types."""
    return jax.enable_x64(self.precision == 'float64')

  @property
  def grey(self):
    """Whether the network takes images of one channel alone."""
    return bool(self.image_shape) and self.image_shape[-1] == 1

  def check(self, images):
    """Raise ValueError unless `images` are what the network takes.

    Floats are refused, whose rounding would be a choice made here, and so are other sizes where
    there is no rule for resizing.
    """
    shape = self.image_shape
    fits = images.shape[1:] == shape if shape else (
      images.ndim == 4 and images.shape[-1] in (1, 3) and min(images.shape[1:3]) > 0)
    if images.dtype != np.uint8 or not fits:
      wanted = shape or ('H', 'W', '1 or 3')
      raise ValueError(f'{self.name} takes uint8 images [N, *{wanted}], got {images.dtype} '
                       f'{images.shape}; convert them, quantise samples with Prepare.invert, or '
                       'choose other --features.')


def is_own(extractor, dataset):
  """Whether the network is that of the data set of this name, and so knows its grey levels."""
  return DATASETS.get(dataset) == extractor.name


class _Block(NamedTuple):
  """Images of one bucket, each at its own place in a batch, as `prepare` takes them.

  `own` [B] says which places; nobody reads the others.
  """
  own: np.ndarray
  images: np.ndarray
  rows: np.ndarray | None = None
  columns: np.ndarray | None = None


def stream(extractor, source, *, start=0, device_batch=DEVICE_BATCH):
  """Yields {output: [b, F]} of images start, ..., source.n - 1 in order, padding dropped.

  `source` has `n` and `piece(start, stop)`, the uint8 images [H, W, C] of those numbers, as an
  array or, of several sizes, a list; 'image_sha256' uint32 [b, 8] is among the outputs. Of several
  processes, which must all be given the same source, each reads its share of the batches and runs
  the network on it, and all yield the features of all: what is summed, and in which order, is the
  same bits for any number of processes. Raises ValueError as `Extractor.check`.
  """
  size = piece_size(device_batch)
  with extractor.types():
    variables = parallel.place(extractor.variables)
  pending = None
  for counts, digests, blocks in _rounds(extractor, source, start, size):
    outputs = extractor.outputs(variables, blocks)
    if pending is not None:   # one batch is in flight while the one before is read
      yield from _read(*pending)
    pending = counts, digests, outputs
  if pending is not None:
    yield from _read(*pending)


def piece_size(device_batch=DEVICE_BATCH):
  """Images that all local devices take at once."""
  return device_batch * jax.local_device_count()


def extract(extractor, images, device_batch=DEVICE_BATCH):
  """Features [N, F] of images uint8 [N, H, W, C], N >= 1, in their order.

  Every image counts, once. Raises ValueError as `Extractor.check`, and for N = 0.
  """
  extractor.check(images)
  if not len(images):
    raise ValueError(f'{extractor.name} takes uint8 images [N, ...], N > 0, got {images.shape}.')
  source = _Images(len(images), lambda start, stop: images[start:stop])
  return np.concatenate(
    [out['features'] for out in stream(extractor, source, device_batch=device_batch)])


class _Images(NamedTuple):
  n: int
  piece: Callable


def _rounds(extractor, source, start, size):
  """(images in each batch of a round, digests [size, 8] and blocks of this process's): a batch a
  process.

  In a last round that is short, those without a batch run the last one, and nobody reads it. The
  next batch is read while one is worked on.
  """
  processes, starts = jax.process_count(), range(start, source.n, size)
  rounds = [starts[i:i + processes] for i in range(0, len(starts), processes)]

  def read(taken):
    first = taken[min(jax.process_index(), len(taken) - 1)]
    images = source.piece(first, min(first + size, source.n))
    blocks = _blocks(extractor, images, size)
    digests = np.zeros((size, 8), np.uint32)
    digests[:len(images)] = [sources.digest(image) for image in images]
    return [min(size, source.n - first) for first in taken], digests, blocks

  with concurrent.futures.ThreadPoolExecutor(1) as reader:
    pending = [reader.submit(read, taken) for taken in rounds[:1]]
    for following in rounds[1:]:
      with parallel.together():
        done = pending.pop().result()
      pending.append(reader.submit(read, following))
      yield done
    for last in pending:   # none, where a run was cut after its last image
      with parallel.together():
        done = last.result()
      yield done


def _blocks(extractor, images, size):
  """[_Block] of one batch: a block a bucket, so one, as a rule."""
  for image in (images,) if isinstance(images, np.ndarray) else images:
    extractor.check(image if image.ndim == 4 else image[None])
  if not extractor.resizing:
    return [_Block(np.arange(size) < len(images), batching.pad(np.stack(images), size))]
  mode, side = extractor.resizing
  members = {}
  for i, image in enumerate(images):
    height, width, channels = image.shape
    key = tuple(n if n == side else resize.bucket(n) for n in (height, width))
    members.setdefault((key, height == side, width == side, channels), []).append(i)
  blocks = []
  for (padded, _, _, channels), own in members.items():
    block = np.zeros((size, *padded, channels), np.uint8)
    for i in own:
      block[i, :images[i].shape[0], :images[i].shape[1]] = images[i]
    shapes = [images[own[0]].shape] * size   # of the other places: nobody reads them
    for i in own:
      shapes[i] = images[i].shape
    blocks.append(_Block(np.isin(np.arange(size), own), block, *(
      resize.weights(mode, [shape[axis] for shape in shapes], side, padded[axis],
                     extractor.precision)
      for axis in (0, 1))))
  return blocks


def _prepared(extractor, blocks):
  """The batch on the devices, [n, B/n, ...], each image from its own block."""
  if extractor.prepare is None:
    return parallel.shard(blocks[0].images)
  done = [extractor.prepared((), *parallel.shard(block[1:])) for block in blocks]
  if len(done) == 1:
    return done[0]
  x = np.array(parallel.gather(done[0]))
  for block, other in zip(blocks[1:], done[1:]):
    x[block.own] = parallel.gather(other)[block.own]
  return parallel.shard(x)


def _read(counts, digests, outputs):
  outputs = parallel.gather(outputs) | {'image_sha256': digests}
  for count, found in zip(counts, parallel.all_processes(outputs)):
    yield jax.tree.map(lambda a, count=count: a[:count], found)


def load(name, *, path='', allow_unverified=False, precision='float32'):
  """The `Extractor` called `name`, see `NAMES`; read once.

  `path` and `allow_unverified` are those of `weights.load`, for inception alone, and so is the
  `precision` float64, for comparisons between machines: on CPU it takes about twice the time.
  Raises ValueError for other names, FileNotFoundError where weights are missing.
  """
  if precision not in PRECISIONS or (precision != 'float32' and not name.startswith('inception_')):
    raise ValueError(f'precision must be float32 or, of inception features, float64, got '
                     f'{precision!r} of {name}.')
  return _load(name, str(path), allow_unverified, precision)


@functools.cache
def _load(name, path, allow_unverified, precision):
  size = re.fullmatch(r'efficientnet_lite0_([1-9]\d*)', name, re.ASCII)
  if name in classifiers.CLASSIFIERS:
    return _classifier(name)
  if name in NAMES:
    return _inception(name, path, allow_unverified, precision)
  if size and 32 <= int(size[1]) <= 512:
    return _efficientnet(name, int(size[1]))
  raise ValueError(f'features must be one of {", ".join(NAMES)} (SIZE from 32 to 512), got '
                   f'{name!r}.')


def for_dataset(dataset):
  """The `Extractor` that figures on `dataset` use; ValueError where there is none."""
  if dataset not in DATASETS:
    raise ValueError(f'there are no features for data set {dataset!r}, only for '
                     f'{sorted(DATASETS)}; mmd.py needs none, or name an extractor.')
  return load(DATASETS[dataset])


def _classifier(name):
  classifier = classifiers.CLASSIFIERS[name]
  return Extractor(
    name, classifier.sha256, classifier.image_shape, classifiers.read(classifier),
    lambda variables, x: {'features': classifiers.features(classifier, variables, x)})


def _inception(name, path, allow_unverified, precision):
  found = weights.load(path, allow_unverified=allow_unverified)
  mode = name.removeprefix('inception_')
  params = jax.tree.map(lambda a: np.asarray(a, precision), found.params)

  def apply(variables, x):
    taps = inception.forward(variables, x)
    return {'features': taps['2048'], 'logits_unbiased': taps['logits_unbiased'],
            'spatial': taps['spatial']}

  return Extractor(
    name, found.sha256, None, inception.fuse(params), apply,
    functools.partial(resize.scaled, mode=mode, dtype=precision), (mode, inception.SIZE), mode,
    found.origin, found.file_sha256 in weights.KNOWN, precision)


def _efficientnet(name, size):
  return Extractor(
    name, efficientnet.SHA256, None, efficientnet.load(),
    lambda variables, x: {'features': efficientnet.forward(variables, x)},
    efficientnet.prepare, (efficientnet.RESIZE, size), efficientnet.INPUT_MODE)
