"""The main job: a flow and a VAE on real digits, vanilla against mollified, from equal seeds.

  python -m experiments.quickstart [--workdir=runs/quickstart] [--seeds=3] [--smoke]

Trains through `build` and the training loop, as the binary does, measures on held-out digits and
on samples, and writes under the workdir: records, sample grids (PNG), a figure of the learning
curves, table.csv. Needs no network. Runs that are finished are not trained again.
"""
import json
import os
import pathlib
import shutil
import time

from experiments import cell_records, cells, command
from mollification import build

FLAGS = command.FLAGS
MODELS = {'RealNVP': 'digits_realnvp', 'VAE': 'digits_vae'}
ARMS = {'vanilla': 0., 'mollified': .5}   # share of the updates that is mollified
METRICS = ('nll', 'mmd', 'frechet')
LEGEND = ('mean ± standard error over seeds; differences are paired, seed by seed. log_likelihood\n'
          'in nats and bits_per_dim are bounds, lower and upper; frechet is in the features of a\n'
          'small digits classifier, and is no FID.')
RESULTS = pathlib.Path(__file__).parent / 'results' / 'quickstart'


def run(root):
  """Train all runs, measure them, print the table."""
  start = time.monotonic()
  # Small models: on two cores, two runs side by side are faster than one after another.
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  taken = command.run_cells(_cells(root), root)
  _report(root)
  seconds = round(time.monotonic() - start)
  if None not in taken:   # all of it was done now, so that the time says something
    (root / 'time.json').write_text(json.dumps({'seconds': seconds, 'limit': 240}) + '\n')
  if FLAGS.record:
    _record(root)
  print(f'{seconds} s in all; everything is under {root}')


def _cells(root):
  """All runs; the models in turn, so that no two workers begin by compiling the same program."""
  found = []
  for seed in range(FLAGS.seeds):
    for arm in ARMS:
      for model in MODELS:
        config = config_of(model, arm, seed)
        config.log.stdout = False
        found.append(cells.Cell(build.smoke(config) if FLAGS.smoke else config,
                                root / model / arm / str(seed), METRICS,
                                f'{model} {arm} seed {seed}'))
  return found


def config_of(model, arm, seed):
  """The config of one job; the arms differ in `mollify.fraction` alone."""
  import importlib
  config = importlib.import_module(f'configs.{MODELS[model]}').get_config()
  config.seed, config.mollify.fraction = seed, ARMS[arm]
  return config


def _report(root):
  from experiments import comparison, figures
  rows = comparison.compare([cell for cell, _ in comparison.read(root)
                             if cell.seed < FLAGS.seeds])
  print('\n' + comparison.text_table(rows) + '\n')
  print(LEGEND)
  print(comparison.sentence(rows) + '\n')
  seeds = range(FLAGS.seeds)
  curves = {model: {arm: [root / model / arm / str(seed) / 'metrics.jsonl' for seed in seeds]
                    for arm in ARMS} for model in MODELS}
  figures.learning_curves(curves, 'valid/log_likelihood', root / 'curves.png',
                          ylabel='log-likelihood of validation data (nats)')
  for model in MODELS:
    grids = {arm: _last(root / model / arm / '0' / 'samples') for arm in ARMS}
    figures.side_by_side(grids, root / f'samples_{model}.png',
                         title=f'{model}: samples from the same keys, seed 0')
  _write_csv(root / 'table.csv', rows)


def _last(folder):
  return sorted(folder.glob('*.png'))[-1]


def _write_csv(path, rows):
  from experiments import comparison
  comparison.write_csv(path, ('model', 'metric', 'arm', 'seeds', 'mean', 'sem'), (
    (row.model, row.metric, arm, moments.count, moments.mean, moments.sem) for row in rows
    for arm, moments in (('vanilla', row.vanilla), ('mollified', row.mollified),
                         ('difference', row.difference))))


def _record(root):
  """Replace the committed records by those of this run; configs and pictures too."""
  samples = [f'samples_{model}.png' for model in MODELS]
  files = [root / name for name in ('table.csv', 'time.json', 'curves.png', *samples)]
  if not files[1].exists():
    raise ValueError(f'{root} was not made in one go, so that nobody knows how long it took; '
                     'record from a new --workdir.')
  shutil.rmtree(RESULTS, ignore_errors=True)
  for cell in _cells(root):
    cell_records.record(cell.folder, RESULTS / cell.folder.relative_to(root))
  for path in files:
    shutil.copy(path, RESULTS)


if __name__ == '__main__':
  command.define_flags('quickstart', seeds=3)
  command.run(run)
