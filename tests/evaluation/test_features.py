"""Extractors: known weights, every image once, and what they refuse."""
import dataclasses
import hashlib
import io
import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image, ImageFilter

from mollification import data
from mollification.evaluation import (
  classifiers,
  efficientnet,
  features,
  frechet,
  moments,
  resize,
)

TFDS = pathlib.Path(__file__).parents[3] / 'shared/tfds'
DIGITS = classifiers.CLASSIFIERS['digits_cnn_8x8']


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


@pytest.fixture(scope='module')
def extractor():
  return features.for_dataset('digits')


def test_committed_weights_classify_the_test_split(digits):
  check_classifier(digits, .97)


@pytest.mark.slow   # TFDS takes its time to start
@pytest.mark.skipif(not TFDS.is_dir(), reason=f'no prepared TFDS data in {TFDS}')
def test_committed_weights_classify_fashion_mnist(tmp_path):
  check_classifier(data.load('fashion_mnist', data_dir=TFDS, cache_dir=tmp_path), .9)


def check_classifier(dataset, least):
  extractor, test = features.for_dataset(dataset.name), dataset.test
  extracted = features.extract(extractor, test.x)
  assert extracted.dtype == np.float32
  assert extracted.shape == (len(test.x), 64)
  logits = classifiers.logits(extractor.variables, extracted)
  accuracy = (np.asarray(logits).argmax(1) == test.labels).mean()
  assert accuracy >= least
  path = classifiers.WEIGHTS / f'{dataset.name}.npz'
  metadata = json.loads(str(np.load(path)['metadata']))
  assert metadata['test_accuracy'] == pytest.approx(accuracy, abs=1 / len(test.x))
  assert (pathlib.Path(__file__).parents[2] / metadata['script']).is_file()
  assert metadata['train_sha256'] == dataset.train.sha256
  assert metadata['test_sha256'] == test.sha256
  assert path.stat().st_size < 500_000


class Images(NamedTuple):
  """What `features.stream` needs of a source; `read` notes which pieces were asked for."""
  x: list
  read: list

  @property
  def n(self):
    return len(self.x)

  def piece(self, start, stop):
    self.read.append((start, stop))
    return self.x[start:stop]


def streamed(extractor, images, device_batch, start=0):
  found = list(features.stream(extractor, Images(images, []), start=start,
                               device_batch=device_batch))
  return np.concatenate([out['features'] for out in found])


def test_features_are_the_same_bits_on_any_devices_in_any_batches(digits, extractor, devices):
  images, expected = digits.test.x[:45], None
  for n in (1, 2, 4):
    devices(n)
    for found in (streamed(extractor, images, 8), streamed(extractor, list(images), 8),
                  np.concatenate([streamed(extractor, images[:32], 8),
                                  streamed(extractor, images, 8, start=32)])):
      assert found.shape == (45, 64)
      expected = found if expected is None else expected
      np.testing.assert_array_equal(found, expected)
  assert list(features.stream(extractor, Images(images, []), start=45)) == []
  direct = extractor.apply(extractor.variables, images)['features']
  np.testing.assert_allclose(expected, direct, atol=2e-6)


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
  content = bytearray((classifiers.WEIGHTS / 'digits.npz').read_bytes())
  content[-1000] ^= 1
  path = tmp_path / 'digits.npz'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f'digits.npz must have sha256 {DIGITS.sha256}, go'):
    classifiers.read_weights(path, DIGITS.sha256)


def test_weights_are_never_unpickled(tmp_path):
  buffer = io.BytesIO()
  np.savez(buffer, a=np.array([{}], dtype=object))
  path = tmp_path / 'pickled.npz'
  path.write_bytes(buffer.getvalue())
  with pytest.raises(ValueError, match='allow_pickle=False'):
    classifiers.read_weights(path, hashlib.sha256(buffer.getvalue()).hexdigest())


def test_extractors_identify_themselves(extractor):
  assert features.for_dataset('digits') is features.load('digits_cnn_8x8') is extractor
  assert extractor.name == 'digits_cnn_8x8'
  assert extractor.sha256 == DIGITS.sha256
  assert set(features.DATASETS.values()) <= set(features.NAMES)


def test_refusals(extractor):
  with pytest.raises(ValueError, match=r"no features for data set 'redwine'.*digits"):
    features.for_dataset('redwine')
  for name in ('inception', 'clean', 'efficientnet_lite0_16', 'efficientnet_lite0_096',
               'efficientnet_lite0_९६', 'efficientnet_lite0'):
    with pytest.raises(ValueError, match=f"must be one of .* got '{name}'"):
      features.load(name)
  images = np.zeros((3, 8, 8, 1), np.uint8)
  with pytest.raises(ValueError, match=r'takes uint8 images .* got float32'):
    features.extract(extractor, images.astype(np.float32))
  with pytest.raises(ValueError, match=r'got uint8 \(3, 9, 8, 1\)'):
    features.extract(extractor, np.zeros((3, 9, 8, 1), np.uint8))


# --- Networks of images of any size -------------------------------------------------------------

@pytest.fixture(scope='module')
def pretrained():
  return features.load('efficientnet_lite0_32')


def test_mixed_sizes_are_each_resized_and_stay_in_order(pretrained, devices):
  """The same bits as among others of their own size; few programs serve all sizes."""
  devices(2)
  rng = np.random.default_rng(0)
  shapes = [(32, 32, 3), (40, 33, 3), (40, 33, 3), (20, 50, 1), (32, 45, 3), (20, 50, 1),
            (47, 34, 3), (31, 30, 3)]
  images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
  prepared, traces = pretrained.prepare, []

  def counted(*inputs):
    traces.append(inputs[0].shape)
    return prepared(*inputs)

  net = dataclasses.replace(pretrained, prepare=counted)
  found = streamed(net, images, 2)
  assert found.shape == (8, 1280)
  # 32 x 32 as it is, 48 x 48 of (40, 33) and (47, 34), 32 x 48 grey and not, 32 x 32 of (31, 30)
  assert len(traces) == 5
  for image, row in zip(images, found):
    np.testing.assert_array_equal(features.extract(net, np.stack([image] * 5), 2),
                                  np.stack([row] * 5))
  assert len(traces) == 5
  grey = np.repeat(images[3], 3, -1)[None]
  np.testing.assert_allclose(features.extract(pretrained, grey, 2)[0], found[3], atol=1e-5)
  # Padding is not seen: by size alone they are resized to the same.
  for image in images[1:5]:
    own, = features._blocks(pretrained, [image], 2)
    np.testing.assert_allclose(
      pretrained.prepare(*own[1:])[0],
      (np.clip(resize.resize(image[None].astype(np.float32), 'clean', 32), 0, 255)[0] - 127) / 128
      + np.zeros(3, np.float32), atol=1e-6)


def test_a_resized_network_gives_the_same_bits_on_any_devices(pretrained, devices):
  rng, found = np.random.default_rng(0), []
  images = [rng.integers(0, 256, shape, dtype=np.uint8)
            for shape in ((32, 32, 3), (40, 33, 3), (40, 33, 3), (20, 50, 1), (47, 34, 3))]
  for count in (1, 2, 4):
    devices(count)
    net = dataclasses.replace(pretrained)   # its programs are for the devices of the moment
    found.append(streamed(net, images, 2))
  for other in found[1:]:
    np.testing.assert_array_equal(other, found[0])


def test_each_process_reads_its_share(extractor, digits, monkeypatch, devices):
  devices(1)
  monkeypatch.setattr(features.jax, 'process_count', lambda: 2)
  for index, expected in ((0, [(0, 8), (16, 24), (32, 36)]), (1, [(8, 16), (24, 32), (32, 36)])):
    monkeypatch.setattr(features.jax, 'process_index', lambda index=index: index)
    monkeypatch.setattr(features.parallel, 'all_processes', lambda tree: [tree, tree])
    images = Images(digits.test.x[:36], [])
    assert sum(len(out['features']) for out in features.stream(
      extractor, images, device_batch=8)) == 36
    assert images.read == expected   # in the last, short round both read what there is


def test_input_size_is_part_of_the_name(pretrained):
  assert pretrained.name == 'efficientnet_lite0_32'
  assert pretrained.sha256 == efficientnet.SHA256
  other = features.load('efficientnet_lite0_48')
  image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
  for net, side in ((other, 48), (pretrained, 32)):
    block, = features._blocks(net, [image], 1)
    assert net.prepare(*block[1:]).shape == (1, side, side, 3)


@pytest.mark.parametrize('size, kernel, stride', [
  (12, 3, 1), (12, 3, 2), (13, 3, 2), (12, 5, 2), (13, 5, 2), (6, 5, 1), (3, 5, 2)])
def test_depthwise_convolution_is_xlas(size, kernel, stride):
  """At even and odd sizes, where SAME pads more on the right, and for images below the kernel."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, size, size + 1, 4)).astype(np.float32)
  kernel = rng.normal(size=(kernel, kernel, 1, 4)).astype(np.float32)
  expected = jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), 'SAME', feature_group_count=4,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest')
  np.testing.assert_allclose(efficientnet._depthwise(x, kernel, stride), expected,
                             rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_efficientnet_knows_what_is_on_photographs():
  """China's temple and a flower of scikit-learn, by the classes of ImageNet."""
  photographs = pytest.importorskip('sklearn.datasets').load_sample_images().images
  extractor = features.load('efficientnet_lite0_224')
  expected = ({497, 663, 832}, {985, 308, 309, 723, 301, 738, 946, 944})
  for image, classes in zip(photographs, expected):
    square = image[:, (image.shape[1] - image.shape[0]) // 2:][:, :image.shape[0]]
    scores = efficientnet.logits(extractor.variables, features.extract(extractor, square[None], 1))
    assert classes & set(np.asarray(scores[0]).argsort()[-3:].tolist())


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::mollification.evaluation.frechet.FewSamples')
@pytest.mark.parametrize('corrupt', ['noise', 'blur', 'jpeg'])
def test_real_features_see_corruption_grow(corrupt):
  """Fréchet distance in pretrained features, between patches of photographs and worse ones."""
  images = data.load('photo_patches').test.x[:400]
  extractor = features.load('efficientnet_lite0_96')
  reference = moments.of(features.extract(extractor, images)).statistics()
  distances = []
  for strength in range(4):
    worse = np.stack([corrupted(image, corrupt, strength, i) for i, image in enumerate(images)])
    found = moments.of(features.extract(extractor, worse)).statistics()
    distances.append(frechet.frechet_distance(found, reference))
  assert distances[0] < 1e-6
  assert distances == sorted(distances)
  assert distances[3] > 2 * distances[1] > 0


def corrupted(image, kind, strength, seed):
  """uint8 [H, W, 3], at strength 0 as it is."""
  if not strength:
    return image
  if kind == 'noise':
    noise = np.random.default_rng(seed).normal(size=image.shape) * (8, 24, 64)[strength - 1]
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
  picture = Image.fromarray(image)
  if kind == 'blur':
    return np.asarray(picture.filter(ImageFilter.GaussianBlur((.5, 1, 3)[strength - 1])))
  buffer = io.BytesIO()
  picture.save(buffer, 'JPEG', quality=(90, 40, 5)[strength - 1])
  return np.asarray(Image.open(buffer))
