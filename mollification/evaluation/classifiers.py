"""Small classifiers of grey images, whose weights are part of the package: features for their sets.

Trained on the train split alone by `experiments/classifiers.py`: the test split stays a reference
that no feature has seen. Smooth activations: a unit that is never off cannot make the covariance of
the features singular.
"""
import hashlib
import io
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mollification import npz

WEIGHTS = pathlib.Path(__file__).parent / 'weights'


class Classifier(NamedTuple):
  """Weights `file` of `sha256` for images `image_shape` of `levels` grey levels.

  `pools` are the sides of the mean pools after the two convolutions, 1 for none.
  """
  file: str
  sha256: str
  image_shape: tuple
  levels: int
  pools: tuple


# The arrays of digits.npz are those of the file of sha256 71534bca..., whose record named a script
# that is gone: figures in its features are figures in these.
CLASSIFIERS = {
  'digits_cnn_8x8': Classifier(
    'digits.npz', '60ece776af4080de64e7a4b6d142a48a41dcf2e3fc5e4d4552878c3ceacef569',
    (8, 8, 1), 17, (1, 2)),
  'fashion_mnist_cnn_28x28': Classifier(
    'fashion_mnist.npz', 'e593972398697430e17a9c449953089f41a681ef62043200284472d7b34004dc',
    (28, 28, 1), 256, (2, 2)),
}


def features(classifier, weights, images):
  """Penultimate layer [B, 64] of uint8 images [B, *image_shape].

  Two 3x3 convolutions, each followed by silu and its pool, and one dense layer with silu.
  """
  x = images.astype(jnp.float32) * (2 / (classifier.levels - 1)) - 1
  for i, side in enumerate(classifier.pools, 1):
    x = _pool(_conv(x, weights[f'conv{i}_kernel'], weights[f'conv{i}_bias']), side)
  x = x.reshape(len(images), -1)
  return jax.nn.silu(_dense(x, weights['dense_kernel'], weights['dense_bias']))


def logits(weights, hidden):
  """Class scores [B, classes] of `features` [B, 64]."""
  return _dense(hidden, weights['class_kernel'], weights['class_bias'])


def read(classifier):
  """{name: array} of the weights in the package, without their metadata."""
  weights = read_weights(WEIGHTS / classifier.file, classifier.sha256)
  weights.pop('metadata')
  return weights


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
  return npz.read(io.BytesIO(content))


def _conv(x, kernel, bias):
  x = jax.lax.conv_general_dilated(
    x, kernel, window_strides=(1, 1), padding='SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=jax.lax.Precision.HIGHEST)
  return jax.nn.silu(x + bias[None, None, None])


def _pool(x, side):
  b, h, w, c = x.shape
  return x.reshape(b, h // side, side, w // side, side, c).mean((2, 4)) if side > 1 else x


def _dense(x, kernel, bias):
  return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias[None]
