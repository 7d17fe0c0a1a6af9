"""What a recorded run shows over its updates: distances to real images, and where its noise ends.

A run is the folder MODEL/ARM/SEED of committed records; what it has at one update alone is no
curve.
"""
import json
from typing import NamedTuple

from ml_collections import ConfigDict

from mollification import build
from mollification.evaluation import features, records

METRICS = ('fid', 'frechet')


class Distance(NamedTuple):
  """Which distance a curve is of: in the features of `net`, of `n` samples; `own` of the data."""
  own: bool
  metric: str
  net: str
  n: int

  @property
  def title(self):
    """What it is: FID is that of Inception features alone."""
    name = 'FID' if self.metric == 'fid' else 'Fréchet distance'
    return f'{name}, {self.net} features'


def distances(place):
  """{Distance: [(update, value)]} of a run, in the features of its data set's own network first."""
  found = {}
  for r in records.read_all(place / 'records'):
    if r.metric in METRICS:
      net = r.features['net']
      key = Distance(features.DATASETS.get(r.reference['dataset']) == net, r.metric, net, r.n)
      found.setdefault(key, []).append((r.step, r.value))
  return {key: sorted(found[key]) for key in sorted(found, key=lambda key: (not key.own, key))
          if len(found[key]) > 1}


def end_of_noise(place):
  """The update from which a run saw clean data, by its config; 0 for vanilla training.

  0, too, where no config is beside the records.
  """
  path = place / 'config.json'
  return build.mollified_steps(ConfigDict(json.loads(path.read_text()))) if path.exists() else 0
