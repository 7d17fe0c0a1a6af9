"""What the tables of images are made of: models, data, arms, and what a scale makes of them.

A run lives in SCALE/DATASET/MODEL/ARM/SEED under the workdir, where MODEL is the last part of its
config's name. Runs of one model and seed differ in their arm alone.
"""
import dataclasses
import importlib

from experiments import cells
from mollification import build

MODELS = ('realnvp', 'glow', 'vae', 'vae_iaf', 'iwae', 'beta_vae', 'hvae')   # of Table 1
ARMS = {'vanilla': {'fraction': 0.}, 'gaussian': {}, 'blur': {'name': 'heat_blur'}}
# Of the strongest blur, in pixels: Rissanen et al. 2023 (arXiv 2206.13397) by size of the images;
# 5 for the digits, as 20 is to 28 pixels.
SIGMA_MAX = {'cifar10': 24., 'celeba64': 32., 'fashion_mnist': 20., 'photo_patches': 20.,
             'digits': 5.}
_DISTANCES = ('frechet', 'kid', 'pr')


@dataclasses.dataclass(frozen=True)
class Scale:
  """A size of the table: data sets, models, arms, seeds, and what is measured of each run."""
  datasets: tuple
  models: tuple
  arms: tuple
  seeds: int
  metrics: tuple
  more: tuple = ()   # of `cells.InFeatures`


SCALES = {
  'paper': Scale(('cifar10', 'celeba64'), MODELS, tuple(ARMS), 1, ('nll', 'fid', 'kid', 'pr')),
  'digits': Scale(('digits',), (*MODELS, 'nvae'), tuple(ARMS), 3, ('nll', 'mmd', *_DISTANCES)),
}


def config_of(dataset, model, arm, seed):
  """The config of one run, of the data set's own run file."""
  config = importlib.import_module(f'configs.{dataset}_{model}').get_config()
  config.seed = seed
  config.mollify.heat_blur.sigma_max = SIGMA_MAX[dataset]
  config.mollify.update_from_flattened_dict(ARMS[arm])
  return config


def names(scale):
  """DATASET/MODEL/ARM/SEED of all runs of a scale; neighbours are of other programs.

  So two workers that begin do not compile the same one.
  """
  s = SCALES[scale]
  return [f'{dataset}/{model}/{arm}/{seed}' for dataset in s.datasets for seed in range(s.seeds)
          for arm in s.arms for model in s.models]


def cell(scale, name, root, *, data_dir='', smoke=False):
  """The `cells.Cell` of one of `names` under the folder `root`."""
  dataset, model, arm, seed = name.split('/')
  config = config_of(dataset, model, arm, int(seed))
  config.data.data_dir, config.log.stdout = data_dir, False
  return cells.Cell(build.smoke(config) if smoke else config, root / scale / name,
                    SCALES[scale].metrics, name, SCALES[scale].more,
                    kept=root / scale / dataset / 'data', allow_nonfinite=True)


def chosen(scale, patterns, shard):
  """Those of `names` that start with one of `patterns` (all for none), of them the share 'i/n'.

  Raises ValueError for a pattern that nothing starts with, and for a share that is none.
  """
  found = names(scale)
  for pattern in patterns:
    if not any(_starts(name, pattern) for name in found):
      raise ValueError(f'no run of the scale {scale!r} starts with {pattern!r}; runs are called '
                       f'DATASET/MODEL/ARM/SEED, like {found[0]}.')
  found = [name for name in found if not patterns or any(_starts(name, p) for p in patterns)]
  i, _, n = shard.partition('/')
  if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
    raise ValueError(f'--shard must be i/n with i from 1 to n, got {shard!r}.')
  return found[int(i) - 1::int(n)]


def _starts(name, pattern):
  parts = pattern.strip('/').split('/')
  return name.split('/')[:len(parts)] == parts
