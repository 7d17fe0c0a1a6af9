"""Why mollification is said to work: does what the explanation claims show?

  python -m experiments.mechanism [--cells=two_gaussians,...] [--seeds=4] [--shard=1/2] [--dry_run]
    [--smoke]

The question is whether the learned density's Lipschitz constant falls, and whether the landscape of
the optimisation gets smoother. The claims are that it keeps the log-density's gradient small (a
local Lipschitz constant), that the loss is smoother, and that what was learned from noise is
remembered. A RealNVP on two mixtures of Gaussians is watched: the norm of the score on the data and
where they are rare, and the largest eigenvalue of the Hessian of the negative log-density by the
parameters. That is not of the training loss of the moment: batch norms have running statistics,
refreshed on clean data, where training takes those of its noisy batch, and the points are clean, or
noisy at a fixed level (.25, 1) that goes through statistics of clean data and is not the level of
the moment. The same levels come falling, rising, shuffled and as their mean, all at the same
budget; a fresh start is vanilla training after as many updates as the others have clean ones. The
learning rate is constant, so that all arms have the same one in their clean phase. --record copies
the records to experiments/results/mechanism. Some eight minutes on one core.
"""
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments import command, grid, grid_command, plane, sharpness
from mollification import mollifiers

FLAGS = command.FLAGS
DATA = ('two_gaussians', 'eight_gaussians')
ARMS = {
  'vanilla': {'fraction': 0.},
  'mollified': {},
  'rising': {'order': 'rising'},
  'shuffled': {'order': 'shuffled'},
  'abrupt': {'schedule': 'constant'},   # at the mean of the others' levels
}
LEVELS = {'sharpness': 0., 'sharpness_quarter': .25, 'sharpness_noise': 1.}
POINTS = 128   # whose loss has the Hessian
RESULTS = pathlib.Path(__file__).parent / 'results' / 'mechanism'


def run(root):
  """Train what is missing, print, draw."""
  from experiments import mechanism_table
  names, seeds = command.chosen_cells(DATA), range(2 if FLAGS.smoke else FLAGS.seeds)
  wanted = [cell(root, name, seeds, FLAGS.smoke) for name in names]
  folder = grid_command.run(wanted, root, RESULTS)
  if folder is None:
    return
  if FLAGS.record:
    names = grid.recorded(folder, DATA)   # its table is of all that is recorded
  mechanism_table.report(folder, names)


def cell(root, name, seeds, smoke=False):
  """The grid cell of the density `name` under the folder `root`."""
  runs = {(arm, seed): config_of(name, arm, seed, smoke) for arm in ARMS for seed in seeds}
  return grid.Cell(name, pathlib.Path(root) / name, runs, functools.partial(observe, name),
                   functools.partial(plane.derive, name))


def config_of(name, arm, seed, smoke=False):
  """One run: half of the updates mollified, 20 evaluations."""
  from configs import synthetic_realnvp
  from mollification import build
  config = synthetic_realnvp.get_config('optimizer.schedule=constant,mollify.fraction=.5')
  config.data.name, config.seed = name, seed
  config.steps_per_call, config.eval.every = 50, 250
  if smoke:
    config.model.hidden, config.total_steps, config.steps_per_call = 8, 40, 10
    config.log.every = config.eval.every = config.checkpoint.every = 10
  levels = build.schedule(config, 1)(np.arange(build.mollified_steps(config)))
  config.mollify.constant.value = round(float(levels.mean()), 6)
  config.mollify.update(ARMS[arm])
  return config


def observe(name, net, variables):
  """{name: array} of one flow: what `plane` sees, and how sharp the loss is; see `LEVELS`."""
  clean, keys = jnp.asarray(plane.points(name)[0][:POINTS]), jax.random.key(2023)
  sharp = {label: sharpness.of_flow(net, variables, mollifiers.gaussian(
    clean, jnp.float32(level), jax.random.split(keys, POINTS))) for label, level in LEVELS.items()}
  return plane.observe(name, False, net, variables) | sharp


if __name__ == '__main__':
  grid_command.define_flags('mechanism', 'cpu', seeds=4, cells='Names of densities')
  command.run(run)
