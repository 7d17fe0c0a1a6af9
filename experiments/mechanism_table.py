"""Table, sentences and figure of `experiments.mechanism`, from records alone."""
import pathlib

import numpy as np

from experiments import comparison, figures, grid, mechanism
from mollification.metrics import Moments

# What a curve of the records is called on a page; the first four say how good the density is.
METRICS = {
  'test': 'test log-likelihood (nats) ↑', 'mmd2': 'MMD² ↓',
  'score_error_low': 'log10 error of the score, rare ↓',
  'share_far': 'share far ↓',
  'gradient_on': 'norm of the score, on data', 'gradient_low': '..., where data are rare',
  'sharpness': 'sharpness, clean data', 'sharpness_quarter': '..., level .25 by clean statistics',
  'sharpness_noise': '..., level 1 by clean statistics'}
LANDSCAPE = {'gradient_on': 'norm of the score on data', 'gradient_low': 'where they are rare',
             'sharpness': 'sharpness on clean data'}
CELLS = mechanism.DATA
COLUMNS = (*mechanism.ARMS, 'fresh start')
COLORS = {**figures.COLORS, 'rising': '#6a994e', 'shuffled': '#b59f3b', 'abrupt': '#7d5ba6'}
DRAWN = {'gradient_on': 'norm of the score\non data', 'gradient_low': 'norm of the score\n'
         'where data are rare', 'sharpness': 'sharpness\non clean data',
         'test': 'test log-likelihood\n(nats)'}


def curves(folder):
  """({metric: {arm: {seed: [P]}}}, updates between two) of a cell."""
  found, every = {}, 0
  for (arm, seed), run in grid.read(folder).items():
    recorded = run['last'].extra['curves']
    every = recorded['updates_between']
    for metric in METRICS:
      values = np.array([float(v) for v in recorded[metric]])
      found.setdefault(metric, {}).setdefault(arm, {})[seed] = values
  return found, every


def last(arms):
  """{column: {seed: value}} after all updates; a fresh start is vanilla training at half of them.

  The learning rate is constant and half of the updates of all others are clean.
  """
  ends = {arm: {seed: curve[-1] for seed, curve in seeds.items()} for arm, seeds in arms.items()}
  half = {seed: curve[len(curve) // 2 - 1] for seed, curve in arms['vanilla'].items()}
  return {**ends, 'fresh start': half}


def ends(metric, arms):
  """`last` of a metric as it is compared: errors of the score by their log10, as elsewhere."""
  found = last(arms)
  if metric != 'score_error_low':
    return found
  return {column: {seed: np.log10(value) for seed, value in seeds.items()}
          for column, seeds in found.items()}


def against_mollified(name, values):
  """{column: comparison.Row} of the others: what mollified training adds, paired by seed."""
  rows = {}
  for column in COLUMNS:
    if column != 'mollified':
      cells = [comparison.Cell(name, arm, seed, column, value)
               for arm, source in (('vanilla', column), ('mollified', 'mollified'))
               for seed, value in values[source].items()]
      (rows[column],) = comparison.compare(cells)
  return rows


def decided(row):
  """Whether the 95 % interval of a difference leaves 0 out."""
  return abs(row.difference.mean) > row.interval


def table(root, names):
  """(density, metric, {column: Moments}, {column: Row}), one per line of the table."""
  for name in names:
    found, _ = curves(pathlib.Path(root) / name)
    for metric in METRICS:
      rows = against_mollified(name, ends(metric, found[metric]))
      moments = {column: row.vanilla for column, row in rows.items()}
      yield name, metric, {**moments, 'mollified': next(iter(rows.values())).mollified}, rows


def markdown(root, names):
  """The table for a page; * where a column differs from mollified training."""
  lines = [('density', 'figure', *COLUMNS), ('---',) * (2 + len(COLUMNS))]
  for name, metric, moments, rows in table(root, names):
    mark = lambda column, rows=rows: '*' if column in rows and decided(rows[column]) else ''
    lines.append((name, METRICS[metric], *(comparison.shown(moments[c]) + mark(c)
                                           for c in COLUMNS)))
  return comparison.as_markdown(lines)


def ratio(found, metric, part):
  """comparison.Row of log10 of mollified over vanilla training: by seed the median of a `part`."""
  arms = found[metric]
  logs = [np.median(np.log10(arms['mollified'][seed][part] / arms['vanilla'][seed][part]))
          for seed in arms['vanilla']]
  return comparison.Row('', metric, None, None, Moments.of(logs))


def landscape(found):
  """{metric of `LANDSCAPE`: (Row over the mollified phase, Row at the end)}, of `curves`."""
  half = len(next(iter(found['test']['vanilla'].values()))) // 2
  return {metric: tuple(ratio(found, metric, part) for part in (slice(0, half), slice(-1, None)))
          for metric in LANDSCAPE}


def sentences(root, names):
  """What the records say of each claim, either way."""
  for name in names:
    found, _ = curves(pathlib.Path(root) / name)
    said = []
    for metric, rows in landscape(found).items():
      shown = [f'{10 ** row.difference.mean:.2f} (log10 {row.difference.mean:+.3f} ± '
               f'{row.interval:.3f}{", decided" if decided(row) else ""})' for row in rows]
      said.append(f'{LANDSCAPE[metric]} {shown[0]} and {shown[1]}')
    yield (f'Question 6, gradient and landscape, {name}: mollified over vanilla training, median '
           'over the mollified phase and at the end, geometric mean over seeds with the 95 % '
           'interval of its log10: '
           + '; '.join(said) + '.')
    yield f'{name}: {_memory(name, found)}'
  stars = [decided(row) for *_, rows in table(root, names) for row in rows.values()]
  yield (f'Of all {len(stars)} comparisons of the table with mollified training {sum(stars)} are '
         f'decided, of which chance alone would decide {.05 * len(stars):.2g}.')
  yield grid.time_taken(root, names)


def _memory(name, found):
  """Whether mollified training ends elsewhere than what has no annealing to remember."""
  parts = []
  for metric, better in (('test', 1), ('score_error_low', -1), ('mmd2', -1)):
    rows = against_mollified(name, ends(metric, found[metric]))
    said = [f'{"better" if row.difference.mean * better > 0 else "worse"} than {column}'
            for column, row in rows.items() if decided(row)]
    label = METRICS[metric].rstrip(' ↑↓')
    parts.append(f'in {label} it is ' + (', '.join(said) or 'decided against none of the others'))
  return 'falling levels at the end: ' + '; '.join(parts) + '.'


def report(root, names):
  """Print the table and the sentences, write table.csv, draw."""
  root = pathlib.Path(root)
  print('\n' + markdown(root, names) + '\n\n' + '\n'.join(sentences(root, names)))
  comparison.write_csv(root / 'table.csv', ('density', 'metric', 'arm', 'seeds', 'mean', 'sem'), (
    (name, f'log10_{metric}' if metric == 'score_error_low' else metric, column,
     moments[column].count, moments[column].mean, moments[column].sem)
    for name, metric, moments, _ in table(root, names) for column in COLUMNS))
  draw(root, names, root / 'mechanism.png')


def draw(root, names, path):
  """`DRAWN` over training: median over seeds, with the band of all of them for the main arms."""
  plt = figures.pyplot()
  figure, axes = plt.subplots(len(DRAWN), len(names), squeeze=False,
                              figsize=(4.2 * len(names), 2.3 * len(DRAWN)))
  for column, name in zip(axes.T, names):
    found, every = curves(pathlib.Path(root) / name)
    for ax, metric in zip(column, DRAWN):
      for arm, seeds in found[metric].items():
        values = np.stack(list(seeds.values()))
        updates = every * np.arange(1, values.shape[1] + 1)
        main = arm in figures.COLORS
        ax.plot(updates, np.median(values, 0), color=COLORS[arm], label=arm, lw=1.8 if main else 1)
        if main:
          ax.fill_between(updates, values.min(0), values.max(0), color=COLORS[arm], alpha=.2, lw=0)
      ax.axvline(updates[-1] / 2, color='k', ls=':', lw=.8)   # clean from here on
      ax.spines[['top', 'right']].set_visible(False)
      if metric != 'test':
        ax.set_yscale('log')
      else:
        ends = np.concatenate([c[len(c) // 2:] for s in found[metric].values() for c in s.values()])
        ax.set_ylim(np.quantile(ends, .02), ends.max() + .1)
    column[0].set_title(name)
    column[-1].set_xlabel('updates')
  for ax, label in zip(axes[:, 0], DRAWN.values()):
    ax.set_ylabel(label, fontsize=9)
  axes[0, 0].legend(frameon=False, fontsize=8)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)
