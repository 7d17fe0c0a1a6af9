"""The main job: a flow and a VAE on real digits, vanilla against mollified, from equal seeds.

  python -m experiments.quickstart [--workdir=runs/quickstart] [--seeds=3] [--smoke]

Trains through `build` and the training loop, as the binary does, measures on held-out digits and
on samples, and writes under the workdir: records, sample grids (PNG), a figure of the learning
curves, table.csv. Needs no network. Runs that are finished are not trained again.
"""
import csv
import json
import pathlib
import shutil
import time

from absl import app, flags, logging

from mollification import cli

_WORKDIR = flags.DEFINE_string('workdir', 'runs/quickstart', 'Folder of all that is written.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Seeds per arm.', lower_bound=2)
_SMOKE = flags.DEFINE_bool('smoke', False, 'A few updates each: does it run at all?')
_RECORD = flags.DEFINE_bool('record', False, 'Copy records and table to experiments/results/.')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')

MODELS = {'RealNVP': 'digits_realnvp', 'VAE': 'digits_vae'}
ARMS = {'vanilla': 0., 'mollified': .5}   # share of the updates that is mollified
METRICS = ('nll', 'mmd', 'frechet')
LEGEND = ('mean ± standard error over seeds; differences are paired, seed by seed. log_likelihood\n'
          'in nats and bits_per_dim are bounds, lower and upper; frechet is in the features of a\n'
          'small digits classifier, and is no FID.')
RESULTS = pathlib.Path(__file__).parent / 'results' / 'quickstart'


def main(argv):
  """Train all runs, measure them, print the table."""
  del argv
  logging.set_verbosity(logging.ERROR)   # TFDS and Orbax log much that is no trouble
  import jax
  start = time.monotonic()
  root = pathlib.Path(_WORKDIR.value)
  # All runs of a model are one program: vanilla is level 0 on the same path.
  jax.config.update('jax_compilation_cache_dir', str(root.resolve() / 'compiled'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', .2)
  with cli.one_line_errors(_DEBUG.value):
    fresh = _run_all(root, start)
    _report(root)
    seconds = round(time.monotonic() - start)
    if fresh:
      (root / 'time.json').write_text(json.dumps({'seconds': seconds}) + '\n')
    if _RECORD.value:
      _record(root)
  print(f'{seconds} s in all; everything is under {root}')


def _run_all(root, start):
  """Train and measure what is missing; whether all of it was, so that the time says something."""
  from mollification import build, measure
  from mollification.training import loop, preemption, workdir
  fresh = True
  jobs = [(model, seed, arm) for model in MODELS for seed in range(_SEEDS.value) for arm in ARMS]
  with preemption.Preemption() as stop:
    for done, (model, seed, arm) in enumerate(jobs):
      elapsed = time.monotonic() - start
      left = f', {elapsed / done * (len(jobs) - done):.0f} s left in all' if done else ''
      label = f'[{done + 1}/{len(jobs)}{left}] {model} {arm} seed {seed}: '
      folder = root / model / arm / str(seed)
      print(f'{label}building', flush=True)
      with workdir.lock(folder):
        config = config_of(model, arm, seed)
        config = build.smoke(config) if _SMOKE.value else config
        run = build.build(config)
        workdir.claim(folder, config.to_dict())
        fresh &= not (folder / 'metrics.jsonl').exists()
        stop.armed = True
        outcome = loop.train(run, folder, stop=stop, label=label)
        if outcome.reason == 'preempted':
          print('stopped and saved; the same command goes on from here')
          raise SystemExit(preemption.EXIT_STATUS)
        if not _measured(folder, run.total_steps):
          measure.measure(measure.open_run(folder), METRICS)
  return fresh


def _measured(folder, step):
  """Whether the records of the last update are complete."""
  from experiments import comparison
  from mollification.evaluation import records
  found = {record.metric for record in records.read_all(folder / 'records') if record.step == step}
  return comparison.LOWER_IS_BETTER.keys() <= found


def config_of(model, arm, seed):
  """The config of one job; the arms differ in `mollify.fraction` alone."""
  import importlib
  config = importlib.import_module(f'configs.{MODELS[model]}').get_config()
  config.seed, config.mollify.fraction = seed, ARMS[arm]
  return config


def _report(root):
  from experiments import comparison, figures
  rows = comparison.compare([cell for cell, _ in comparison.read(root)
                             if cell.seed < _SEEDS.value])
  print('\n' + comparison.text_table(rows) + '\n')
  print(LEGEND)
  print(comparison.sentence(rows) + '\n')
  curves = {model: {arm: sorted((root / model / arm).glob('*/metrics.jsonl')) for arm in ARMS}
            for model in MODELS}
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
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(('model', 'metric', 'arm', 'seeds', 'mean', 'sem'))
    for row in rows:
      for arm, moments in (('vanilla', row.vanilla), ('mollified', row.mollified),
                           ('difference', row.difference)):
        writer.writerow((row.model, row.metric, arm, moments.count, moments.mean, moments.sem))


def _record(root):
  """Replace the committed records by those of this run; configs and pictures too."""
  shutil.rmtree(RESULTS, ignore_errors=True)
  for model in MODELS:
    for arm in ARMS:
      for folder in sorted((root / model / arm).glob('*/records')):
        place = RESULTS / folder.relative_to(root)
        shutil.copytree(folder, place)
        shutil.copy(folder.parent / 'config.json', place.parent)
  samples = [f'samples_{model}.png' for model in MODELS]
  for name in ('table.csv', 'time.json', 'curves.png', *samples):
    shutil.copy(root / name, RESULTS / name)


if __name__ == '__main__':
  app.run(main, flags_parser=cli.parse_flags)
