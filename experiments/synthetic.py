"""Densities in the plane, vanilla against mollified: fields, scores and samples over training.

  python -m experiments.synthetic [--cells=two_gaussians,...] [--seeds=4] [--shard=1/3] [--dry_run]
    [--smoke]

A RealNVP (configs/synthetic_realnvp.py) on two mixtures of Gaussians, whose density and score are
known, and on the von Mises circle, whose law has no density in the plane. Writes the table, and
for each density panels (PNG) and an animation (GIF) of both arms from seed 0. --record copies the
records to experiments/results/synthetic. Some ten minutes on two cores.
"""
import dataclasses
import math
import pathlib

from experiments import command, grid, grid_command, plane

FLAGS = command.FLAGS
ARMS = {'vanilla': 0., 'mollified': .5}   # share of the updates that is mollified
RESULTS = pathlib.Path(__file__).parent / 'results' / 'synthetic'


def run(root):
  """Train what is missing, print the table, draw."""
  wanted = [cell(root, name, 2 if FLAGS.smoke else FLAGS.seeds, FLAGS.smoke)
            for name in command.chosen_cells(plane.DENSITIES)]
  if folder := grid_command.run(wanted, root, RESULTS):
    report(folder)


def cell(root, name, seeds, smoke=False):
  """The grid cell of the density `name` under the folder `root`."""
  runs = {(arm, seed): config_of(name, fraction, seed, smoke)
          for arm, fraction in ARMS.items() for seed in range(seeds)}
  return plane.cell(name, pathlib.Path(root) / name, runs, pictures=True)


def config_of(name, fraction, seed, smoke=False):
  """One run: 25 evaluations, so that training can be watched."""
  from configs import synthetic_realnvp
  config = synthetic_realnvp.get_config()
  config.data.name, config.seed, config.mollify.fraction = name, seed, fraction
  config.eval.every = 200
  if smoke:
    config.model.hidden, config.total_steps, config.steps_per_call = 8, 40, 20
    config.log.every = config.eval.every = config.checkpoint.every = 20
  return config


def table(root):
  """Rows of `comparison` of the whole cells under `root`: at the last update.

  Errors of the score are compared by their log10: single points lead the mean square.
  """
  from experiments import comparison
  whole = grid.recorded(root, plane.DENSITIES)
  return comparison.compare([_log10(found) for found, _ in comparison.read(root)
                             if found.metric in ('log_likelihood', *plane.UNITS)
                             and found.model in whole])


def _log10(cell):
  if not cell.metric.startswith('score_error'):
    return cell
  return dataclasses.replace(cell, metric=f'log10_{cell.metric}', value=math.log10(cell.value))


def sentences(root):
  """The error of the score where data are rare over training, of each density that has a score."""
  import numpy as np
  for name in plane.DENSITIES:
    runs = grid.read(pathlib.Path(root) / name)
    curves = {arm: [run['last'].extra['curves'] for (own, _), run in sorted(runs.items())
                    if own == arm] for arm in ARMS}
    if not runs or 'score_error_low' not in curves['vanilla'][0]:
      continue
    every = curves['vanilla'][0]['updates_between']
    errors = {arm: np.array([c['score_error_low'] for c in own]) for arm, own in curves.items()}
    medians = {arm: np.median(own, 0) for arm, own in errors.items()}
    vanilla, mollified = medians['vanilla'], medians['mollified']
    # Looks from the first on at which the mollified arm does better than no score.
    below = next((i for i, error in enumerate(mollified) if error >= 1), len(mollified))
    lowest = int(vanilla.argmin())
    yield (f'{name}: squared error of the score where data are rare, median over seeds (no score '
           f'at all would get 1). Vanilla training has {vanilla[0]:.3g} at the first look (from '
           f'{errors["vanilla"][:, 0].min():.3g} to {errors["vanilla"][:, 0].max():.3g} by seed), '
           f'{vanilla[lowest]:.3g} at its lowest, after {(lowest + 1) * every:,} updates, and '
           f'{vanilla[-1]:.3g} at the end; mollified training stays below 1 for {below * every:,} '
           f'updates, with {mollified[0]:.3g} at the first look, and ends at {mollified[-1]:.3g}.')


def report(root):
  """Print the table of the records under `root`, and draw beside them."""
  from experiments import comparison
  rows = table(root)
  print('\n' + comparison.text_table(rows) + '\n\n' + comparison.sentence(rows))
  print('\n'.join(sentences(root)))
  draw(pathlib.Path(root), pathlib.Path(root))


def draw(root, place):
  """Panels and animations of the densities recorded under `root`, and the curves, in `place`."""
  from experiments import synthetic_figures
  whole = grid.recorded(root, plane.DENSITIES)
  for name in whole:
    synthetic_figures.panels(name, root / name, place / f'{name}.png')
    synthetic_figures.animate(name, root / name, place / f'{name}.gif')
  if whole:
    synthetic_figures.curves(root, whole, place / 'curves.png')


if __name__ == '__main__':
  grid_command.define_flags('synthetic', 'paper', seeds=4, cells='Names of densities')
  command.run(run)
