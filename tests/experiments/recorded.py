"""Committed files of runs, as `image_command.record` leaves them, with two evaluations."""
import json

import numpy as np
from ml_collections import ConfigDict

from mollification import measure
from mollification.evaluation import records, sampling
from mollification.training import workdir
from tests.training import tiny

NET = 'digits_cnn_8x8'


def run(place, *, arm, seed, end=-4., levels=(.5, 0.), net=NET, steps=(40, 80), nonfinite=0):
  """MODEL `place`/ARM/SEED that ends with the score `end`; distances 1000 / step in `net`."""
  folder = place / arm / str(seed)
  (folder / 'records').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(config(arm)))
  (folder / 'curve.jsonl').write_text(''.join(json.dumps(
    {'step': step, 'train/level': level, 'valid/log_likelihood': score}) + '\n'
    for step, level, score in ((40, levels[0], end - 3), (80, levels[1], end))))
  for step in steps:
    records.write(record(net, step, seed, nonfinite, arm), folder / 'records')
    image = np.full((72, 72, 1), step, np.uint8)
    sampling.save_png(folder / 'samples' / f'measured-raw-{step:08d}.png', image)


def config(arm):
  """That of a run of 80 updates."""
  return tiny.config(total_steps=80, mollify__fraction=0. if arm == 'vanilla' else .5).to_dict()


def record(net, step, seed, nonfinite=0, arm='vanilla'):
  """A Fréchet distance of 20 samples from as many images in the features of `net`."""
  return records.Record(
    metric='frechet', value=1000. / step, standard_error=None, n=20, unit='1', params='raw',
    reference={'dataset': 'digits', 'split': 'test', 'n': 20, 'sha256': 'a'}, step=step,
    features={'net': net, 'sha256': 'b', 'input_mode': 'uint8', 'quantisation': 'floor'},
    seed=seed, config_sha256=workdir.identity(config(arm)), seconds=1.,
    settings=measure.settings_for('frechet', ConfigDict(config(arm))),
    extra={'nonfinite_samples': nonfinite})
