"""What the tables of images are made of: runs, and what a scale makes of them.

A run lives in SCALE/DATASET/MODEL/ARM/SEED under the workdir, where MODEL is the last part of its
config's name, and belongs to every table that asks for it. Runs of one model and seed differ in
their arm alone.
"""
import dataclasses
import importlib
import itertools

from experiments import cell_records, cells, shares
from mollification import build

MODELS = ('realnvp', 'glow', 'vae', 'vae_iaf', 'iwae', 'beta_vae', 'hvae')   # of Table 1
# What an arm changes in `mollify`. The gaussian one has the sigmoid schedule.
ARMS = {'vanilla': {'fraction': 0.}, 'gaussian': {}, 'blur': {'name': 'heat_blur'},
        'cosine': {'schedule': 'cosine'}, 'linear': {'schedule': 'linear'}}
# Of the strongest blur, in pixels: Rissanen et al. 2023 (arXiv 2206.13397) by size of the images;
# 5 for the digits, as 20 is to 28 pixels.
SIGMA_MAX = {'cifar10': 24., 'celeba64': 32., 'fashion_mnist': 20., 'photo_patches': 20.,
             'digits': 5.}
_DISTANCES = ('frechet', 'kid', 'pr')
TWO_STEP = 'two_step'   # model of a flow on the latents of the vanilla VAE
WATCHED = '0'      # the seed that is looked at over its training
SMOKE_BATCH = 16   # of --smoke: it divides over 8 devices, whatever the workers will find


@dataclasses.dataclass(frozen=True)
class Grid:
  """Runs of one data set: models, arms, seeds, and what is measured of each.

  `more` is that of `cells.Cell`. Of every kept checkpoint but the last of the first seed
  `over_training` [InFeatures] is measured, by `experiments.fig_fid_over_training`; it may be of any
  network. `changes` are keys of every config, and `by_model` those of single ones.
  """
  models: tuple
  arms: tuple
  seeds: int
  metrics: tuple
  more: tuple = ()
  over_training: tuple = ()
  changes: dict = dataclasses.field(default_factory=dict)
  by_model: dict = dataclasses.field(default_factory=dict)


# --- what makes a run one of a laptop: four to twelve minutes of a core --------------------------

_NETS = {'model.widths': (8, 16, 32, 64), 'optimizer.learning_rate': 1e-3}   # an eighth as wide
_SMALL = {
  'vae': _NETS, 'beta_vae': _NETS, 'vae_iaf': _NETS,
  'iwae': _NETS | {'model.num_samples': 5, 'batch_size': 32},
  'hvae': _NETS | {'model.leapfrog_steps': 1, 'batch_size': 32},
  'glow': {'model.steps': 4, 'model.hidden': 64},
  'realnvp': {'model.features': 8, 'model.blocks': 1, 'model.scales': 2, 'batch_size': 32,
              'eval.batch_size': 32},
}
_UPDATES = {
  'fashion_mnist': {'vae': 8_000, 'beta_vae': 8_000, 'vae_iaf': 8_000, 'iwae': 4_000,
                    'hvae': 4_000, 'glow': 4_500, 'realnvp': 2_400},
  'photo_patches': {'vae': 4_000, 'beta_vae': 4_000, 'vae_iaf': 4_000, 'iwae': 3_300,
                    'hvae': 4_500, 'glow': 2_000, 'realnvp': 1_400},
}
# Of how many validation examples an evaluation is; of all for what is not here.
_EVALUATED = dict.fromkeys(('hvae', 'iwae', 'glow', 'realnvp'), 1_000)
# Of how many the statistics of BatchNorm are made anew before one; of 2,000 for what is not here.
_REFRESHED = {'realnvp': 1_000}
EFFICIENTNET = 'efficientnet_lite0_96'


def _small(dataset, model):
  """Narrow nets, and what an evaluation every fifth of a short run takes."""
  total = _UPDATES[dataset][model]
  return _SMALL[model] | {
    'total_steps': total, 'eval.every': total // 5, 'eval.sample_every': 0,
    'eval.refresh_examples': _REFRESHED.get(model, 2_000), 'checkpoint.every': total // 5,
    'checkpoint.keep_every': total // 5, 'log.every': total // 20,
    'eval.valid_examples': _EVALUATED.get(model, 0)}


def _cpu(dataset, **fields):
  return Grid(models=MODELS, metrics=('nll',), by_model={
    model: _small(dataset, model) for model in MODELS}, **fields)


_FASHION = dataclasses.replace(
  _cpu('fashion_mnist', arms=('vanilla', 'gaussian', 'blur'), seeds=3),
  metrics=('nll', *_DISTANCES, 'copies'),
  more=(cell_records.InFeatures(_DISTANCES, EFFICIENTNET, 2_000),),
  over_training=(cell_records.InFeatures(('frechet',)),))
# Patches every 2 pixels: 13,068 to test on, which overlap; there are but two photographs.
_PATCHES = _cpu('photo_patches', arms=('vanilla', 'gaussian'), seeds=2,
                more=(cell_records.InFeatures(_DISTANCES, EFFICIENTNET, 2_000),),
                changes={'data.stride': 2})
# As published: 50,000 samples against the statistics of all training images.
_FID = cell_records.InFeatures(('fid',), 'inception_pytorch', 50_000, 'full_train')
_PAPER = Grid(
  MODELS, ('vanilla', 'gaussian', 'blur'), 1, ('nll',), over_training=(_FID,), more=(
    dataclasses.replace(_FID, metrics=('fid', 'kid', 'pr'), groups=20),),
  changes={'checkpoint.keep_every': 10_000})
_DIGITS = Grid((*MODELS, 'nvae'), ('vanilla', 'gaussian', 'blur'), 3,
               ('nll', 'mmd', *_DISTANCES))

# {table: {scale: {data set: Grid}}}; a run that two tables name must be the same in both.
TABLES = {
  'table1': {
    'paper': {'cifar10': _PAPER, 'celeba64': _PAPER},
    'cpu': {'fashion_mnist': _FASHION, 'photo_patches': _PATCHES},
    'digits': {'digits': _DIGITS}},
  'table_schedules': {
    'paper': {'cifar10': dataclasses.replace(
      _PAPER, models=('realnvp', 'glow', 'vae', 'beta_vae', 'iwae'),
      arms=('vanilla', 'gaussian', 'cosine', 'linear'))},
    'cpu': {'fashion_mnist': dataclasses.replace(
      _FASHION, models=('vae',), arms=('vanilla', 'gaussian', 'cosine', 'linear'))}},
  'table_nvae': {
    'paper': {'cifar10': dataclasses.replace(_PAPER, models=('nvae',)),
              'celeba64': dataclasses.replace(_PAPER, models=('nvae',))},
    'digits': {'digits': dataclasses.replace(_DIGITS, models=('nvae',))}},
}


def config_of(grid, dataset, model, arm, seed):
  """The config of one run, of the data set's own run file."""
  config = importlib.import_module(f'configs.{dataset}_{model}').get_config()
  config.seed = seed
  config.mollify.heat_blur.sigma_max = SIGMA_MAX[dataset]
  config.mollify.update_from_flattened_dict(ARMS[arm])
  config.update_from_flattened_dict(grid.changes | grid.by_model.get(model, {}))
  return config


def names(table, scale, seeds=0):
  """DATASET/MODEL/ARM/SEED of all runs of a table; neighbours are of other programs.

  So two workers that begin do not compile the same one. 0 `seeds`: those of the table.
  """
  return [f'{dataset}/{model}/{arm}/{seed}' for dataset, grid in TABLES[table][scale].items()
          for seed, arm, model in itertools.product(range(seeds or grid.seeds), grid.arms,
                                                    grid.models)]


def program_of(name):
  """DATASET/MODEL of DATASET/MODEL/ARM/SEED: arms and seeds share it."""
  return name.rsplit('/', 2)[0]


def watched(scale):
  """{name: (table, over_training)} of the runs that are looked at over their training."""
  found = {}
  for table, scales in TABLES.items():
    for name in names(table, scale) if scale in scales else ():
      wanted = scales[scale][name.split('/')[0]].over_training
      if wanted and name.endswith(f'/{WATCHED}'):   # several tables may name it
        found[name] = table, wanted
  return found


def cell(table, scale, name, root, *, data_dir='', smoke=False):
  """The `cells.Cell` of one of `names` under the folder `root`."""
  dataset, model, arm, seed = name.split('/')
  grid = TABLES[table][scale][dataset]
  config = config_of(grid, dataset, model, arm, int(seed))
  config.data.data_dir, config.log.stdout = data_dir, False
  made = cells.Cell(config, root / scale / name, grid.metrics, name, grid.more,
                    kept=root / scale / dataset / 'data', allow_nonfinite=True)
  if not smoke:
    return made
  # Other networks than the data set's own take minutes, or weights that are not there.
  return dataclasses.replace(made, config=build.smoke(config, SMOKE_BATCH), more=())


def chosen(found, patterns, shard):
  """Of the names `found` those that start with one of `patterns` (all for none), the share 'i/n'.

  Raises ValueError for a pattern that nothing starts with, and what `shares.share` raises.
  """
  for pattern in patterns:
    if not any(_starts(name, pattern) for name in found):
      raise ValueError(f'no run of this command starts with {pattern!r}; they are called '
                       f'DATASET/MODEL/ARM/SEED, like {found[0]}.')
  return shares.share([name for name in found if not patterns
                       or any(_starts(name, pattern) for pattern in patterns)], shard)


def _starts(name, pattern):
  parts = pattern.strip('/').split('/')
  return name.split('/')[:len(parts)] == parts
