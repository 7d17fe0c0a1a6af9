"""Feature extractors: uint8 [B, H, W, C] -> float32 [B, F], each known by name and sha256."""
import dataclasses
import functools
import hashlib
import io
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mollification import parallel
from mollification.evaluation import batching

WEIGHTS = pathlib.Path(__file__).parent / 'weights'
DIGITS_SHA256 = '71534bcaaf2a1753c6f2836552d6b6bbb6c6cb3b624b2d88bbf2a3a6a391752d'
DIGITS_LEVELS = 17


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
  """A fixed network: `apply(variables, images uint8 [B, *image_shape]) -> float32 [B, F]`.

  `name` says the network and its input size, `sha256` is that of the weights' file; both belong
  in the record of every figure that the features go into.
  """
  name: str
  sha256: str
  image_shape: tuple
  num_features: int
  variables: dict = dataclasses.field(repr=False)
  apply: Callable = dataclasses.field(repr=False)

  @functools.cached_property
  def mapped(self):
    """`apply` over all local devices, compiled once per batch shape."""
    return parallel.pmap_examples(lambda variables, index, x: self.apply(variables, x))


def extract(extractor, images, batch_size=256):
  """Features float32 [N, F] of images uint8 [N, *image_shape], N >= 1, in their order.

  The last batch is padded and the padding dropped: every image counts, once. Raises ValueError
  for floats (whose rounding would be a choice made here) and for another image size (whose
  resizing would be).
  """
  if images.dtype != np.uint8 or images.shape[1:] != extractor.image_shape or not len(images):
    raise ValueError(f'{extractor.name} takes uint8 images [N, *{extractor.image_shape}], N > 0, '
                     f'got {images.dtype} {images.shape}; quantise samples with Prepare.invert.')
  features = np.empty((len(images), extractor.num_features), np.float32)
  for where, block in batching.map_rows(
      extractor.mapped, extractor.variables, len(images), batch_size, arrays=(images,)):
    features[where] = block
  return features


@functools.cache
def load(name):
  """The `Extractor` called `name`, one of `EXTRACTORS`; its weights are read once."""
  if name not in EXTRACTORS:
    raise ValueError(f'features must be one of {sorted(EXTRACTORS)}, got {name!r}.')
  return EXTRACTORS[name]()


def for_dataset(dataset):
  """The `Extractor` that figures on `dataset` use; ValueError where there is none."""
  if dataset not in DATASETS:
    raise ValueError(f'there are no features for data set {dataset!r}, only for '
                     f'{sorted(DATASETS)}; mmd.py needs none, or add an extractor to features.py.')
  return load(DATASETS[dataset])


def read_weights(path, sha256):
  """Arrays of the npz at `path`, as {name: array}; nothing in it is ever unpickled.

  Raises ValueError where the file's sha256 is not `sha256`: figures of other weights are figures
  on another scale.
  """
  content = pathlib.Path(path).read_bytes()
  found = hashlib.sha256(content).hexdigest()
  if found != sha256:
    raise ValueError(f'{path} must have sha256 {sha256}, got {found}; restore the file, or '
                     'retrain and commit both.')
  with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
    return {name: arrays[name] for name in arrays.files}


def digits_features(weights, images):
  """Penultimate layer [B, 64] of the digits classifier; uint8 [B, 8, 8, 1], 17 grey levels.

  Two 3x3 convolutions, 2x2 mean pooling, one dense layer, silu after each. Smooth: a unit that is
  never off cannot make the covariance of the features singular.
  """
  x = images.astype(jnp.float32) * (2 / (DIGITS_LEVELS - 1)) - 1
  x = _conv(x, weights['conv1_kernel'], weights['conv1_bias'])
  x = _conv(x, weights['conv2_kernel'], weights['conv2_bias'])
  x = x.reshape(-1, 4, 2, 4, 2, x.shape[-1]).mean((2, 4)).reshape(len(images), -1)
  return jax.nn.silu(_dense(x, weights['dense_kernel'], weights['dense_bias']))


def digits_logits(weights, features):
  """Class scores [B, 10] of `digits_features` [B, 64]."""
  return _dense(features, weights['class_kernel'], weights['class_bias'])


def _conv(x, kernel, bias):
  x = jax.lax.conv_general_dilated(
    x, kernel, window_strides=(1, 1), padding='SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST)
  return jax.nn.silu(x + bias[None, None, None])


def _dense(x, kernel, bias):
  return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias[None]


def _load_digits():
  weights = read_weights(WEIGHTS / 'digits.npz', DIGITS_SHA256)
  weights.pop('metadata')
  return Extractor(
    'digits_cnn_8x8', DIGITS_SHA256, (8, 8, 1), weights['dense_bias'].size, weights,
    digits_features)


EXTRACTORS = {'digits_cnn_8x8': _load_digits}
DATASETS = {'digits': 'digits_cnn_8x8'}
