"""Trains the networks whose features score small images: python -m experiments.classifiers NAME

Writes runs/classifiers/NAME.npz, or --out, and prints its sha256: to replace the package's, which
lies in mollification/evaluation/weights, evaluation/classifiers.py must name it. NAME is digits or
fashion_mnist. Trained on the train split alone: the test split stays a reference that no feature
has seen. Augmentation: shifts by up to one pixel in each direction (zero padded), and dropout of
features. Accuracy on the test split is printed and kept in the file.
"""
import argparse
import hashlib
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mollification import data
from mollification.evaluation import classifiers, records

BATCH_SIZE = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
DROPOUT = .3
LABEL_SMOOTHING = .05
WIDTHS = 16, 32, 64   # of the convolutions and the features
SETS = {   # name: (extractor, epochs)
  'digits': ('digits_cnn_8x8', 100),
  'fashion_mnist': ('fashion_mnist_cnn_28x28', 15),
}


def shapes(classifier):
  """{layer: shape of its kernel}."""
  first, second, dense = WIDTHS
  pixels = math.prod(classifier.image_shape[:2]) // math.prod(classifier.pools) ** 2
  return {'conv1': (3, 3, 1, first), 'conv2': (3, 3, first, second),
          'dense': (pixels * second, dense), 'class': (dense, 10)}


def init(classifier, key):
  """Weights {name_kernel, name_bias}: He-normal kernels, zero biases."""
  weights = {}
  for name, shape in shapes(classifier).items():
    key, kernel_key = jax.random.split(key)
    fan_in = math.prod(shape[:-1])
    weights[f'{name}_kernel'] = jax.random.normal(kernel_key, shape) * math.sqrt(2 / fan_in)
    weights[f'{name}_bias'] = jnp.zeros(shape[-1])
  return weights


def shifted(images, key):
  """Each image [B, H, W, 1] moved by -1, 0 or 1 pixel along both axes; zeros move in."""
  shape = images.shape[1:]
  corners = jax.random.randint(key, (len(images), 2), 0, 3)
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def cut(image, corner):
    return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape)

  return jax.vmap(cut)(padded, corners)


def make_step(classifier, tx):
  """step(weights, opt_state, images, labels, key) -> (weights, opt_state, loss [])."""

  def loss_fn(weights, images, labels, key):
    shift_key, drop_key = jax.random.split(key)
    x = classifiers.features(classifier, weights, shifted(images, shift_key))
    keep = jax.random.bernoulli(drop_key, 1 - DROPOUT, x.shape)
    logits = classifiers.logits(weights, jnp.where(keep, x / (1 - DROPOUT), 0))
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), LABEL_SMOOTHING)
    return optax.softmax_cross_entropy(logits, targets).mean()

  @jax.jit
  def step(weights, opt_state, images, labels, key):
    loss, grads = jax.value_and_grad(loss_fn)(weights, images, labels, key)
    updates, opt_state = tx.update(grads, opt_state, weights)
    return optax.apply_updates(weights, updates), opt_state, loss

  return step


def train(classifier, images, labels, *, seed, epochs):
  """Weights after `epochs` passes over images uint8 [N, H, W, 1] and labels [N]."""
  per_epoch = len(images) // BATCH_SIZE
  schedule = optax.cosine_decay_schedule(LEARNING_RATE, epochs * per_epoch)
  tx = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
  init_key, root_key = jax.random.split(jax.random.key(seed))
  weights = init(classifier, init_key)
  opt_state, step = tx.init(weights), make_step(classifier, tx)
  order = np.random.default_rng(seed)
  for epoch in range(epochs):
    rows = order.permutation(len(images))[:per_epoch * BATCH_SIZE].reshape(per_epoch, -1)
    for i, batch in enumerate(rows):
      key = jax.random.fold_in(root_key, epoch * per_epoch + i)
      weights, opt_state, loss = step(weights, opt_state, images[batch], labels[batch], key)
    if (epoch + 1) % max(epochs // 5, 1) == 0:
      print(f'epoch {epoch + 1}/{epochs}: loss {float(loss):.4f}', flush=True)
  return weights


def accuracy(classifier, weights, images, labels):
  """Share of images whose highest score is their label's."""
  scores = jax.jit(lambda x: classifiers.logits(weights, classifiers.features(
    classifier, weights, x)))
  right = 0
  for start in range(0, len(images), 1000):
    part = slice(start, start + 1000)
    right += int((np.asarray(scores(images[part])).argmax(1) == labels[part]).sum())
  return right / len(images)


def main():
  """Train, print accuracies, write the weights and print their sha256."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('name', choices=sorted(SETS))
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--data_dir', help='of TFDS, for fashion_mnist')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--epochs', type=int)
  args = parser.parse_args()
  extractor, epochs = SETS[args.name]
  classifier, epochs = classifiers.CLASSIFIERS[extractor], args.epochs or epochs
  options = {'data_dir': args.data_dir} if args.data_dir else {}
  found = data.load(args.name, **options)
  weights = train(classifier, found.train.x, found.train.labels, seed=args.seed, epochs=epochs)
  metadata = {
    'script': 'experiments/classifiers.py', 'seed': args.seed, 'epochs': epochs,
    'train_accuracy': accuracy(classifier, weights, found.train.x, found.train.labels),
    'test_accuracy': accuracy(classifier, weights, found.test.x, found.test.labels),
    'train_sha256': found.train.sha256, 'test_sha256': found.test.sha256,
    'versions': records.versions()}
  out = args.out or pathlib.Path('runs/classifiers') / classifier.file
  out.parent.mkdir(parents=True, exist_ok=True)
  arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
  np.savez(out, metadata=np.array(json.dumps(metadata, sort_keys=True)), **arrays)
  print(json.dumps(metadata, sort_keys=True))
  print(f'{out}: {out.stat().st_size:,} bytes, sha256 '
        f'{hashlib.sha256(out.read_bytes()).hexdigest()}')


if __name__ == '__main__':
  main()
