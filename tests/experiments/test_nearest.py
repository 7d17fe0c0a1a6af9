"""The picture of samples beside their nearest training images is of those that a record names."""
import types

import numpy as np
import pytest
from PIL import Image

from experiments import image_command, nearest
from mollification import measure
from mollification.evaluation import records, sampling
from mollification.training import loop, workdir
from tests.training import tiny

SIDE = 8 + 1   # pixels of a digit, and the gap
NAMED = {'samples': [33, 2, *range(10, 18)], 'train_images': [700, 5, *range(20, 28)]}


def _near_share(folder):
  """A record of which samples are nearest, in another order than they are drawn in."""
  records.write(records.Record(
    metric='near_share', value=0., standard_error=None, n=40, unit='1', params='raw', step=8,
    seed=0, config_sha256=workdir.identity(workdir.read_config(folder)), seconds=1., extra=NAMED,
    reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'},
    features={'net': 'digits_cnn_8x8', 'sha256': 'b', 'input_mode': 'uint8',
              'quantisation': 'floor'}), folder / 'records')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp('runs') / 'vae' / 'vanilla' / '0'
  place.mkdir(parents=True)
  run = tiny.run('vae', eval__every=0)
  workdir.claim(place, tiny.config('vae', eval__every=0).to_dict(), run.data)
  loop.train(run, place)
  return place


def test_samples_lie_above_the_training_images_that_a_record_names(folder, tmp_path):
  assert nearest.draw(tmp_path) is None   # nothing was measured
  _near_share(folder)
  path = nearest.draw(folder)
  assert path == folder / 'samples' / 'nearest-raw-00000008.png'
  shown, scale = np.asarray(Image.open(path)), 512 // (8 * SIDE)
  assert shown.shape == (2 * SIDE * scale, 8 * SIDE * scale)
  cells = shown[::scale, ::scale].reshape(2, SIDE, 8, SIDE)[:, :-1, :, :-1].transpose(0, 2, 1, 3)
  run = measure.open_run(folder)
  samples = measure.restore(run, 8).samples(40, False).x
  stretched = lambda images: np.rint(images[..., 0] * (255 / 16)).astype(np.uint8)
  np.testing.assert_array_equal(cells[0], stretched(samples[NAMED['samples'][:8]]))
  np.testing.assert_array_equal(
    cells[1], stretched(run.evaluation.dataset.train.x[NAMED['train_images'][:8]]))
  written = path.stat().st_mtime_ns
  assert nearest.draw(folder) == path
  assert path.stat().st_mtime_ns == written


def test_they_are_drawn_where_a_run_is_recorded(folder, tmp_path):
  """Of the first seed; other pictures in the folder are the run's own."""
  _near_share(folder)
  sampling.save_png(folder / 'samples' / 'step-00000008.png', np.zeros((8, 8, 1), np.uint8))
  for seed, names in ((0, ['nearest-raw-00000008.png']), (1, [])):
    cell = types.SimpleNamespace(folder=folder, config=types.SimpleNamespace(seed=seed))
    image_command.record(cell, tmp_path / str(seed))
    assert [path.name for path in (tmp_path / str(seed)).glob('samples/*')] == names
