"""Trains the network whose features score 8x8 digits: python -m experiments.digits_classifier

Writes mollification/evaluation/weights/digits.npz and prints its sha256, which features.py must
name. Trained on the train split alone: the test split stays a reference that no feature has seen.
Augmentation: shifts by up to one pixel in each direction (zero padded), and dropout of features.
About 25 seconds on one core; accuracy on the test split is printed and kept in the file.
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
from mollification.evaluation import features, records

BATCH_SIZE = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
DROPOUT = .3
LABEL_SMOOTHING = .05
SHAPES = {'conv1': (3, 3, 1, 16), 'conv2': (3, 3, 16, 32), 'dense': (512, 64), 'class': (64, 10)}


def init(key):
  """Weights {name_kernel, name_bias}: He-normal kernels, zero biases."""
  weights = {}
  for name, shape in SHAPES.items():
    key, kernel_key = jax.random.split(key)
    fan_in = math.prod(shape[:-1])
    weights[f'{name}_kernel'] = jax.random.normal(kernel_key, shape) * math.sqrt(2 / fan_in)
    weights[f'{name}_bias'] = jnp.zeros(shape[-1])
  return weights


def shifted(images, key):
  """Each image [B, 8, 8, 1] moved by -1, 0 or 1 pixel along both axes; zeros move in."""
  corners = jax.random.randint(key, (len(images), 2), 0, 3)
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def cut(image, corner):
    return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (8, 8, 1))

  return jax.vmap(cut)(padded, corners)


def make_step(tx):
  """step(weights, opt_state, images, labels, key) -> (weights, opt_state, loss [])."""

  def loss_fn(weights, images, labels, key):
    shift_key, drop_key = jax.random.split(key)
    x = features.digits_features(weights, shifted(images, shift_key))
    keep = jax.random.bernoulli(drop_key, 1 - DROPOUT, x.shape)
    logits = features.digits_logits(weights, jnp.where(keep, x / (1 - DROPOUT), 0))
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), LABEL_SMOOTHING)
    return optax.softmax_cross_entropy(logits, targets).mean()

  @jax.jit
  def step(weights, opt_state, images, labels, key):
    loss, grads = jax.value_and_grad(loss_fn)(weights, images, labels, key)
    updates, opt_state = tx.update(grads, opt_state, weights)
    return optax.apply_updates(weights, updates), opt_state, loss

  return step


def train(images, labels, *, seed, epochs):
  """Weights after `epochs` passes over images uint8 [N, 8, 8, 1] and labels [N]."""
  per_epoch = len(images) // BATCH_SIZE
  schedule = optax.cosine_decay_schedule(LEARNING_RATE, epochs * per_epoch)
  tx = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
  init_key, root_key = jax.random.split(jax.random.key(seed))
  weights = init(init_key)
  opt_state, step = tx.init(weights), make_step(tx)
  order = np.random.default_rng(seed)
  for epoch in range(epochs):
    rows = order.permutation(len(images))[:per_epoch * BATCH_SIZE].reshape(per_epoch, -1)
    for i, batch in enumerate(rows):
      key = jax.random.fold_in(root_key, epoch * per_epoch + i)
      weights, opt_state, loss = step(weights, opt_state, images[batch], labels[batch], key)
    if (epoch + 1) % 20 == 0:
      print(f'epoch {epoch + 1}/{epochs}: loss {float(loss):.4f}', flush=True)
  return weights


def accuracy(weights, images, labels):
  """Share of images whose highest score is their label's."""
  logits = features.digits_logits(weights, features.digits_features(weights, images))
  return float((np.asarray(logits).argmax(1) == labels).mean())


def main():
  """Train, print accuracies, write the weights and print their sha256."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, default=features.WEIGHTS / 'digits.npz')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--epochs', type=int, default=100)
  args = parser.parse_args()
  digits = data.load('digits')
  weights = train(digits.train.x, digits.train.labels, seed=args.seed, epochs=args.epochs)
  metadata = {
    'script': 'experiments/digits_classifier.py', 'seed': args.seed, 'epochs': args.epochs,
    'train_accuracy': accuracy(weights, digits.train.x, digits.train.labels),
    'test_accuracy': accuracy(weights, digits.test.x, digits.test.labels),
    'train_sha256': digits.train.sha256, 'test_sha256': digits.test.sha256,
    'versions': records.versions()}
  args.out.parent.mkdir(parents=True, exist_ok=True)
  arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
  np.savez(args.out, metadata=np.array(json.dumps(metadata, sort_keys=True)), **arrays)
  print(json.dumps(metadata, sort_keys=True))
  print(f'{args.out}: {args.out.stat().st_size:,} bytes, sha256 '
        f'{hashlib.sha256(args.out.read_bytes()).hexdigest()}')


if __name__ == '__main__':
  main()
