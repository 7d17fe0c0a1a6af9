"""Feature extractors: uint8 [B, H, W, C] -> float32 [B, F], each known by name and sha256."""
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable

import jax
import numpy as np

from mollification import parallel
from mollification.evaluation import (
  batching,
  classifiers,
  efficientnet,
  inception,
  resize,
  weights,
)

# Images per device and call. Image i always stands at place i mod 32 of a batch of 32, so that its
# features are the same bits on any number of devices, whatever they are read in.
DEVICE_BATCH = 32
DATASETS = {'digits': 'digits_cnn_8x8', 'fashion_mnist': 'fashion_mnist_cnn_28x28'}
FIXED = sorted(classifiers.CLASSIFIERS)
# What a name may be; the network's input size is part of it.
NAMES = (*FIXED, *(f'inception_{mode}' for mode in resize.MODES), 'efficientnet_lite0_SIZE')


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
  """A fixed network: uint8 images [B, *image_shape] -> {output: float32 [B, F]}.

  `image_shape` is None where the network takes images of any size, grey or RGB. Two stages:
  `prepare(images)`, compiled once per image size, and `apply(variables, x)`, compiled once. The
  output 'features' is there always; inception has 'logits_unbiased' and 'spatial' besides.
  `name` says the network and its input size, `sha256` is that of the weights' file and `input_mode`
  how images become its input; all three belong in the record of every figure made of them.
  """
  name: str
  sha256: str
  image_shape: tuple | None
  variables: dict = dataclasses.field(repr=False)
  apply: Callable = dataclasses.field(repr=False)
  prepare: Callable = dataclasses.field(default=lambda images: images, repr=False)
  input_mode: str = 'uint8'

  @functools.cached_property
  def mapped(self):
    """`apply` over all local devices."""
    return parallel.pmap_examples(self.apply)

  @functools.cached_property
  def prepared(self):
    """`prepare` over all local devices."""
    return parallel.pmap_examples(lambda _, images: self.prepare(images))

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
                       f'{images.shape}; quantise samples with Prepare.invert.')


def stream(extractor, pieces, device_batch=DEVICE_BATCH):
  """Yields {output: float32 [b, F]} of the images in `pieces`, in their order, padding dropped.

  `pieces` is an iterable of uint8 [b, H, W, C], b at most `piece_size(device_batch)`; image sizes
  may differ from piece to piece. Of several processes, which must all be given the same pieces,
  each runs the network on its share of the batches, and all yield the features of all: what is
  summed, and in which order, is the same bits for any number of processes.
  """
  size = piece_size(device_batch)
  variables = parallel.place(extractor.variables)
  pending = None
  for counts, x in _rounds(_batches(extractor, pieces, size)):
    outputs = extractor.mapped(variables, x)
    if pending is not None:   # one batch is in flight while the one before is read
      yield from _read(*pending)
    pending = counts, outputs
  if pending is not None:
    yield from _read(*pending)


def piece_size(device_batch=DEVICE_BATCH):
  """Images that all local devices take at once."""
  return device_batch * jax.local_device_count()


def extract(extractor, images, device_batch=DEVICE_BATCH):
  """Features float32 [N, F] of images uint8 [N, H, W, C], N >= 1, in their order.

  Every image counts, once. Raises ValueError as `Extractor.check`, and for N = 0.
  """
  extractor.check(images)
  if not len(images):
    raise ValueError(f'{extractor.name} takes uint8 images [N, ...], N > 0, got {images.shape}.')
  size = piece_size(device_batch)
  pieces = (images[i:i + size] for i in range(0, len(images), size))
  return np.concatenate([out['features'] for out in stream(extractor, pieces, device_batch)])


def _batches(extractor, pieces, size):
  """(number of images, prepared batch on the devices) in order, all batches of `size` rows.

  A full piece stays on the devices. Others, where image sizes change and at the end, are gathered
  on the host until they fill a batch.
  """
  held = []
  for piece in pieces:
    extractor.check(piece)
    x = extractor.prepared((), *parallel.shard([batching.pad(np.asarray(piece), size)]))
    if len(piece) == size and not held:
      yield size, x
      continue
    held.append(parallel.gather(x)[:len(piece)])
    if sum(map(len, held)) >= size:
      rows = np.concatenate(held)
      held = [rows[size:]] if len(rows) > size else []
      yield size, parallel.shard(rows[:size])
  if held:
    rows = np.concatenate(held)
    yield len(rows), parallel.shard(batching.pad(rows, size))


def _rounds(batches):
  """(counts of the batches of a round, the one that is this process's): a batch a process.

  In a last round that is short, those without a batch run the last one, and nobody reads it.
  """
  batches = iter(batches)
  while taken := list(itertools.islice(batches, jax.process_count())):
    yield [count for count, _ in taken], taken[min(jax.process_index(), len(taken) - 1)][1]


def _read(counts, outputs):
  for count, found in zip(counts, parallel.all_processes(parallel.gather(outputs))):
    yield jax.tree.map(lambda a, count=count: a[:count], found)


def load(name, *, path='', allow_unverified=False):
  """The `Extractor` called `name`, see `NAMES`; read once.

  `path` and `allow_unverified` are those of `weights.load`, for inception alone. Raises ValueError
  for other names, FileNotFoundError where weights are missing.
  """
  return _load(name, str(path), allow_unverified)


@functools.cache
def _load(name, path, allow_unverified):
  size = re.fullmatch(r'efficientnet_lite0_(\d+)', name)
  if name in classifiers.CLASSIFIERS:
    return _classifier(name)
  if name.removeprefix('inception_') in resize.MODES:
    return _inception(name, path, allow_unverified)
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


def _inception(name, path, allow_unverified):
  found = weights.load(path, allow_unverified=allow_unverified)
  mode = name.removeprefix('inception_')

  def apply(variables, x):
    taps = inception.forward(variables, x)
    return {'features': taps['2048'], 'logits_unbiased': taps['logits_unbiased'],
            'spatial': taps['spatial']}

  return Extractor(
    name, found.sha256, None, inception.fuse(found.params), apply,
    lambda images: resize.prepare(images, mode, inception.SIZE), mode)


def _efficientnet(name, size):
  return Extractor(
    name, efficientnet.SHA256, None, efficientnet.load(),
    lambda variables, x: {'features': efficientnet.forward(variables, x)},
    lambda images: efficientnet.prepare(images, size), efficientnet.INPUT_MODE)
