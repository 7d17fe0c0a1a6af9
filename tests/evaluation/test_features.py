"""Extractors: known weights, every image once, and what they refuse."""
import io
import json

import numpy as np
import pytest

from mollification import data
from mollification.evaluation import features, frechet, moments


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


@pytest.fixture(scope='module')
def extractor():
  return features.for_dataset('digits')


def test_committed_weights_classify_the_test_split(digits, extractor):
  extracted = features.extract(extractor, digits.test.x)
  assert extracted.dtype == np.float32
  assert extracted.shape == (len(digits.test.x), 64)
  logits = features.digits_logits(extractor.variables, extracted)
  accuracy = (np.asarray(logits).argmax(1) == digits.test.labels).mean()
  assert accuracy >= .97
  metadata = json.loads(str(np.load(features.WEIGHTS / 'digits.npz')['metadata']))
  assert metadata['test_accuracy'] == pytest.approx(accuracy, abs=1 / len(digits.test.x))
  assert metadata['train_sha256'] == digits.train.sha256
  assert metadata['test_sha256'] == digits.test.sha256
  assert (features.WEIGHTS / 'digits.npz').stat().st_size < 500_000


def test_features_do_not_depend_on_batches_or_devices(digits, extractor, devices):
  images = digits.test.x[:45]
  expected = np.asarray(extractor.apply(extractor.variables, images))
  for n, batch_size in ((4, 64), (4, 7), (1, 1000)):
    devices(n)
    found = features.extract(extractor, images, batch_size)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_distance_grows_with_corruption(digits, extractor):
  rng = np.random.default_rng(0)
  reference = moments.of(features.extract(extractor, digits.train.x)).statistics()
  distances = []
  for noise in (0, 1, 3, 6):
    noisy = digits.test.x + rng.normal(size=digits.test.x.shape) * noise
    images = np.clip(np.rint(noisy), 0, 16).astype(np.uint8)
    own = moments.of(features.extract(extractor, images)).statistics()
    distances.append(frechet.frechet_distance(own, reference))
  assert distances == sorted(distances)
  assert distances[-1] > 10 * distances[0]


def test_features_are_of_full_rank(digits, extractor):
  s = moments.of(features.extract(extractor, digits.train.x)).statistics()
  assert s.factor.shape == (64, 64)


def test_other_weights_are_refused(tmp_path):
  content = bytearray((features.WEIGHTS / 'digits.npz').read_bytes())
  content[-1000] ^= 1
  path = tmp_path / 'digits.npz'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f'digits.npz must have sha256 {features.DIGITS_SHA256}, go'):
    features.read_weights(path, features.DIGITS_SHA256)


def test_weights_are_never_unpickled(tmp_path):
  buffer = io.BytesIO()
  np.savez(buffer, a=np.array([{}], dtype=object))
  path = tmp_path / 'pickled.npz'
  path.write_bytes(buffer.getvalue())
  with pytest.raises(ValueError, match='allow_pickle=False'):
    features.read_weights(path, features.hashlib.sha256(buffer.getvalue()).hexdigest())


def test_extractors_identify_themselves(extractor):
  assert features.for_dataset('digits') is features.load('digits_cnn_8x8') is extractor
  assert extractor.name == 'digits_cnn_8x8'
  assert extractor.sha256 == features.DIGITS_SHA256
  assert set(features.DATASETS.values()) <= set(features.EXTRACTORS)


def test_refusals(extractor):
  with pytest.raises(ValueError, match=r"no features for data set 'redwine'.*digits"):
    features.for_dataset('redwine')
  with pytest.raises(ValueError, match=r"must be one of .* got 'inception'"):
    features.load('inception')
  images = np.zeros((3, 8, 8, 1), np.uint8)
  with pytest.raises(ValueError, match=r'takes uint8 images .* got float32'):
    features.extract(extractor, images.astype(np.float32))
  with pytest.raises(ValueError, match=r'got uint8 \(3, 9, 8, 1\)'):
    features.extract(extractor, np.zeros((3, 9, 8, 1), np.uint8))
