"""The paper's UCI table: flows on tables, vanilla against mollified, many seeds in one program.

  python -m experiments.uci --data_dir=DIR [--cells=redwine_maf,...] [--seeds=4] [--smoke]

A cell is a table and a flow, with both arms and all seeds: 150 epochs by the protocol of the
released code (configs/uci.py). Cells that have their records are not trained again, one that was
cut goes on. What is found is printed and written under --workdir; --record copies the records to
experiments/results/uci, from which the committed table and figure are rendered. DIR holds
redwine.npy, whitewine.npy, parkinsons.npy or the original files (mollification/data/tabular.py).
"""
import csv
import json
import os
import pathlib
import shutil
import time

from absl import app, flags

from experiments import cells, grid
from mollification import cli

_DATA = flags.DEFINE_string('data_dir', '', 'Folder of the tables.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/uci', 'Folder of all that is written.')
_CELLS = flags.DEFINE_list('cells', [], 'TABLE_FLOW,...; all nine by default.')
_SEEDS = flags.DEFINE_integer('seeds', 4, 'Seeds per arm.', lower_bound=2)
_WORKERS = flags.DEFINE_integer('workers', 2, 'Cells at a time, each on its share of the cores.',
                                lower_bound=1)
_SMOKE = flags.DEFINE_bool('smoke', False, 'Small and short: does it run at all?')
_RECORD = flags.DEFINE_bool('record', False, 'Copy the records to experiments/results/uci.')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')

TABLES = ('redwine', 'whitewine', 'parkinsons')
FLOWS = ('maf', 'realnvp', 'glow')
ARMS = {'vanilla': 0., 'mollified': 1.}   # share of the updates that is mollified
RESULTS = pathlib.Path(__file__).parent / 'results' / 'uci'


def main(argv):
  """Train what is missing, print the table."""
  del argv
  with cli.one_line_errors(_DEBUG.value):
    if _RECORD.value and _SMOKE.value:
      raise ValueError('--record is for whole runs; leave --smoke out.')
    _run(pathlib.Path(_WORKDIR.value))


def names():
  """The nine cells, the cheap ones first."""
  return [f'{table}_{flow}' for table in TABLES for flow in FLOWS]


def cell(root, name, seeds, data_dir, smoke=False):
  """The grid cell `name` under the folder `root`."""
  if name not in names():
    raise ValueError(f'no cell {name!r}; known: {", ".join(names())}.')
  runs = {(arm, seed): _config(name, fraction, seed, data_dir, smoke)
          for arm, fraction in ARMS.items() for seed in range(seeds)}
  return grid.Cell(name, pathlib.Path(root) / name, runs)


def _config(name, fraction, seed, data_dir, smoke):
  import importlib
  config = importlib.import_module(f'configs.uci_{name}').get_config()
  config.seed, config.mollify.fraction, config.data.data_dir = seed, fraction, data_dir
  if smoke:
    epoch = config.steps_per_call
    config.model.hidden, config.total_steps = 16, 2 * epoch
    config.eval.every = config.checkpoint.every = epoch
  return config


def _run(root):
  from mollification.training import preemption
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  start, seeds = time.monotonic(), 2 if _SMOKE.value else _SEEDS.value
  wanted = [cell(root, name, seeds, _DATA.value, _SMOKE.value)
            for name in _CELLS.value or names()]
  todo = [found for found in wanted if grid.missing(found)]
  print(f'{len(wanted)} cells of {2 * seeds} runs, {len(todo)} to train, {_WORKERS.value} at a '
        'time', flush=True)
  try:
    for i, (found, taken) in enumerate(cells.run(
        todo, workers=_WORKERS.value, compiled=root / 'compiled', work=grid.train), 1):
      if taken is not None:   # one that was cut says nothing of how long a cell takes
        (found.folder / 'time.json').write_text(json.dumps(taken) + '\n')
      print(f'[{i}/{len(todo)}, {time.monotonic() - start:.0f} s] {found.label}: done', flush=True)
  except cells.Stopped:
    print('stopped and saved; the same command goes on from here')
    raise SystemExit(preemption.EXIT_STATUS) from None
  if _RECORD.value:
    _record(wanted)
  report(RESULTS if _RECORD.value else root)


def report(root):
  """Print the table of the records under `root`; write table.csv and the curves beside them."""
  from experiments import uci_table
  found = uci_table.read(root, names())
  with (pathlib.Path(root) / 'table.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(('dataset', 'flow', 'arm', 'selection', 'seeds', 'mean', 'sd',
                     'nonfinite'))
    writer.writerows(uci_table.csv_rows(found))
  uci_table.draw(found, pathlib.Path(root) / 'curves.png')
  print('\n' + uci_table.markdown(found) + '\n\n' + uci_table.sentence(found))
  for line in uci_table.outliers(found):
    print(line)


def _record(wanted):
  """Copy the records of finished cells, and how long they took, to the committed results."""
  for found in wanted:
    target = RESULTS / found.label
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(found.folder.glob('*/*/records')):
      shutil.copytree(path, target / path.relative_to(found.folder))
    if (found.folder / 'time.json').exists():
      shutil.copy(found.folder / 'time.json', target)


if __name__ == '__main__':
  app.run(main, flags_parser=cli.parse_flags)
