"""How much hangs on the schedule: temperature, length, family, granularity, scale of the noise.

  python -m experiments.sensitivity [--data_dir=DIR] [--cells=...] [--seeds=3] [--shard=1/2]
    [--dry_run] [--smoke]

A cell is a data set with all variants of `VARIANTS`, the first of which is vanilla training, from
the same seeds. Two more cells per data set repeat vanilla training, the default and the best
variant on fresh seeds, since the best of many is best by luck too: the best by validation of all
evaluations (early stopping), which is how one would choose. `constant_then_clean` has the level .1,
not the mean level of the others, as the abrupt arm of `experiments.mechanism` has. The table cell
needs redwine.npy in DIR; --record copies the records to experiments/results/sensitivity. An hour
and a half of a core.
"""
import pathlib

from absl import flags

from experiments import cells, command, grid, grid_command, plane

FLAGS = command.FLAGS
DATA = ('eight_gaussians', 'redwine')
TEMPERATURES, FRACTIONS = (.3, .7, 1.5), (.1, .25, .5, 1.)
# Of a sigmoid with the temperature of the released code, over half of the updates.
DEFAULT = 'sigmoid_0.7_0.5'
SIGMOIDS = {f'sigmoid_{t}_{f}': {'sigmoid.temperature': t, 'fraction': f}
            for t in TEMPERATURES for f in FRACTIONS}
VARIANTS = {
  'vanilla': {'fraction': 0.}, **SIGMOIDS,
  'linear': {'schedule': 'linear'}, 'cosine': {'schedule': 'cosine'},
  'constant_then_clean': {'schedule': 'constant'},
  'by_epoch': {'granularity': 'epoch'}, 'scale_0.3': {'scale': .3}, 'scale_0.1': {'scale': .1},
}
FRESH_FROM = 100   # seeds of the confirmation
RESULTS = pathlib.Path(__file__).parent / 'results' / 'sensitivity'


def define_flags():
  """Those of the command."""
  grid_command.define_flags('sensitivity', 'cpu', seeds=3, cells='Names of data sets')
  flags.DEFINE_string('data_dir', '', 'Folder of redwine.npy; only for that cell.')
  flags.DEFINE_integer('fresh', 8, 'Seeds of the confirmation.', lower_bound=2)


def run(root):
  """Train what is missing, choose, confirm, print, draw."""
  names = command.chosen_cells(DATA)
  seeds, fresh = (2, 2) if FLAGS.smoke else (FLAGS.seeds, FLAGS.fresh)
  make = lambda name, variants, seeds, label: _cell(root, name, variants, seeds, label)
  first = [make(name, VARIANTS, range(seeds), name) for name in names]
  ended = [] if FLAGS.dry_run else [grid_command.train(first, root)]
  second = []
  for own in first:
    if cells.is_done(own):
      arms = dict.fromkeys(['vanilla', DEFAULT, chosen(grid.read(own.folder))])
      second.append(make(own.label, arms, range(FRESH_FROM, FRESH_FROM + fresh),
                         f'{own.label}_fresh'))
    else:
      print(f'{own.label}_fresh, {fresh} seeds of three arms, is known once {own.label} is done')
  if FLAGS.dry_run:
    grid_command.list_cells([*first, *second], root, RESULTS)
    return
  ended.append(grid_command.train(second, root))
  from experiments import sensitivity_table
  if FLAGS.record:
    grid.record([own for own in (*first, *second) if cells.is_done(own)], RESULTS)
  for one in ended:
    command.leave(one)
  if FLAGS.record:
    root, names = RESULTS, grid.recorded(RESULTS, DATA)   # its table is of all that is recorded
  sensitivity_table.report(root, names)


def _cell(root, name, variants, seeds, label):
  runs = {(variant, seed): config_of(name, variant, seed, FLAGS.data_dir, FLAGS.smoke)
          for variant in variants for seed in seeds}
  folder = pathlib.Path(root) / label
  if name in plane.DENSITIES:
    return plane.cell(name, folder, runs, label=label)
  return grid.Cell(label, folder, runs)


def config_of(name, variant, seed, data_dir='', smoke=False):
  """One run of a variant: a RealNVP on a density in the plane, or on a table."""
  import importlib
  module = 'synthetic_realnvp' if name in plane.DENSITIES else f'uci_{name}_realnvp'
  config = importlib.import_module(f'configs.{module}').get_config()
  config.data.name, config.data.data_dir, config.seed = name, data_dir, seed
  config.mollify.granularity, config.mollify.fraction = 'step', .5
  config.mollify.update_from_flattened_dict(VARIANTS[variant])
  if smoke:
    config.model.hidden, config.steps_per_call = 8, 13
    config.total_steps = 4 * 13
    config.log.every = config.eval.every = config.checkpoint.every = 26
  return config


def chosen(runs):
  """The mollified variant with the best of `scores`."""
  return max((score, variant) for variant, score in scores(runs).items()
             if variant != 'vanilla')[1]


def scores(runs):
  """{variant: validation log-likelihood at its best evaluation}, mean over the seeds.

  One that is not finite counts as the worst.
  """
  found = {}
  for (variant, _), records in runs.items():
    curve = records['last'].extra['curves']['validation']
    finite = [float(v) for v in curve if v is not None and float(v) == float(v)]
    found.setdefault(variant, []).append(max(finite, default=-float('inf')))
  return {variant: sum(values) / len(values) for variant, values in found.items()}


if __name__ == '__main__':
  define_flags()
  command.run(run)
