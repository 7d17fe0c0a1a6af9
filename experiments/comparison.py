"""Two arms from the same seeds: means with their standard errors, and paired differences.

Reads records only; what a table says is what was measured and written down.
"""
import collections
import csv
import dataclasses
import json
import math
import pathlib

from experiments import names, statistics
from mollification import files
from mollification.evaluation import features, records
from mollification.metrics import Moments
from mollification.training import workdir

_LOWER_IS_BETTER = {
  'log_likelihood': False, 'log_likelihood_by_validation': False, 'bits_per_dim': True,
  'mmd2': True, 'frechet': True, 'score_error': True, 'score_error_low': True,
  'log10_score_error': True, 'log10_score_error_low': True, 'share_far': True,
  'off_manifold': True, 'fid': True, 'kid': True, 'kernel_distance': True, 'precision': False,
  'recall': False, 'density': False, 'coverage': False, 'near_share': True, 'far_share': True}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One measured figure of one run: `value` of `metric`, for one model, arm and seed."""
  model: str
  arm: str
  seed: int
  metric: str
  value: float


@dataclasses.dataclass(frozen=True)
class Row:
  """A metric of a model in both arms; `difference` is mollified - vanilla over common seeds.

  `arm` is what the mollified one is called, where there are several.
  """
  model: str
  metric: str
  vanilla: Moments
  mollified: Moments
  difference: Moments
  arm: str = ''

  @property
  def interval(self):
    """Half the width of the 95 % interval of the difference (Student's t over the seeds)."""
    return self.interval_at(.95)

  def interval_at(self, level):
    """`interval` that holds the difference with probability `level`."""
    if self.difference.count < 2:
      return math.inf
    freedom = self.difference.count - 1
    return statistics.student_quantile(freedom, level) * self.difference.sem

  @property
  def verdict(self):
    """'better', 'worse' or 'undecided': only an interval without 0 decides."""
    return self.verdict_at(.95)

  def verdict_at(self, level):
    """`verdict` by `interval_at` a level."""
    if not abs(self.difference.mean) > self.interval_at(level):
      return 'undecided'
    return 'better' if (self.difference.mean < 0) == lower_is_better(self.metric) else 'worse'


def read(root):
  """[(Cell, Record)] of `root`/MODEL/ARM/SEED/records: last update, of runs that reached it.

  Of raw parameters, or of their average where nothing else was measured, and of test data. Metrics
  in the features of another network than the data set's own are called METRIC@NET, and may be
  against any split.

  Raises ValueError where two records are of one figure (with other numbers of samples, say), and
  where one is of another config than that of its run.
  """
  found = []
  for folder in sorted(pathlib.Path(root).glob('*/*/*/records')):
    model, arm = folder.parts[-4:-2]
    wanted = [r for r in records.read_all(folder)
              if r.reference['split'] == 'test' or '@' in _named(r)]
    wanted = [r for r in wanted if r.params == 'raw'] or wanted
    _check_config(folder.parent, wanted)
    last = _last_step(folder.parent, wanted)
    wanted = [r for r in wanted if r.step == last]
    metrics = [_named(r) for r in wanted]
    twice = [metric for metric in metrics if metrics.count(metric) > 1]
    if twice:
      raise ValueError(f'{folder} holds more than one record of {twice[0]} at update {last}; move '
                       'all but one away.')
    found += [(Cell(_label(model, r), arm, r.seed, metric, r.value), r)
              for metric, r in zip(metrics, wanted)]
  return found


def _check_config(run, wanted):
  """Raise ValueError where a record is of another config than the one beside it."""
  config = workdir.read_config(run)
  strange = [r for r in wanted if config is not None
             and r.config_sha256 != workdir.identity(config)]
  if strange:
    raise ValueError(f'{run}/records holds a {strange[0].metric} of another config than '
                     f'{run}/config.json; move it away.')


def _last_step(run, wanted):
  """The last update of a run: that of its config, or of its records where none is beside them.

  A run that is under way may have records of checkpoints before its end.
  """
  if (run / 'config.json').exists():
    return json.loads((run / 'config.json').read_text())['total_steps']
  return max((r.step for r in wanted), default=0)


def _named(record):
  net = (record.features or {}).get('net')
  own = net in (None, features.DATASETS.get(record.reference['dataset']))
  return record.metric if own else f'{record.metric}@{net}'


def lower_is_better(metric):
  """Whether less of a metric is better, in whatever features; KeyError for an unknown one."""
  return _LOWER_IS_BETTER[metric.partition('@')[0]]


def arrow(metric):
  """The way that a metric should go."""
  return '↓' if lower_is_better(metric) else '↑'


def _label(model, record):
  """Name of a table's row: with what the data-dependent layers started from, if there are any."""
  start = record.extra.get('init_on')
  return model if start is None else f'{model} (init_on {start})'


def compare(cells):
  """Rows of all (model, metric) in `cells`, in order; both arms count the same seeds.

  Raises ValueError where the arms do not have the same seeds: the difference would be of other
  runs.
  """
  found = collections.defaultdict(dict)
  for cell in cells:
    found[cell.model, cell.metric].setdefault(cell.arm, {})[cell.seed] = cell.value
  rows = []
  for (model, metric), arms in found.items():
    vanilla, mollified = arms.get('vanilla', {}), arms.get('mollified', {})
    if vanilla.keys() != mollified.keys():
      raise ValueError(f'{model}, {metric}: both arms need the same seeds, got vanilla '
                       f'{sorted(vanilla)} and mollified {sorted(mollified)}.')
    rows.append(Row(model, metric, *(Moments.of(list(arm.values())) for arm in (
      vanilla, mollified, {s: mollified[s] - vanilla[s] for s in vanilla}))))
  return rows


HEADER = ('model', 'metric', 'seeds', 'vanilla', 'mollified', 'mollified - vanilla', '95 %',
          'mollified is')


def lines(rows, name=str):
  """Cells of the table as text, one tuple per row, in the order of `HEADER`.

  `name(metric)` is what a metric is called.
  """
  for row in rows:
    digits = _digits(row)
    show = lambda m, d=digits: f'{m.mean:.{d}f} ± {m.sem:.{d}f}'
    model = f'{row.model}, {row.arm}' if row.arm else row.model
    yield (model, f'{name(row.metric)} {arrow(row.metric)}', str(row.vanilla.count),
           show(row.vanilla), show(row.mollified), show(row.difference),
           f'± {row.interval:.{digits}f}', row.verdict)


def shown(moments):
  """`mean ± sem` with two digits of the error; of one value, that."""
  if moments.count < 2:
    return f'{moments.mean:.4g}'
  digits = decimals(moments.sem)
  return f'{moments.mean:.{digits}f} ± {moments.sem:.{digits}f}'


def _digits(row):
  """Decimals that show the smaller standard error with two digits."""
  sems = [m.sem for m in (row.vanilla, row.mollified, row.difference) if m.sem > 0]
  return decimals(min(sems, default=0.))


def decimals(error):
  """Decimals that show an error with two digits, six at most; 3 for none."""
  if not 0 < error < math.inf:
    return 3
  return min(max(1 - math.floor(math.log10(error)), 0), 6)


def write_csv(path, header, rows):
  """Write a table as comma-separated values: tuples, the `header` first."""
  with files.replacing(pathlib.Path(path)) as part, part.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)


def text_table(rows):
  """The table for a terminal."""
  return as_text([HEADER, *lines(rows)])


def as_text(lines):
  """Tuples of text, the header first, as a table for a terminal."""
  widths = [max(map(len, column)) for column in zip(*lines)]
  text = ['  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
          for line in lines]
  return '\n'.join([text[0], '-' * len(text[0]), *text[1:]])


def markdown_table(rows):
  """The table for a page."""
  return as_markdown([HEADER, ('---',) * len(HEADER), *page_lines(rows)])


def page_lines(rows):
  """`lines`, where metrics have the names that pages give them."""
  return lines(rows, names.metric)


def as_markdown(lines):
  """Tuples of text, header and rule first, as a table."""
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def verdicts(rows):
  """Counter of the verdicts, of what could differ.

  bits_per_dim is log_likelihood in other units: one, not two. What is the same in all runs of both
  arms, such as a precision of 0, is no comparison.
  """
  return collections.Counter(row.verdict for row in rows if row.metric != 'bits_per_dim'
                             and (row.difference.mean or row.difference.sem))


def counted(verdicts):
  """How many of 'better', 'worse' and 'undecided' there are, in words; of a Counter or of any."""
  counts = collections.Counter(verdicts)
  return (f'better in {counts["better"]}, worse in {counts["worse"]}, undecided in '
          f'{counts["undecided"]}')


def sentence(rows):
  """What the table says, either way."""
  counts = verdicts(rows)
  total = counts.total()
  return (f'Of {total} comparisons, mollified training is better in {counts["better"]}, worse in '
          f'{counts["worse"]}, and {counts["undecided"]} are undecided at 95 % with so few seeds; '
          f'chance alone would decide {.05 * total:.2g}.')
