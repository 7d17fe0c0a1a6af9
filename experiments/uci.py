"""The paper's UCI table: flows on tables, vanilla against mollified, many seeds in one program.

  python -m experiments.uci --data_dir=DIR [--cells=redwine_maf,...] [--seeds=4] [--shard=1/4]
    [--dry_run] [--smoke]

A cell is a table and a flow, with both arms and all seeds: 150 epochs by the protocol of the
released code (configs/uci.py). Cells that have their records are not trained again, one that was
cut goes on. What is found is printed and written under --workdir; --record copies the records to
experiments/results/uci, from which the committed table and figure are rendered. DIR holds
redwine.npy, whitewine.npy, parkinsons.npy or the original files (mollification/data/tabular.py).

Cells of miniboone, hepmass, gas, bsds300 and power are large and in no table of the paper: they are
trained where --cells names them, on files of the user (mollification/data/density_tables.py).
"""
import pathlib

from absl import flags

from experiments import command, grid, grid_command

FLAGS = command.FLAGS
TABLES = ('redwine', 'whitewine', 'parkinsons')
LARGE = ('miniboone', 'hepmass', 'gas', 'bsds300', 'power')   # only by name, none in the paper
FLOWS = ('maf', 'realnvp', 'glow')
ARMS = {'vanilla': 0., 'mollified': 1.}   # share of the updates that is mollified
MINUTES = 110.   # that all of them may take on two cores
RESULTS = pathlib.Path(__file__).parent / 'results' / 'uci'


def define_flags():
  """Those of the command."""
  grid_command.define_flags('uci', 'paper', seeds=4, cells='TABLE_FLOW,... (large tables only so)')
  flags.DEFINE_string('data_dir', '', 'Folder of the tables.')


def names(tables=TABLES):
  """The cells of the tables: by default the paper's nine, the cheap ones first."""
  return [f'{table}_{flow}' for table in tables for flow in FLOWS]


def known():
  """All cells that --cells may name."""
  return names(TABLES + LARGE)


def cell(root, name, seeds, data_dir, smoke=False):
  """The grid cell `name` under the folder `root`."""
  if name not in known():
    raise ValueError(f'no cell {name!r}; known: {", ".join(known())}.')
  runs = {(arm, seed): _config(name, fraction, seed, data_dir, smoke)
          for arm, fraction in ARMS.items() for seed in range(seeds)}
  return grid.Cell(name, pathlib.Path(root) / name, runs)


def _config(name, fraction, seed, data_dir, smoke):
  import importlib
  config = importlib.import_module(f'configs.uci_{name}').get_config()
  config.seed, config.mollify.fraction, config.data.data_dir = seed, fraction, data_dir
  if smoke:
    epoch = config.steps_per_call = config.log.every = min(config.steps_per_call, 50)
    config.model.update(hidden=16, num_blocks=2)
    config.total_steps = 2 * epoch
    config.eval.every = config.checkpoint.every = epoch
  return config


def run(root):
  """Train what is missing, print the table."""
  seeds = 2 if FLAGS.smoke else FLAGS.seeds
  wanted = [cell(root, name, seeds, FLAGS.data_dir, FLAGS.smoke)
            for name in command.chosen_cells(known(), names())]
  if folder := grid_command.run(wanted, root, RESULTS):
    report(folder)


def report(root):
  """Print the table of the records under `root`; write table.csv and the curves beside them."""
  from experiments import comparison, uci_table
  found = uci_table.read(root, known())
  header = 'dataset', 'flow', 'arm', 'selection', 'seeds', 'mean', 'sd', 'nonfinite'
  comparison.write_csv(pathlib.Path(root) / 'table.csv', header, uci_table.csv_rows(found))
  uci_table.draw(found, pathlib.Path(root) / 'curves.png')
  print('\n' + uci_table.markdown(found) + '\n\n' + uci_table.peaks(found) + '\n')
  for line in uci_table.sentences(found):
    print(line)


if __name__ == '__main__':
  define_flags()
  command.run(run)
