"""Published figures, for whoever has the files: pytest -m weights

Needs the Inception weights where `weights.find` looks. For CIFAR-10 as a whole TFDS_DATA_DIR names
a folder of TFDS; all else lies in the folder that FID_REFERENCES names:

  elefant.jpg                              256 x 256, of jax-fid's tests
  cifar10-train-img-5000, cifar10-valid-img-5000, cifar10-valid-img-noise-5000,
  cifar10-train-img-100                    as torch-fidelity's util_dump_dataset_as_images.py writes
  VIRTUAL_imagenet256_labeled.npz, admnet_guided_upsampled_imagenet256.npz,
  admnet_imagenet256.npz, admnet_guided_imagenet256.npz,
  VIRTUAL_imagenet64_labeled.npz, admnet_imagenet64.npz
                                           of guided-diffusion's README

Sources stand beside the values. What a test does not find it skips, and names.
"""
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from mollification import score
from mollification.evaluation import (
  features,
  frechet,
  inception,
  inception_score,
  kid,
  moments,
  neighbours,
  resize,
  scoring,
  sources,
  weights,
)

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


def published(name):
  """The path of a file or folder in FID_REFERENCES; skips where it is not there."""
  path = pathlib.Path(os.environ.get('FID_REFERENCES', '')) / name
  if 'FID_REFERENCES' not in os.environ or not path.exists():
    pytest.skip(f'FID_REFERENCES names no folder with {name}')
  return path


def passed(extractor, name, *args, **options):
  return scoring.run(extractor, sources.open_images(published(name)), *args, **options)


def test_scales_of_batch_norm_are_one(network):
  """The graph normalises without scale; another value would be another file (jax-fid, NVIDIA)."""
  params = weights.load().params
  for name, array in weights.flatten(params).items():
    if name.endswith('/bn/scale'):
      np.testing.assert_array_equal(array, 1, err_msg=name)


def test_features_of_the_elephant(network, monkeypatch):
  """Not resized, 2 x - 1 (jax-fid, tests); the cheapest of the decisive checks."""
  with Image.open(published('elefant.jpg')) as image:
    x = np.asarray(image.convert('RGB'))[None].astype(np.float32)
  monkeypatch.setattr(inception, 'SIZE', 256)
  taps = inception.forward(network('inception_pytorch').variables, 2 * (x / 255) - 1)
  found = np.asarray(taps['2048'][0])
  assert found.shape == (2048,)
  assert (found.min(), found.max(), found.mean()) == pytest.approx((0, 2.5826595, .27707753),
                                                                   abs=1e-4)
  np.testing.assert_allclose(found[:3], [.05827701, .00545461, .84470123], atol=1e-4)


@pytest.mark.parametrize(('mode', 'expected'), [
  ('pytorch', 3.1525318697637204),   # pytorch-image-generation-metrics, tests/test_fid.py
  ('tf1', 3.1508),                   # TTUR's network, by the same README
])
def test_fid_of_cifar10_train_and_test(network, cifar10, mode, expected):
  extractor = network(f'inception_{mode}')
  train, test = (scoring.run(extractor, cifar10(split)) for split in ('full_train', 'test'))
  value = frechet.frechet_distance(test.moments.statistics(), train.moments.statistics())
  assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(('mode', 'split', 'expected'), [
  ('tf1', 'full_train', 11.237),    # 11.23678 ± 0.09514, torch-fidelity README, shuffled splits
  ('pytorch', 'full_train', 11.26),   # ± 0.13, pytorch-image-generation-metrics README
  ('pytorch', 'test', 10.968601098),   # ± 0.193806868, its tests/test_inception_score.py
])
def test_inception_score_of_cifar10(network, cifar10, mode, split, expected):
  """Over splits of another order, hence the tolerance: a third of the published deviation."""
  score = scoring.run(network(f'inception_{mode}'), cifar10(split), ['is']).score.score()
  assert score.mean == pytest.approx(expected, abs=.05)


SEED = 2020   # of torch-fidelity's draws


@pytest.fixture(scope='module')
def five_thousand(network):
  """The passes over torch-fidelity's fixed subsets."""
  extractor = network('inception_tf1')
  return [passed(extractor, f'cifar10-{split}-img-5000', ['fid', 'kid'])
          for split in ('train', 'valid')]


def shuffled_score(extractor, name):
  """The inception score over splits in torch-fidelity's order."""
  source = sources.open_images(published(name))
  logits = np.concatenate([out['logits_unbiased'] for out in features.stream(extractor, source)])
  order = np.random.RandomState(SEED).permutation(source.n)
  return inception_score.InceptionScore(source.n).add(logits[order]).score()


def drawn_subsets(x, y):
  """Mean and deviation of KID over torch-fidelity's draw of 100 x 1000."""
  rng, values = np.random.RandomState(SEED), []
  for _ in range(kid.SUBSETS):
    pair = [rows[rng.choice(len(rows), kid.SUBSET_SIZE, replace=False)] for rows in (x, y)]
    values.append(kid.kid(*pair).value)
  return np.mean(values), np.std(values)


def test_figures_of_torch_fidelitys_subsets(network, five_thousand):
  """10.3233274 ± 1e-4 (test_metric_fid_fidelity.py), the others of its test_versions.py."""
  train, valid = five_thousand
  value = frechet.frechet_distance(train.moments.statistics(), valid.moments.statistics())
  assert value == pytest.approx(10.3233274, abs=1e-4)
  score = shuffled_score(network('inception_tf1'), 'cifar10-train-img-5000')
  assert score == pytest.approx((10.75051, .5778723), abs=1e-2)
  assert drawn_subsets(train.rows, valid.rows) == pytest.approx((-2.907863e-05, 1.023118e-4),
                                                                abs=1e-6)
  shares = neighbours.manifolds(train.rows, valid.rows)
  assert (shares.precision, shares.recall) == pytest.approx((.6852, .6908), abs=1e-3)


def test_kid_of_noised_images(network, five_thousand):
  """Of torch-fidelity's test_metric_kid_fidelity.py."""
  noised = passed(network('inception_tf1'), 'cifar10-valid-img-noise-5000', ['kid'])
  assert drawn_subsets(noised.rows, five_thousand[0].rows)[0] == pytest.approx(.4718520, abs=1e-4)


def test_inception_score_of_a_hundred_images(network):
  """Of torch-fidelity's test_metric_isc_fidelity.py."""
  score = shuffled_score(network('inception_tf1'), 'cifar10-train-img-100')
  assert score.mean == pytest.approx(4.51089784587268, abs=1e-3)


def test_figures_of_guided_diffusion(network):
  """ADM-G with upsampling at 256 pixels, its README: 50 000 samples.

  The reference holds statistics over the whole of ImageNet, and 10 000 images for precision and
  recall alone.
  """
  names = 'admnet_guided_upsampled_imagenet256.npz', 'VIRTUAL_imagenet256_labeled.npz'
  extractor, paths = network('inception_tf1'), [published(name) for name in names]
  result = score.score(*paths, ['fid', 'is', 'sfid'], extractor, groups=0)
  found = {figure['metric']: figure['value'] for figure in result['figures']}
  assert found['fid'] == pytest.approx(3.9425574129223264, abs=2e-3)   # 3.94335 in torch-fidelity
  assert found['sfid'] == pytest.approx(6.140433703346162, abs=2e-2)
  assert found['inception_score'] == pytest.approx(215.8370361328125, rel=2e-3)
  shares = score.score(*paths, ['pr'], extractor, groups=0)['figures'][:2]
  assert [figure['value'] for figure in shares] == pytest.approx([.8265, .5309], abs=2e-3)


@pytest.mark.parametrize(('name', 'expected'), [
  ('admnet_imagenet256.npz', 10.94), ('admnet_guided_imagenet256.npz', 4.59)])
def test_fid_of_adm_at_256_pixels(network, name, expected):
  """50 000 samples without and with guidance, two decimals in the README of jax-fid-parallel."""
  paths = [published(name), published('VIRTUAL_imagenet256_labeled.npz')]
  result = score.score(*paths, ['fid'], network('inception_tf1'), groups=0)
  assert result['figures'][0]['value'] == pytest.approx(expected, abs=1e-2)


def test_fid_of_adm_at_64_pixels(network):
  """guided-diffusion, issue 75."""
  paths = [published(name) for name in ('admnet_imagenet64.npz', 'VIRTUAL_imagenet64_labeled.npz')]
  result = score.score(*paths, ['fid'], network('inception_tf1'), groups=0)
  assert result['figures'][0]['value'] == pytest.approx(2.6141597041162186, abs=2e-3)


def test_self_distance_of_real_features(network, cifar10):
  images = cifar10('test').piece(0, 256)
  found = moments.of(features.extract(network('inception_pytorch'), images)).statistics()
  assert frechet._distance(found, found) < 1e-9


def test_modes_differ(network, cifar10):
  """The resizing alone moves features: statistics of two modes must not be mixed."""
  images = cifar10('test').piece(0, 32)
  rows = [features.extract(network(f'inception_{mode}'), images) for mode in resize.MODES]
  for a, b in ((0, 1), (0, 2), (1, 2)):
    assert np.abs(rows[a] - rows[b]).mean() > 1e-3
