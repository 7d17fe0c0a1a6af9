"""Mollification against what one would otherwise do, at equal budget.

  python -m experiments.alternatives [--data_dir=DIR] [--cells=...] [--seeds=4] [--shard=1/3]
    [--dry_run] [--smoke]

The same flow, updates, seeds and order of the data for all: vanilla training (its evaluation that
is best on validation data is early stopping), mollified training, weight decay, dropout in the
conditioners, constant noise, constant noise with Tweedie's denoising of samples, SoftFlow, clipped
gradients, and an average of the parameters. Each method that has a strength gets the two settings
of `methods`, of which the better one on validation data is reported. A MAF on RED-WINE, by the
protocol of the UCI table but for 100 epochs and a hidden width of 256 (redwine.npy in DIR), and a
RealNVP on two densities in the plane, 1,500 updates of batch 128 each.
--record copies the records to experiments/results/alternatives. Half an hour of a core.
"""
import functools
import pathlib

import jax
import numpy as np
from absl import flags

from experiments import command, grid, grid_command, plane

FLAGS = command.FLAGS
DATA = ('redwine', 'eight_gaussians', 'two_gaussians')
SAMPLES = 500
FAR = 1e5   # where a sample is of no data's neighbourhood
RESULTS = pathlib.Path(__file__).parent / 'results' / 'alternatives'
# Strengths in the order table, plane. Noise is in units of the data: a standardised table, and
# densities whose parts are .2 and .3 wide.
SIGMAS, DECAYS = ((.1, .3), (.05, .15)), ((1e-2, 1e-1), (1e-4, 1e-3))
_NOISE = {'mollify.name': 'gaussian_ve', 'mollify.schedule': 'constant', 'mollify.fraction': 1.,
          'mollify.constant.value': 1., 'mollify.granularity': 'step'}
_ARMS = {
  'noise': {}, 'tweedie': {'mollify.denoise': True},
  'softflow': {'mollify.spread': 'uniform', 'model.level_condition': True}}


def methods(name):
  """{method: {setting: {config key: value}}} on the data `name`."""
  place = int(name in plane.DENSITIES)
  noisy = {arm: {f'sigma_{sigma}': {**_NOISE, 'mollify.gaussian_ve.sigma_max': sigma, **keys}
                 for sigma in SIGMAS[place]} for arm, keys in _ARMS.items()}
  one = lambda label, key, values: {f'{label}_{v}': {'mollify.fraction': 0., key: v}
                                    for v in values}
  return {
    'vanilla': {'': {'mollify.fraction': 0.}},
    'mollified': {'half': {'mollify.fraction': .5}, 'all': {'mollify.fraction': 1.}},
    'weight_decay': one('l2', 'optimizer.weight_decay', DECAYS[place]),
    'dropout': one('rate', 'model.dropout', (.1, .3)),
    **noisy,
    'clipping': one('norm', 'optimizer.clip_norm', (1., 10.)),
    'ema': {label: {**keys, 'eval.params': 'ema'}
            for label, keys in one('decay', 'ema_decay', (.99, .999)).items()}}


def variants(name):
  """{arm: {config key: value}}: the settings of all methods, `arm` as `arm_of` calls them."""
  return {arm_of(method, setting): keys for method, settings in methods(name).items()
          for setting, keys in settings.items()}


def arm_of(method, setting):
  """What a method in a setting is called in the records."""
  return f'{method}_{setting}' if setting else method


def programs(name):
  """{label: [arm]}: what differs in its schedule alone is one sweep."""
  found = {f'{name}_base': []}
  for arm in variants(name):
    if arm.startswith(('vanilla', 'mollified')):
      found[f'{name}_base'].append(arm)
    else:
      found[f'{name}_{arm}'] = [arm]
  return found


def define_flags():
  """Those of the command."""
  grid_command.define_flags('alternatives', 'cpu', seeds=4, cells='Names of data sets')
  flags.DEFINE_string('data_dir', '', 'Folder of redwine.npy; only for that cell.')


def run(root):
  """Train what is missing, print, draw."""
  from experiments import alternatives_table
  names, seeds = command.chosen_cells(DATA), range(2 if FLAGS.smoke else FLAGS.seeds)
  wanted = [cell(root, name, label, arms, seeds, FLAGS.data_dir, FLAGS.smoke)
            for name in names for label, arms in programs(name).items()]
  folder = grid_command.run(wanted, root, RESULTS)
  if folder is None:
    return
  if FLAGS.record:
    names = alternatives_table.recorded(folder)   # its table is of all that is recorded
  alternatives_table.report(folder, names)


def cell(root, name, label, arms, seeds, data_dir='', smoke=False):
  """The grid cell of the sweep `label` of `programs`, under the folder `root`."""
  runs = {(arm, seed): config_of(name, arm, seed, data_dir, smoke)
          for arm in arms for seed in seeds}
  config = runs[arms[0], seeds[0]]
  return grid.Cell(label, pathlib.Path(root) / label, runs, functools.partial(observe, config),
                   functools.partial(derive, config))


def config_of(name, arm, seed, data_dir='', smoke=False):
  """One run, with ten evaluations: 100 epochs of a table, 1,500 updates in the plane."""
  import importlib
  table = name not in plane.DENSITIES
  module = f'uci_{name}_maf' if table else 'synthetic_realnvp'
  config = importlib.import_module(f'configs.{module}').get_config()
  config.data.name, config.data.data_dir, config.seed = name, data_dir, seed
  if table:
    epoch = config.steps_per_call
    config.model.hidden, config.total_steps, config.eval.every = 256, 100 * epoch, 10 * epoch
  else:
    config.batch_size, config.total_steps, config.eval.every = 128, 1_500, 150
    config.steps_per_call = config.log.every = 50
    config.checkpoint.every = 750
  config.update_from_flattened_dict(variants(name)[arm])
  if smoke:
    config.model.hidden, config.steps_per_call = 8, 13
    config.total_steps = 4 * 13
    config.log.every = config.eval.every = config.checkpoint.every = 26
  return config


def observe(config, net, variables):
  """{'samples': [SAMPLES, D]} of one flow, denoised where its config says so."""
  from mollification import build
  keys = jax.random.split(jax.random.key(2023), SAMPLES)
  return {'samples': build.sample_fn(config, net)(variables, keys)}


@functools.cache
def _held_out(name, data_dir):
  """{'mmd2': test points, 'mmd2_validation': others} [N, D], N at most SAMPLES."""
  from mollification import data
  dataset = data.load(name, data_dir=data_dir)
  return {'mmd2': dataset.test.x[:SAMPLES], 'mmd2_validation': dataset.validation.x[:SAMPLES]}


def derive(config, curves):
  """{'mmd2': [P], 'mmd2_validation': [P]} of the samples [P, SAMPLES, D] of one run.

  In the plane also 'share_far', the share of samples where data are rare. A sample that is not
  finite is one infinitely far from all others, to which no kernel reaches; 'lost' counts them.
  """
  from mollification.evaluation import mmd
  name, found = config.data.name, {}
  for metric, points in _held_out(name, config.data.data_dir).items():
    reference = mmd.reference(points)
    found[metric] = np.array([mmd.mmd2(_far_away(samples), reference).value
                              for samples in curves['samples']])
  found['lost'] = (~np.isfinite(curves['samples']).all(-1)).sum(1)
  if name in plane.DENSITIES:
    found['share_far'] = np.array([plane.share_far(name, s) for s in curves['samples']])
  return found


def _far_away(samples):
  """float64 [N, D]: samples, with those that are not finite, or all but, far from everything."""
  lost = ~(np.abs(samples) < FAR).all(-1)
  places = FAR * (1. + np.arange(len(samples)))[:, None]
  return np.where(lost[:, None], places, samples.astype(np.float64))


if __name__ == '__main__':
  define_flags()
  command.run(run)
