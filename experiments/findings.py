"""What was found, in a line for each experiment, from committed records, for README.md."""
import collections
import pathlib

from experiments import (
  alternatives_table,
  comparison,
  grid,
  image_table,
  image_verdicts,
  intrinsic_dimension_table,
  mechanism_table,
  names,
  page_text,
  sensitivity_table,
  synthetic,
  table_two_step,
  uci,
  uci_table,
)

RESULTS = pathlib.Path(__file__).parent / 'results'


def markdown():
  """Bullets for README.md: section of the page of results, what it found."""
  found = {'The UCI table': _uci(), 'Sensitivity to the schedule': _sensitivity(),
           'Against what one would otherwise do': _alternatives(),
           'Densities in the plane': _plane(), 'Does the mechanism show?': _mechanism(),
           'Intrinsic dimension': _intrinsic_dimension(),
           'Table 1 at the size of a laptop': _images('digits', 'digits'),
           'Fashion-MNIST': f'{_images("cpu", "fashion_mnist")} {_two_step()}',
           'Patches of photographs': _images('cpu', 'photo_patches')}
  return '\n'.join(f'- [{title}]({names.RESULTS_PAGE}#{page_text.anchor(title)}): {said}'
                   for title, said in found.items())


def _uci():
  return uci_table.sentence(uci_table.read(RESULTS / 'uci', uci.known()))


def _sensitivity():
  folder = RESULTS / 'sensitivity'
  data = grid.recorded(folder, sensitivity_table.CELLS)
  return ('against vanilla training with early stopping, on one table with one flow (RED-WINE with '
          'RealNVP) and one density in the plane: '
          + ' '.join(sensitivity_table.early_stopping(folder, data)) + ' '
          + ' '.join(sensitivity_table.corrected(folder, data)))


def _alternatives():
  """By figure: in how many comparisons with another method mollified training is ahead."""
  folder, found = RESULTS / 'alternatives', collections.defaultdict(collections.Counter)
  data = alternatives_table.recorded(folder)
  for _, figure, _, verdict in alternatives_table.verdicts(folder, data):
    found[figure.title][verdict] += 1
  said = '; '.join(f'{title}: {comparison.counted(counts)} (by chance {.05 * counts.total():.2g})'
                   for title, counts in found.items())
  others = len(alternatives_table.METHODS) - 1
  return (f'mollified training against {others} other methods, of which vanilla training is one, '
          f'on {len(data)} data sets. {said}.')


def _mechanism():
  """Of gradient norms and sharpness: where mollified training is decidedly below vanilla."""
  folder = RESULTS / 'mechanism'
  found = [rows for name in grid.recorded(folder, mechanism_table.CELLS)
           for rows in mechanism_table.landscape(mechanism_table.curves(folder / name)[0]).values()]
  below = [sum(mechanism_table.decided(rows[part]) and rows[part].difference.mean < 0
               for rows in found) for part in range(2)]
  return (f'of {len(found)} figures of gradient and sharpness {below[0]} are decidedly below those '
          f'of vanilla training in the mollified phase, and {below[1]} at the end.')


def _intrinsic_dimension():
  """Of the default schedule, by the share of dimensions that the data have."""
  folder, found = RESULTS / 'intrinsic_dimension', collections.defaultdict(collections.Counter)
  data = grid.recorded(folder, intrinsic_dimension_table.CELLS)
  for name, metric, compared in intrinsic_dimension_table.rows(folder, data):
    if metric in intrinsic_dimension_table.JUDGED:
      few = int(name.split('_')[1]) <= 4
      found[few][compared[intrinsic_dimension_table.DEFAULT].verdict] += 1
  return ('samples of data of dimension d in D = 16: at d / D of a quarter or less '
          f'{comparison.counted(found[True])}; above {comparison.counted(found[False])}.')


def _plane():
  return comparison.counted(comparison.verdicts(synthetic.table(RESULTS / 'synthetic'))) + '.'


_WORDS = {'gaussian': 'noise', 'blur': 'blur'}


def _images(scale, dataset):
  """Of Table 1, by model and arm: what is judged and decided, with its interval."""
  cells = image_table.read(RESULTS / 'images', 'table1', scale)[dataset]
  rows = image_table.rows([cell for cell, _ in cells])
  folder = RESULTS / 'images' / scale / dataset
  said, lines = collections.defaultdict(list), image_verdicts.by_line(rows)
  verdicts = collections.Counter()
  for (model, arm), own in lines.items():
    judged = image_verdicts.judged_of(own, folder)
    for row in judged:
      said[image_verdicts.decided(row, judged)].append(
        f'{names.model(model).rstrip(names.MARK)} {_WORDS[arm]} {_with_unit(row, judged)}')
    verdicts[image_verdicts.verdict(judged)] += 1
  parts = [f'{what}: {", ".join(said[what]) or "none"}' for what in ('better', 'worse')]
  alone = verdicts['one seed']
  several = len(lines) - alone
  more = f' (and {alone} of one seed, which decide nothing)' if alone else ''
  return (f'{"; ".join(parts)}; undecided: {verdicts["undecided"]} of {several} lines, a model '
          f'and an arm each, of which chance alone would decide {.05 * several:.2g}{more}.'
          f'{_cost(folder)}')


def _cost(folder):
  """What mollifying adds to updates of the runs of a data set, '' where nobody measured it."""
  found = [own for (_, arm), own in image_verdicts.added(folder).items() if arm != 'vanilla']
  if not found:
    return ''
  longer = [ms / update for update, ms, half in found if ms > half]
  most = f', by up to {max(longer):.1%} of it' if longer else ''
  return (f' Mollifying makes an update decidedly longer in {len(longer)} of {len(found)} such '
          f'lines{most}.')


def _with_unit(row, judged):
  """The difference and its interval, in nats or of which distance."""
  text = image_verdicts.signed(row, image_verdicts.interval(row, judged))
  return (f'{text} nats' if row.metric == image_verdicts.LIKELIHOOD
          else f'{text} ({names.metric(row.metric)})')


def _two_step():
  rows = [row for dataset in table_two_step.datasets('cpu')
          for row in table_two_step.rows(RESULTS / 'images', 'cpu', dataset)]
  counts = comparison.verdicts(row for row in rows if row.arm == 'two steps')
  return (f'Two steps instead of one, by {counts.total()} figures of samples, each with an '
          f'interval of its own: {comparison.counted(counts)} (by chance '
          f'{.05 * counts.total():.2g}).')
