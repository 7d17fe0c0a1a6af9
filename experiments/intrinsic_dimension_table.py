"""Table and figure of `experiments.intrinsic_dimension`, from records alone."""
import collections
import functools
import pathlib

import numpy as np

from experiments import comparison, figures, grid, intrinsic_dimension
from experiments.intrinsic_dimension import AMBIENT, ARMS, CELLS, DEFAULT, KINDS

METRICS = {'mmd2': 'MMD²', 'off_manifold': 'distance from the manifold', 'test': 'log-likelihood'}
JUDGED = ('mmd2', 'off_manifold')   # by which samples are judged
HEADER = ('data', 'd / D', 'figure', 'of the data', 'vanilla', f'mollified, {DEFAULT}',
          'difference', '95 %', 'it is', 'best schedule of these seeds', 'its difference')


def judged(name, metric):
  """Whether more or less of a metric is better: likelihood on a manifold has no bound."""
  kind, d = name.split('_')
  return metric in JUDGED or kind == 'noisy' or int(d) == AMBIENT


def values(folder):
  """{metric: {arm: {seed: value at the end}}} of a cell."""
  found = {}
  for (arm, seed), run in grid.read(folder).items():
    curves = run['last'].extra['curves']
    for metric in METRICS:
      found.setdefault(metric, {}).setdefault(arm, {})[seed] = float(curves[metric][-1])
  return found


def row(name, metric, arms, arm):
  """comparison.Row of one schedule against vanilla training."""
  label = 'log_likelihood' if metric == 'test' else metric
  cells = [comparison.Cell(name, column, seed, label, value)
           for column, source in (('vanilla', 'vanilla'), ('mollified', arm))
           for seed, value in arms[source].items()]
  return comparison.compare(cells)[0]


def rows(root, names):
  """(name, metric, {arm: comparison.Row}) of each line of the table."""
  for name in names:
    found = values(pathlib.Path(root) / name)
    for metric in METRICS:
      if name == f'plane_{AMBIENT}' and metric == 'off_manifold':
        continue   # 0 by definition
      yield name, metric, {arm: row(name, metric, found[metric], arm)
                           for arm in ARMS if arm != 'vanilla'}


@functools.cache
def data_distance(name):
  """Root of the mean squared distance of the held-out data themselves from their manifold.

  As `intrinsic_dimension.derive` has it of samples: what samples of the very law would have.
  """
  law, test = intrinsic_dimension.held_out(name)
  return float(np.sqrt((law.distance(test)**2).mean()))


def best(metric, compared):
  """The arm with the best mean; one that is not finite is the worst."""
  sign = 1 if metric == 'test' else -1
  score = lambda arm: sign * compared[arm].difference.mean
  return max(compared, key=lambda arm: score(arm) if np.isfinite(score(arm)) else -np.inf)


def markdown(root, names=CELLS):
  """The table for a page."""
  lines = [HEADER, ('---',) * len(HEADER)]
  for name, metric, compared in rows(root, names):
    kind, d = name.split('_')
    shown = next(comparison.lines([compared[DEFAULT]]))
    top = best(metric, compared)
    gain = next(comparison.lines([compared[top]]))
    verdict = shown[-1] if judged(name, metric) else ''
    own = f'{data_distance(name):.3f}' if metric == 'off_manifold' else ''
    lines.append((kind, f'{d} / {AMBIENT}', METRICS[metric], own, *shown[3:7], verdict, top,
                  f'{gain[5]}'))
  return comparison.as_markdown(lines)


def sentences(root, names=CELLS):
  """How many of the judged comparisons each schedule wins, by dimension; the default first."""
  yield from _own_distance(names)
  schedules = [DEFAULT, *(arm for arm in ARMS if arm not in ('vanilla', DEFAULT))]
  for arm in schedules:
    parts = []
    for what, wanted in (('samples', lambda name, metric: metric in JUDGED),
                         ('likelihood, where it is bounded',
                          lambda name, metric: metric == 'test' and judged(name, metric))):
      by_dimension = collections.defaultdict(collections.Counter)
      for name, metric, compared in rows(root, names):
        if wanted(name, metric):
          by_dimension[int(name.split('_')[1])][compared[arm].verdict] += 1
      said = ', '.join(f'd = {d} {v["better"]}/{v["worse"]}/{v["undecided"]}'
                       for d, v in sorted(by_dimension.items()))
      parts += [f'{what}: {said}'] if said else []
    yield f'{arm} (better/worse/undecided), {"; ".join(parts)}.'
  yield grid.time_taken(root, names)


def _own_distance(names):
  """What a distance from the manifold is to be held against, on noisy data."""
  own = {name: data_distance(name) for name in names if name.startswith('noisy_')}
  if own:
    said = ', '.join(f'd = {name.split("_")[1]} {value:.3f}' for name, value in own.items())
    yield (f'noisy data are off their manifold themselves, by {said} (root mean square): less than '
           'that would be too near, not better. Of curved data, noisy or not, the distance is an '
           'upper bound, along the normals of the plane below.')


def report(root, names):
  """Print the table, write table.csv, draw."""
  root = pathlib.Path(root)
  print('\n' + markdown(root, names) + '\n\n' + '\n'.join(sentences(root, names)))
  header = ('cell', 'metric', 'arm', 'seeds', 'mean', 'mean_sem', 'difference', 'difference_sem')
  comparison.write_csv(root / 'table.csv', header, (
    (name, metric, arm, r.vanilla.count, r.mollified.mean, r.mollified.sem, r.difference.mean,
     r.difference.sem) for name, metric, compared in rows(root, names)
    for arm, r in compared.items()))
  draw(root, names, root / 'gain.png')


def draw(root, names, path):
  """Difference from vanilla training, over its value, against d / D; one line per kind of data."""
  plt = figures.pyplot()
  figure, axes = plt.subplots(1, len(JUDGED), figsize=(5 * len(JUDGED), 3.6), squeeze=False)
  compared = {(name, metric): arms for name, metric, arms in rows(root, names)}
  for ax, metric in zip(axes[0], JUDGED):
    for kind in KINDS:
      shown = {int(name.split('_')[1]): arms[DEFAULT] for (name, m), arms in compared.items()
               if m == metric and name.startswith(f'{kind}_')}
      if not shown:
        continue
      shares = [d / AMBIENT for d in sorted(shown)]
      scale = [abs(shown[d].vanilla.mean) for d in sorted(shown)]
      ax.errorbar(shares, [shown[d].difference.mean / s for d, s in zip(sorted(shown), scale)],
                  [shown[d].interval / s for d, s in zip(sorted(shown), scale)], label=kind,
                  marker='o', capsize=3)
    ax.axhline(0, color='k', lw=.8)
    ax.set(xlabel='d / D', title=METRICS[metric], xscale='log')
    dimensions = sorted({int(name.split('_')[1]) for name, m in compared if m == metric})
    ax.set_xticks([d / AMBIENT for d in dimensions], [f'{d}/{AMBIENT}' for d in dimensions])
    ax.minorticks_off()
    ax.set_ylabel('(mollified - vanilla) / vanilla')
    ax.spines[['top', 'right']].set_visible(False)
  axes[0, 0].legend(frameon=False, fontsize=8)
  figure.suptitle('below 0 mollification helps; bars: 95 % intervals, paired over seeds')
  figure.tight_layout()
  figures.save(figure, path, dpi=110)
