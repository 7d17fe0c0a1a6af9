"""The picture of samples beside their nearest training images is of those that a record names."""
import numpy as np
from PIL import Image

from experiments import nearest
from mollification import measure
from mollification.evaluation import records
from mollification.training import loop, workdir
from tests.training import tiny

SIDE = 8 + 1   # pixels of a digit, and the gap


NAMED = {'samples': [33, 2, *range(10, 18)], 'train_images': [700, 5, *range(20, 28)]}


def _near_share(folder):
  """A record of which samples are nearest, in another order than they are drawn in."""
  records.write(records.Record(
    metric='near_share', value=0., standard_error=None, n=40, unit='1', params='raw', step=8,
    seed=0, config_sha256='c', seconds=1., extra=NAMED,
    reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'},
    features={'net': 'digits_cnn_8x8', 'sha256': 'b', 'input_mode': 'uint8',
              'quantisation': 'floor'}), folder / 'records')


def test_samples_lie_above_the_training_images_that_a_record_names(tmp_path):
  run = tiny.run('vae', eval__every=0)
  workdir.claim(tmp_path, tiny.config('vae', eval__every=0).to_dict(), run.data)
  loop.train(run, tmp_path)
  assert nearest.draw(tmp_path) is None
  _near_share(tmp_path)
  path = nearest.draw(tmp_path)
  assert path == tmp_path / 'samples' / 'nearest-raw-00000008.png'
  shown, scale = np.asarray(Image.open(path)), 512 // (8 * SIDE)
  assert shown.shape == (2 * SIDE * scale, 8 * SIDE * scale)
  cells = shown[::scale, ::scale].reshape(2, SIDE, 8, SIDE)[:, :-1, :, :-1].transpose(0, 2, 1, 3)
  run = measure.open_run(tmp_path)
  samples = measure.restore(run, 8).samples(40, False).x
  stretched = lambda images: np.rint(images[..., 0] * (255 / 16)).astype(np.uint8)
  np.testing.assert_array_equal(cells[0], stretched(samples[NAMED['samples'][:8]]))
  np.testing.assert_array_equal(
    cells[1], stretched(run.evaluation.dataset.train.x[NAMED['train_images'][:8]]))
  written = path.stat().st_mtime_ns
  assert nearest.draw(tmp_path) == path
  assert path.stat().st_mtime_ns == written
