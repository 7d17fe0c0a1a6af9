"""Does the gain of mollification depend on the intrinsic dimension d of data in R^16?

  python -m experiments.intrinsic_dimension [--cells=plane_2,...] [--seeds=4] [--shard=1/4]
    [--dry_run] [--smoke]

A RealNVP on data of known d (mollification/data/manifold.py): on a plane, on a curved manifold,
and on a curved one with noise about it; vanilla training against four schedules from equal seeds.
Likelihood cannot judge a flow on data without a density, so samples do: MMD² against test data, and
how far they lie from the manifold. --record copies the records to
experiments/results/intrinsic_dimension. Forty minutes of a core.
"""
import functools
import pathlib

import jax
import numpy as np

from experiments import command, grid, grid_command

FLAGS = command.FLAGS
AMBIENT = 16
KINDS = {'plane': {}, 'curved': {'curvature': 1.}, 'noisy': {'curvature': 1., 'noise': .1}}
DIMENSIONS = (1, 2, 4, 8)
# With d = D there is nothing to be off.
CELLS = (*(f'{kind}_{d}' for kind in KINDS for d in DIMENSIONS), f'plane_{AMBIENT}')
DEFAULT = 'half'
ARMS = {
  'vanilla': {'fraction': 0.}, 'quarter': {'fraction': .25}, DEFAULT: {}, 'all': {'fraction': 1.},
  'sharp': {'sigmoid.temperature': .3}}
SAMPLES = 1_000
UNITS = {'mmd2': '1', 'off_manifold': 'data units'}
RESULTS = pathlib.Path(__file__).parent / 'results' / 'intrinsic_dimension'


def run(root):
  """Train what is missing, print, draw."""
  from experiments import intrinsic_dimension_table
  names, seeds = command.chosen_cells(CELLS), range(2 if FLAGS.smoke else FLAGS.seeds)
  wanted = [cell(root, name, seeds, FLAGS.smoke) for name in names]
  folder = grid_command.run(wanted, root, RESULTS)
  if folder is None:
    return
  if FLAGS.record:
    names = grid.recorded(folder, CELLS)   # its table is of all that is recorded
  intrinsic_dimension_table.report(folder, names)


def cell(root, name, seeds, smoke=False):
  """The grid cell `name` under the folder `root`."""
  runs = {(arm, seed): config_of(name, arm, seed, smoke) for arm in ARMS for seed in seeds}
  return grid.Cell(name, pathlib.Path(root) / name, runs, observe,
                   functools.partial(derive, name), UNITS)


def config_of(name, arm, seed, smoke=False):
  """One run: 3,000 updates of the RealNVP of the synthetic figures, ten evaluations."""
  from configs import synthetic_realnvp
  kind, d = name.split('_')
  config = synthetic_realnvp.get_config(
    f'data.name=manifold,data.ambient={AMBIENT},data.intrinsic={d},total_steps=3000')
  config.seed, config.eval.every, config.mollify.fraction = seed, 300, .5
  config.data.update(KINDS[kind])
  config.mollify.update_from_flattened_dict(ARMS[arm])
  if smoke:
    config.model.hidden, config.total_steps, config.steps_per_call = 8, 40, 20
    config.log.every = config.eval.every = config.checkpoint.every = 20
  return config


def observe(net, variables):
  """{'samples': [SAMPLES, D]} of one flow."""
  keys = jax.random.split(jax.random.key(2023), SAMPLES)
  return {'samples': net.apply(variables, keys, method='sample')}


@functools.cache
def held_out(name):
  """(law, test points [SAMPLES, D]) of a cell."""
  from mollification import build
  dataset = build.load_data(config_of(name, 'vanilla', 0))
  return dataset.density, dataset.test.x[:SAMPLES]


def derive(name, curves):
  """{'mmd2': [P], 'off_manifold': [P]} of the samples [P, SAMPLES, D] of one run.

  The second is the root of the mean squared distance. Samples that are not finite leave neither.
  """
  from mollification.evaluation import mmd
  law, test = held_out(name)
  reference, found = mmd.reference(test), {'mmd2': [], 'off_manifold': []}
  for samples in curves['samples']:
    finite = np.isfinite(samples).all()
    found['mmd2'].append(mmd.mmd2(samples, reference).value if finite else np.nan)
    found['off_manifold'].append(np.sqrt((law.distance(samples)**2).mean()) if finite else np.nan)
  return {metric: np.array(values) for metric, values in found.items()}


if __name__ == '__main__':
  grid_command.define_flags('intrinsic_dimension', 'cpu', seeds=4, cells='KIND_d,...')
  command.run(run)
