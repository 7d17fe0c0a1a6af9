"""What was found, in a line for each experiment, from committed records: the head of README.md."""
import collections
import pathlib

from experiments import (
  comparison,
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
    ('Table 1 at the size of a laptop', _images('digits', 'digits')),
    ('Fashion-MNIST', f'{_images("cpu", "fashion_mnist")} {_two_step()}'),
    ('Patches of photographs', _images('cpu', 'photo_patches'))))


def _uci():
  return uci_table.sentence(uci_table.read(RESULTS / 'uci', uci.known()))


def _sensitivity():
  folder = RESULTS / 'sensitivity'
  names = [name for name in sensitivity_table.CELLS if (folder / name).is_dir()]
  return ('against vanilla training with early stopping, on one table with one flow (RED-WINE with '
          'RealNVP) and one density in the plane: '
          + ' '.join(sensitivity_table.early_stopping(folder, names)))


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
  return _counted(comparison.verdicts(synthetic.table(RESULTS / 'synthetic'))) + '.'


def _images(scale, dataset):
  """Of Table 1, by arm."""
  cells = image_table.read(RESULTS / 'images', 'table1', scale)[dataset]
  rows = image_table.rows([cell for cell, _ in cells])
  words = {'gaussian': 'noise', 'blur': 'blur'}
  found = {arm: comparison.verdicts(row for row in rows if row.arm == arm)
           for arm in image_cells.ARMS}
  return '; '.join(f'{words[arm]} {_counted(counts)}' for arm, counts in found.items()
                   if counts) + '.'


def _two_step():
  rows = [row for dataset in table_two_step.datasets('cpu')
          for row in table_two_step.rows(RESULTS / 'images', 'cpu', dataset)]
  counts = comparison.verdicts(row for row in rows if row.arm == 'two steps')
  return f'Two steps {_counted(counts)}.'


def _counted(verdicts):
  return (f'better in {verdicts["better"]}, worse in {verdicts["worse"]}, undecided in '
          f'{verdicts["undecided"]}')
