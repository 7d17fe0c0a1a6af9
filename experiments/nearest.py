"""Picture of the samples of a run that are nearest to training images, each above that image.

`measure` records which they are (`extra` of near_share), of all samples that it measures; grids of
samples hold the first few. Both are there again when a run is recorded: sample i is a function of
the key and i, and the data set is at hand.
"""
import numpy as np

from mollification import measure
from mollification.evaluation import records, sampling

SHOWN = 8
MODELS = ('vae', 'realnvp')   # a family of each kind: to draw all samples again takes half a minute


def draw(folder):
  """The file samples/nearest-PARAMS-STEP.png of a finished run, drawn unless it is there.

  Samples lie above, nearest of all to the left, and their training images below. None where no
  record names them; raises FileNotFoundError where their checkpoint is gone.
  """
  found = [r for r in records.read_all(folder / 'records') if r.metric == 'near_share']
  if not found:
    return None
  record = max(found, key=lambda r: r.step)
  path = folder / 'samples' / f'nearest-{record.params}-{record.step:08d}.png'
  if not path.exists():
    run = measure.open_run(folder, record.params, record.features['quantisation'])
    pairs = np.concatenate(_pairs(run, record))
    image = sampling.grid(pairs, len(pairs) // 2, levels=run.evaluation.dataset.levels, gap=1)
    sampling.save_png(path, image, max(1, sampling.GRID_PIXELS // image.shape[1]))
  return path


def _pairs(run, record):
  """(samples, training images), uint8 [N, H, W, C] each, of a record of near_share."""
  which = record.extra['samples'][:SHOWN]
  drawn = measure.restore(run, record.step).samples(max(which) + 1, allow_nonfinite=True)
  return drawn.x[which], run.evaluation.dataset.train.x[record.extra['train_images'][:SHOWN]]
