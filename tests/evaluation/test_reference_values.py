"""Published figures, for whoever has the weights: pytest -m weights

Needs the Inception weights where `weights.find` looks, and for CIFAR-10 a TFDS data set in the
folder that the variable TFDS_DATA_DIR names. Sources stand beside the values.
"""
import os

import numpy as np
import pytest

from mollification.evaluation import features, frechet, moments, resize, scoring, sources, weights

pytestmark = pytest.mark.weights


@pytest.fixture(scope='module')
def network():
  """name -> Extractor; skips where there are no weights."""
  try:
    weights.find()
  except FileNotFoundError as error:
    pytest.skip(str(error))
  return features.load


@pytest.fixture(scope='module')
def cifar10():
  """split -> Source of CIFAR-10."""
  folder = os.environ.get('TFDS_DATA_DIR', '')
  if not os.path.isdir(os.path.join(folder, 'cifar10')):
    pytest.skip('TFDS_DATA_DIR names no folder with cifar10')
  return lambda split: sources.open_images('cifar10', split=split, data_dir=folder)


def test_scales_of_batch_norm_are_one(network):
  """The graph normalises without scale; another value would be another file (jax-fid, NVIDIA)."""
  params = weights.load().params
  for name, array in weights.flatten(params).items():
    if name.endswith('/bn/scale'):
      np.testing.assert_array_equal(array, 1, err_msg=name)


@pytest.mark.parametrize(('mode', 'expected'), [
  ('pytorch', 3.1525318697637204),   # pytorch-image-generation-metrics, tests/test_fid.py
  ('tf1', 3.1508),                   # TTUR's network, by the same README
])
def test_fid_of_cifar10_train_and_test(network, cifar10, mode, expected):
  extractor = network(f'inception_{mode}')
  train, test = (scoring.run(extractor, cifar10(split)) for split in ('full_train', 'test'))
  value = frechet.frechet_distance(test.moments.statistics(), train.moments.statistics())
  assert value == pytest.approx(expected, abs=1e-3)


def test_inception_score_of_cifar10_train(network, cifar10):
  """11.23678 ± 0.09514 (torch-fidelity README, shuffled splits)."""
  done = scoring.run(network('inception_tf1'), cifar10('full_train'), ['is'])
  score = done.score.score()
  assert score.mean == pytest.approx(11.237, abs=.05)


def test_self_distance_of_real_features(network, cifar10):
  images = cifar10('test').piece(0, 256)
  found = moments.of(features.extract(network('inception_pytorch'), images)).statistics()
  assert frechet.frechet_distance(found, found) < 1e-9


def test_modes_differ(network, cifar10):
  """The resizing alone moves features: statistics of two modes must not be mixed."""
  images = cifar10('test').piece(0, 32)
  rows = [features.extract(network(f'inception_{mode}'), images) for mode in resize.MODES]
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert np.abs(rows[a] - rows[b]).mean() > 1e-3
