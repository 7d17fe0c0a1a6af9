"""The UCI table and its figure, from records alone.

A density can be lost far from the data: a flow gives a test row some 1e4 nats too little, or a
likelihood of 0 in float32, and one row of 489 then decides a mean. Means are over the seeds that
are finite, with the number of the others beside them; `outliers` names the single rows.
"""
import collections
import importlib
import math
import pathlib

import numpy as np

from experiments import comparison, figures, grid, statistics
from mollification.metrics import Moments

# Test log-likelihood in nats at the last epoch and at the best one on test, of the authors'
# released code (tranbahien/data-mollification), run once with seed 1 on RED-WINE.
RELEASED = {
  ('maf', 'vanilla'): (-15.19, -10.87), ('maf', 'mollified'): (-11.73, -10.67),
  ('realnvp', 'vanilla'): (-26.27, -11.15), ('realnvp', 'mollified'): (-13.70, -10.60),
  ('glow', 'vanilla'): (-17.98, -10.21), ('glow', 'mollified'): (-12.12, -10.27),
}
ARMS = ('vanilla', 'mollified')
FLOOR = -1e6   # nats: below every panel, and finite
HEADER = ('table', 'flow', 'selection', 'seeds', 'vanilla', 'mollified', 'difference', '95 %',
          'mollified is', 'bootstrap', 'sign test', 'released, in our sd')


def read(root, names):
  """{(table, flow): {(arm, seed): {selection: Record}}} of the cells that have records."""
  found = {tuple(name.split('_')): grid.read(pathlib.Path(root) / name) for name in names}
  return {name: runs for name, runs in found.items() if runs}


def _values(runs, arm, selection):
  return {seed: records[selection].value for (name, seed), records in sorted(runs.items())
          if name == arm}


def csv_rows(found):
  """(dataset, flow, arm, selection, seeds, mean, sd, nonfinite) of every cell.

  Mean and sd (ddof 1) are over the seeds whose value is finite, `nonfinite` counts the others.
  """
  for (table, flow), runs in found.items():
    for arm in ARMS:
      for selection in grid.SELECTIONS:
        values = _values(runs, arm, selection)
        moments = _moments(values)
        yield (table, flow, arm, selection, len(values), round(moments.mean, 4),
               round(_sd(moments), 4), len(values) - moments.count)


def _moments(values):
  """Moments of the finite ones of {seed: value}; of NaN where there are none."""
  values = list(values.values())
  finite = np.isfinite(values)
  return Moments.of(values, finite) if finite.any() else Moments(0, math.nan, math.nan)


def _sd(moments):
  return moments.sem * math.sqrt(moments.count)


def _shown(values):
  """Mean ± sd of {seed: value}, and how many are left out as they are not finite."""
  moments = _moments(values)
  lost = _left_out(moments.count, len(values))
  return f'{moments.mean:.2f} ± {_sd(moments):.2f}{lost}' if moments.count else lost.strip()


def shown(runs, arm, selection):
  """`mean ± sd` over the seeds of an arm."""
  return _shown(_values(runs, arm, selection))


def _left_out(count, total):
  return f' ({total - count} of {total} not finite)' if count < total else ''


def _lost(paired):
  """What a mean of differences leaves out: how many are infinite, and to which side."""
  counts = collections.Counter(f'{value:+}' for value in paired[~np.isfinite(paired)])
  return ''.join(f' ({count} of {len(paired)} {kind})'
                 for kind, count in sorted(counts.items())).replace('+nan', 'not finite')


def _paired(runs, selection):
  """Differences mollified - vanilla [n] of the seeds; infinite or NaN where a value is."""
  vanilla, mollified = (_values(runs, arm, selection) for arm in ARMS)
  return _minus(mollified, vanilla)


def _minus(values, others):
  """Differences [n] of {seed: value} over the seeds of `others`."""
  with np.errstate(invalid='ignore'):
    return np.array([np.float64(values[seed]) - others[seed] for seed in others])


def _finite(paired):
  return paired[np.isfinite(paired)]


def lines(found):
  """Rows of the table as text, in the order of `HEADER`; differences are mollified - vanilla.

  Their mean and intervals, Student's and the bootstrap's, are over the finite ones; the sign test
  takes the infinite ones too.
  """
  for (table, flow), runs in found.items():
    for selection in grid.SELECTIONS:
      arms, paired = [_values(runs, arm, selection) for arm in ARMS], _paired(runs, selection)
      finite = _finite(paired)
      difference = f'{finite.mean():+.2f}' if len(finite) else ''
      yield (table, flow, selection, str(len(paired)), *map(_shown, arms),
             (difference + _lost(paired)).strip(), *_intervals(finite),
             f'{statistics.sign_test(paired[~np.isnan(paired)]):.3f}',
             _released(table, flow, selection, arms))


def _intervals(finite):
  """Student's interval, the verdict by it, and the bootstrap's interval; '' where there is none."""
  if not len(finite):
    return '', _verdict(finite), ''
  low, high = statistics.bootstrap_interval(finite)
  student = f'± {_row(finite).interval:.2f}' if len(finite) > 1 else ''
  return student, _verdict(finite), f'[{low:+.2f}, {high:+.2f}]'


def _released(table, flow, selection, arms):
  """How far the released code's figure is from our mean, for both arms, in our sd over seeds."""
  column = {'last': 0, 'oracle': 1}.get(selection)
  if table != 'redwine' or column is None:
    return ''
  text = []
  for arm, values in zip(ARMS, arms):
    moments = _moments(values)
    text.append(f'{(RELEASED[flow, arm][column] - moments.mean) / _sd(moments):+.1f}'
                if moments.count > 1 else 'no sd')
  return ', '.join(text)


def markdown(found):
  """The table for a page."""
  cells = [HEADER, ('---',) * len(HEADER), *lines(found)]
  return comparison.as_markdown(cells)


def sentence(found):
  """What the table says of early stopping, either way."""
  gains, counts = {}, {}
  for selection in ('last', 'validation'):
    pairs = [_paired(runs, selection) for runs in found.values()]
    # Medians over seeds: one lost row would make the mean its own.
    gains[selection] = np.nanmedian([np.median(own) for own in pairs])
    for key, level in ((selection, .95), ((selection, 'all'), 1 - .05 / len(pairs))):
      counts[key] = comparison.counted(_verdict(_finite(own), level) for own in pairs) + ' cells'
  return (f'Gain of mollification, median over seeds and then over {len(found)} cells: '
          f'{gains["last"]:+.2f} nats at the last epoch, {gains["validation"]:+.2f} where the '
          'epoch is selected on validation data (early stopping). By Student\'s 95 % interval of '
          f'the paired differences it is {counts["last"]} at the last epoch, and '
          f'{counts["validation"]} with early stopping. With the {len(found)} intervals of each '
          f'widened together (Bonferroni) it is {counts["last", "all"]} at the last epoch, and '
          f'{counts["validation", "all"]} with early stopping.')


def sentences(found):
  """All that is said of the table."""
  return [sentence(found), stopping(found), row_error(found), coarseness(found), agreement(found),
          *outliers(found)]


def stopping(found):
  """Vanilla training that stops early against mollified training that does not, in a sentence."""
  ends = [_finite(_minus(_values(runs, 'vanilla', 'validation'),
                         _values(runs, 'mollified', 'last'))) for runs in found.values()]
  ahead = sum(own.mean() > 0 for own in ends)
  verdicts = collections.Counter(map(_verdict, ends))
  return (f'Vanilla training with early stopping is ahead of mollified training at its last epoch '
          f'in the mean of {ahead} of {len(ends)} cells; by Student\'s 95 % interval it is better '
          f'in {verdicts["better"]} and worse in {verdicts["worse"]}.')


def row_error(found):
  """What the intervals over seeds leave out: how far the test rows themselves may be off."""
  tables = dict.fromkeys(table for table, _ in found)
  errors = {table: np.median([records['validation'].standard_error
                              for (own, _), runs in found.items() if own == table
                              for records in runs.values()]) for table in tables}
  said = ', '.join(f'{error:.2f} on {table}' for table, error in errors.items())
  return ('These intervals are of initialisation and order. Another draw of test rows is in none '
          f'of them: the standard error of one run over its test rows, in nats, is {said} (median, '
          'selected on validation data), of which the two arms share an unknown part.')


def _verdict(finite, level=.95):
  """'better', 'worse' or 'undecided', of differences in log-likelihood [n]."""
  return _row(finite).verdict_at(level) if len(finite) > 1 else 'undecided'


def _row(finite):
  """comparison.Row of differences in log-likelihood [n]."""
  return comparison.Row('', 'log_likelihood', None, None, Moments.of(list(finite)))


def agreement(found):
  """How near the released code's runs are to ours at the last epoch, in a sentence; '' for none.

  For one run more from the same law as our n, Student's 95 % interval is t sqrt(1 + 1/n) sd. An arm
  with less than two finite seeds has no sd, and is left out.
  """
  off, lost = {}, []
  for (flow, arm), (last, _) in RELEASED.items():
    if ('redwine', flow) in found:
      values = _values(found['redwine', flow], arm, 'last')
      moments = _moments(values)
      if moments.count < 2:
        lost.append(f'{flow}, {arm}')
        continue
      off[flow, arm] = (last - moments.mean) / _sd(moments), last, _shown(values), moments.count
  without = (f' Left out, as fewer than two of our seeds are finite: {"; ".join(lost)}.'
             if lost else '')
  if not off:
    return without.strip()
  near = sum(abs(distance) < 1.5 for distance, *_ in off.values())
  (flow, arm), (distance, last, ours, count) = max(off.items(), key=lambda item: abs(item[1][0]))
  limit = statistics.student_quantile(count - 1, .95) * math.sqrt(1 + 1 / count)
  return (f'Of the {len(off)} runs of the released code on RED-WINE (one seed each), {near} lie '
          f'within 1.5 sd of ours at the last epoch; the furthest is {flow}, {arm}: {last:.2f} '
          f'against {ours}, {abs(distance):.1f} sd. One more run of {count} would be within '
          f'{limit:.1f} sd in 95 % of all cases.{without}')


def peaks(found):
  """Table: at which evaluation, of how many, validation is best, seed by seed of both arms."""
  head = ('table', 'flow', *(f'{arm}, best evaluation by seed' for arm in ARMS), 'of')
  lines = [head, ('---',) * len(head)]
  for (table, flow), runs in found.items():
    best = [', '.join(str(at + 1) for at in _peaks(runs, arm)) for arm in ARMS]
    lines.append((table, flow, *best, str(_evaluations(runs))))
  return comparison.as_markdown(lines)


def _peaks(runs, arm):
  """Index of the evaluation that validation selects, of each seed of an arm."""
  return [records['validation'].extra['evaluation'] for (name, _), records in sorted(runs.items())
          if name == arm]


def _evaluations(runs):
  return len(next(iter(runs.values()))['last'].extra['curves']['test'])


def coarseness(found):
  """Which arm is favoured by looking at few evaluations, in a sentence."""
  parts, steep = [], {}
  for arm in ARMS:
    shares = [(at + 1) / _evaluations(runs) for runs in found.values() for at in _peaks(runs, arm)]
    steep[arm] = np.median([fall for runs in found.values() for fall in _falls(runs, arm)])
    parts.append(f'{arm} training is at its best within the first third of the evaluations in '
                 f'{sum(share <= 1 / 3 for share in shares)} of {len(shares)} runs, and beside its '
                 f'best one loses {steep[arm]:.2f} nats of validation log-likelihood (median)')
  favoured = min(ARMS, key=steep.get)
  return (f'Early stopping looks at every fifth epoch only: {"; ".join(parts)}. By that it favours '
          f'{favoured} training, which loses less.')


def _falls(runs, arm):
  """By how much validation is worse beside its best evaluation, the mean of its neighbours."""
  for at, (_, records) in zip(_peaks(runs, arm), sorted(
      item for item in runs.items() if item[0][0] == arm)):
    curve = np.array([float(v) for v in records['last'].extra['curves']['validation']])
    beside = [curve[i] for i in (at - 1, at + 1) if 0 <= i < len(curve) and np.isfinite(curve[i])]
    if beside:
      yield curve[at] - np.mean(beside)


def outliers(found, least=3.):
  """Sentences on validation-selected runs that one test row alone takes `least` nats down.

  k rows of n that each lack D nats shift the mean by k D / n and make its standard error
  sqrt(k) D / n: the squared ratio of the two is k.
  """
  for (table, flow), runs in found.items():
    for (arm, seed), records in runs.items():
      record = records['validation']
      shift = np.median(list(_values(runs, arm, 'validation').values())) - record.value
      if least < shift < np.inf and round((shift / record.standard_error) ** 2) == 1:
        yield (f'{table}, {flow}, {arm}, seed {seed}: {shift:.1f} nats below the median of the '
               f'seeds, at a standard error of {record.standard_error:.1f}: one test row of '
               f'{record.n} that gets some {shift * record.n:,.0f} nats too little.')


def draw(found, path):
  """Test log-likelihood over training: median over seeds, band from the lowest to the highest.

  A mean would follow the one seed that loses a row.
  """
  plt = figures.pyplot()
  tables, flows = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
  figure, axes = plt.subplots(len(tables), len(flows), squeeze=False,
                              figsize=(4.2 * len(flows), 3. * len(tables)))
  for row, table in zip(axes, tables):
    for ax, flow in zip(row, flows):
      ax.set_title(f'{table}, {flow}')
      if (table, flow) in found:
        _panel(ax, found[table, flow], _epoch(table, flow))
      else:
        ax.set_axis_off()
  for ax in axes[-1]:
    ax.set_xlabel('epoch')
  for row in axes:
    row[0].set_ylabel('test log-likelihood (nats)')
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def _epoch(table, flow):
  """Updates of an epoch."""
  return importlib.import_module(f'configs.uci_{table}_{flow}').get_config().steps_per_call


def _panel(ax, runs, epoch):
  tops, between = [], next(iter(runs.values()))['last'].extra['curves']['updates_between']
  for arm in ARMS:
    curves = np.array([records['last'].extra['curves']['test']
                       for (name, _), records in runs.items() if name == arm])
    epochs = np.arange(1, curves.shape[1] + 1) * between / epoch
    curves = np.maximum(curves, FLOOR)
    median = np.median(curves, 0)
    ax.plot(epochs, median, color=figures.COLORS[arm], label=arm)
    ax.fill_between(epochs, curves.min(0), curves.max(0), color=figures.COLORS[arm], alpha=.25,
                    lw=0)
    tops.append(median.max())
  # Not down to the first epochs.
  ax.set_ylim(max(ax.get_ylim()[0], max(tops) - 20), max(tops) + 1.5)
  ax.legend(frameon=False, fontsize=8)
