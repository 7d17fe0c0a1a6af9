"""Heat maps and the confirming table of `experiments.sensitivity`, from records alone."""
import pathlib

import numpy as np

from experiments import comparison, figures, grid, sensitivity, statistics
from mollification.evaluation import records

CELLS = sensitivity.DATA
SELECTED = {'last': 'last update', 'validation': 'selected on validation'}
# By orders of magnitude: single points lead the mean square.
SCORE = 'log10_score_error_low'
OBSERVED = {SCORE: 'error of the score where data are rare',
            'share_far': 'share of samples where data are rare'}
TITLES = {**SELECTED, SCORE: 'log10 error of the score (rare)',
          'share_far': 'share of samples (rare)'}
METRICS = {'last': 'log_likelihood', 'validation': 'log_likelihood_by_validation',
           **{metric: metric for metric in OBSERVED}}
HEADER = ('data', 'variant', 'against', 'figure', 'seeds', 'other, mean', 'variant, mean',
          'difference', '95 %', 'it is')


def values(folder, metric):
  """{variant: {seed: value}} of a metric, its log10, or a selection of the log-likelihood."""
  found = {}
  if metric in grid.SELECTIONS:
    for (variant, seed), run in grid.read(folder).items():
      found.setdefault(variant, {})[seed] = run[metric].value
    return found
  name = metric.removeprefix('log10_')
  for path in sorted(pathlib.Path(folder).glob(f'*/*/records/{name}-*.json')):
    record = records.read(path)
    value = record.value if name == metric else np.log10(record.value)
    found.setdefault(path.parts[-4], {})[record.seed] = value
  return found


def gains(found):
  """{variant: (mean, standard error)} of the differences from vanilla, paired by seed."""
  pairs = {variant: np.array([seeds[s] - found['vanilla'][s] for s in sorted(seeds)])
           for variant, seeds in found.items() if variant != 'vanilla'}
  return {variant: (d.mean(), d.std(ddof=1) / np.sqrt(len(d))) for variant, d in pairs.items()}


def report(root, names):
  """Print what fresh seeds say, write table.csv, and draw the heat maps."""
  root = pathlib.Path(root)
  print('\n' + markdown(root, names) + '\n')
  print('\n'.join(sentences(root, names)))
  comparison.write_csv(root / 'table.csv', ('data', 'variant', 'figure', 'gain', 'sem'), (
    (name, variant, metric, round(mean, 5), round(sem, 5)) for name in names
    for metric in (*SELECTED, *OBSERVED)
    for variant, (mean, sem) in gains(values(root / name, metric) or {'vanilla': {}}).items()))
  draw(root, names, root / 'heatmaps.png')


def rows(folder, figure, other='vanilla'):
  """{variant: comparison.Row} of a figure of all variants in a folder against one of them."""
  found = values(folder, figure)
  return {variant: _row(figure, found, variant, other) for variant in found if variant != other}


def _row(figure, found, variant, other):
  return comparison.compare([
    comparison.Cell('', arm, seed, METRICS[figure], value)
    for arm, source in (('vanilla', other), ('mollified', variant))
    for seed, value in found[source].items()])[0]


def fresh_rows(root, name):
  """(variant, against what, comparison.Row) on fresh seeds, figure by figure.

  The default and the best variant of before against vanilla training, and then the best against the
  default, where they are two.
  """
  for figure in METRICS:
    found = values(pathlib.Path(root) / f'{name}_fresh', figure)
    variants = [variant for variant in found if variant != 'vanilla']
    pairs = [(variant, 'vanilla') for variant in variants]
    pairs += [(variant, sensitivity.DEFAULT) for variant in variants
              if variant != sensitivity.DEFAULT and sensitivity.DEFAULT in variants]
    for variant, other in pairs:
      yield variant, other, _row(figure, found, variant, other)


def markdown(root, names):
  """The confirming table for a page."""
  lines = [HEADER, ('---',) * len(HEADER)]
  for name in names:
    for variant, other, row in fresh_rows(root, name):
      shown = next(comparison.page_lines([row]))
      lines.append((name, variant, other, *shown[1:]))
  return comparison.as_markdown(lines)


def sentences(root, names):
  """What the records say, either way: early stopping, and the questions that the paper leaves."""
  yield from early_stopping(root, names)
  yield from corrected(root, names)
  yield from _rare(root, names)
  yield from _sensitivity(root, names)
  yield grid.time_taken(root, [label for name in names for label in (name, f'{name}_fresh')])


def _selected(root, name):
  """Rows of `fresh_rows` at the evaluation that early stopping takes."""
  return [found for found in fresh_rows(root, name) if found[-1].metric == METRICS['validation']]


def _said(row, digits=3):
  return f'{row.difference.mean:+.{digits}f} ± {row.interval:.{digits}f}'


def early_stopping(root, names):
  """For each data set: whether any schedule beats vanilla training with early stopping."""
  for name in names:
    found = gains(values(pathlib.Path(root) / name, 'validation'))
    ahead = sum(mean > 0 for mean, _ in found.values())
    # The best of many is best by luck too: fresh seeds decide.
    said = '; '.join(f'{variant} {_said(row)} nats ({row.verdict})'
                     for variant, other, row in _selected(root, name) if other == 'vanilla')
    yield (f'{name}: selected on validation, {ahead} of {len(found)} schedules are ahead of the '
           f'same vanilla runs in the mean; on fresh seeds {said}.')


def corrected(root, names):
  """Which of the comparisons on fresh seeds are decided if all of them count: Bonferroni's."""
  tests = [(name, variant, row) for name in names for variant, other, row in _selected(root, name)
           if other == 'vanilla']
  decided = [(f'{name}, {variant}', row, statistics.t_test(row.difference))
             for name, variant, row in tests if row.verdict != 'undecided']
  said = '; '.join(
    f'{label} ({row.verdict}): p = {p:.3f}, times {len(tests)} = {min(1., len(tests) * p):.3f}, '
    + (row.verdict if len(tests) * p < .05 else 'undecided') for label, row, p in decided)
  yield (f'Against vanilla training with early stopping these are {len(tests)} tests on fresh '
         f'seeds, without a correction for their number. What is decided alone, by Student\'s '
         f't-test, and with Bonferroni\'s correction for {len(tests)}: {said or "nothing"}.')


def _rare(root, names):
  """How the schedule changes samples where data are rare."""
  for name in names:
    found = rows(pathlib.Path(root) / name, 'share_far')
    if not found:
      continue
    seeds = {row.difference.count for row in found.values()}
    listed = lambda verdict, found=found: ', '.join(
      f'{variant} {_said(row)}' for variant, row in found.items() if row.verdict == verdict)
    open_ = [row.difference.mean for row in found.values() if row.verdict == 'undecided']
    between = f', between {min(open_):+.3f} and {max(open_):+.3f}' if open_ else ''
    most = max(found, key=lambda variant: found[variant].difference.mean)
    errors = rows(pathlib.Path(root) / name, SCORE)
    below = sum(row.difference.mean < 0 for row in errors.values())
    fresh = '; '.join(f'{variant} {_said(row)} ({row.verdict})'
                      for variant, other, row in fresh_rows(root, name)
                      if row.metric == 'share_far' and other == 'vanilla')
    yield (f'Question 1, the schedule and samples where data are rare, {name}: of vanilla '
           f'training\'s samples {next(iter(found.values())).vanilla.mean:.3f} fall there; on '
           f'{"/".join(map(str, sorted(seeds)))} seeds more do under '
           f'{listed("worse") or "no schedule"}, fewer under {listed("better") or "none"} (95 %), '
           f'and {len(open_)} of {len(found)} schedules are undecided{between}; on fresh seeds '
           f'{fresh}. The error of the score does not tell: under {most}, which has the most such '
           f'samples, its log10 differs by {_said(errors[most], 2)} from vanilla training\'s, and '
           f'is below it in the mean under {below} of {len(errors)} schedules.')


def _sensitivity(root, names):
  """How much hangs on the temperature and on the mollified share of the updates."""
  for name in names:
    folder = pathlib.Path(root) / name
    found = {variant: row for variant, row in rows(folder, 'validation').items()
             if variant in sensitivity.SIGMOIDS}
    low, high = (pick(found, key=lambda v: found[v].difference.mean) for pick in (min, max))
    scores = sensitivity.scores(grid.read(folder))
    best = sensitivity.chosen(grid.read(folder))
    own = [row for _, other, row in _selected(root, name) if other == sensitivity.DEFAULT]
    fresh = ''.join(f', and on fresh seeds {_said(row)} ({row.verdict})' for row in own)
    yield (f'Question 4, temperature and mollified share, {name}: selected on validation, the '
           f'{len(found)} sigmoids differ from vanilla training by {_said(found[low])} ({low}) to '
           f'{_said(found[high])} nats ({high}); the best schedule of all, {best}, was ahead of '
           f'the default by {scores[best] - scores[sensitivity.DEFAULT]:.4f} nats on validation '
           f'data when it was chosen{fresh} on test data.')


def draw(root, names, path):
  """Gain over vanilla for temperature × fraction, and below for the other variants."""
  plt = figures.pyplot()
  shown = [(name, metric) for name in names for metric in (*SELECTED, *OBSERVED)
           if values(pathlib.Path(root) / name, metric)]
  figure, axes = plt.subplots(2, len(shown), figsize=(3.6 * len(shown), 6.4), squeeze=False)
  for column, (name, metric) in zip(axes.T, shown):
    found = gains(values(pathlib.Path(root) / name, metric))
    # Blue is better.
    _heat(plt, column[0], found, 'RdBu_r' if metric in OBSERVED else 'RdBu')
    column[0].set_title(f'{name}\n{TITLES[metric]}', fontsize=9)
    _bars(column[1], {v: found[v] for v in found if v not in sensitivity.SIGMOIDS
                      or v == sensitivity.DEFAULT})
  figure.suptitle('difference from vanilla training, same seeds, ± standard error; blue is better: '
                  'log-likelihood in nats, log10 of the error of the score, share of samples',
                  fontsize=9)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def _heat(plt, ax, found, colours):
  grid_of = lambda i: np.array([[found[f'sigmoid_{t}_{f}'][i] for f in sensitivity.FRACTIONS]
                                for t in sensitivity.TEMPERATURES])
  mean, sem = grid_of(0), grid_of(1)
  reach = max(np.abs(mean).max(), 1e-9)
  ax.imshow(mean, cmap=colours, vmin=-reach, vmax=reach, aspect='auto')
  for (i, j), value in np.ndenumerate(mean):
    ax.text(j, i, f'{value:+.2f}\n± {sem[i, j]:.2f}', ha='center', va='center', fontsize=7,
            color='w' if abs(value) > .6 * reach else 'k')
  ax.set_xticks(range(mean.shape[1]), sensitivity.FRACTIONS)
  ax.set_yticks(range(mean.shape[0]), sensitivity.TEMPERATURES)
  ax.set(xlabel='mollified share of updates', ylabel='temperature τ')


def _bars(ax, found):
  names = list(found)
  ax.barh(names, [found[n][0] for n in names], xerr=[found[n][1] for n in names],
          color=figures.COLORS['mollified'])
  ax.axvline(0, color='k', lw=.8)
  ax.tick_params(labelsize=7)
  ax.invert_yaxis()
