"""What was found, in a line for each experiment, from committed records: the head of README.md."""
import collections
import pathlib

from experiments import (
  image_cells,
  image_table,
  intrinsic_dimension_table,
  sensitivity_table,
  synthetic,
  table_two_step,
  uci,
  uci_table,
)

RESULTS = pathlib.Path(__file__).parent / 'results'


def markdown():
  """Bullets for a page: section of README.md, what it found."""
  return '\n'.join(f'- [{title}](#{title.lower().replace(" ", "-")}): {found}' for title, found in (
    ('The UCI table', _uci()), ('Sensitivity to the schedule', _sensitivity()),
    ('Intrinsic dimension', _intrinsic_dimension()), ('Densities in the plane', _plane()),
    ('Table 1 at the size of a laptop', _images('digits')),
    ('Fashion-MNIST', f'{_images("cpu")} {_two_step()}')))


def _uci():
  return uci_table.sentence(uci_table.read(RESULTS / 'uci', uci.known()))


def _sensitivity():
  folder = RESULTS / 'sensitivity'
  names = [name for name in sensitivity_table.CELLS if (folder / name).is_dir()]
  return 'against vanilla training with early stopping, on ' + ' On '.join(
    sensitivity_table.sentences(folder, names))


def _intrinsic_dimension():
  """Of the default schedule, by the share of dimensions that the data have."""
  folder, found = RESULTS / 'intrinsic_dimension', collections.defaultdict(collections.Counter)
  names = [name for name in intrinsic_dimension_table.CELLS if (folder / name).is_dir()]
  for name, metric, compared in intrinsic_dimension_table.rows(folder, names):
    if metric in intrinsic_dimension_table.JUDGED:
      few = int(name.split('_')[1]) <= 4
      found[few][compared[intrinsic_dimension_table.DEFAULT].verdict] += 1
  return ('samples of data of dimension d in D = 16: at d / D of a quarter or less '
          f'{_counted(found[True])}; above {_counted(found[False])}.')


def _plane():
  return _counted_rows(synthetic.table(RESULTS / 'synthetic')) + '.'


def _images(scale):
  """By arm, over all data sets of a scale."""
  rows = [row for cells in image_table.read(RESULTS / 'images', 'table1', scale).values()
          for row in image_table.rows([cell for cell, _ in cells])]
  words = {'gaussian': 'noise', 'blur': 'blur'}
  return '; '.join(f'{words[arm]} {_counted_rows(row for row in rows if row.arm == arm)}'
                   for arm in image_cells.ARMS if any(row.arm == arm for row in rows)) + '.'


def _two_step():
  rows = [row for dataset in table_two_step.datasets('cpu')
          for row in table_two_step.rows(RESULTS / 'images', 'cpu', dataset)]
  return f'Two steps {_counted_rows(row for row in rows if row.arm == "two steps")}.'


def _counted_rows(rows):
  """Verdicts over rows; bits/dim are likelihoods in other units."""
  return _counted(collections.Counter(
    row.verdict for row in rows if row.metric != 'bits_per_dim'))


def _counted(verdicts):
  return (f'better in {verdicts["better"]}, worse in {verdicts["worse"]}, undecided in '
          f'{verdicts["undecided"]}')
