"""Heat maps and the confirming table of `experiments.sensitivity`, from records alone."""
import pathlib

import numpy as np

from experiments import comparison, figures, grid, sensitivity
from mollification.evaluation import records

CELLS = sensitivity.DATA
SELECTED = {'last': 'last update', 'validation': 'selected on validation'}
# By orders of magnitude: single points lead the mean square.
SCORE = 'log10_score_error_low'
OBSERVED = {SCORE: 'error of the score where data are rare',
            'share_far': 'share of samples where data are rare'}
HEADER = ('data', 'variant', 'figure', 'seeds', 'vanilla', 'variant, mean', 'difference', '95 %',
          'it is')


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


def fresh_rows(root, name):
  """(variant, comparison.Row) on fresh seeds: the default and the best variant of before."""
  folder = pathlib.Path(root) / f'{name}_fresh'
  metrics = {'last': 'log_likelihood', 'validation': 'log_likelihood_by_validation',
             **{metric: metric for metric in OBSERVED}}
  for figure, metric in metrics.items():
    found = values(folder, figure)
    for variant in found:
      if variant != 'vanilla':
        cells = [comparison.Cell(name, arm, seed, metric, value)
                 for arm, source in (('vanilla', 'vanilla'), ('mollified', variant))
                 for seed, value in found[source].items()]
        yield variant, comparison.compare(cells)[0]


def markdown(root, names):
  """The confirming table for a page."""
  lines = [HEADER, ('---',) * len(HEADER)]
  for name in names:
    for variant, row in fresh_rows(root, name):
      shown = next(comparison.lines([row]))
      lines.append((name, variant, *shown[1:]))
  return comparison.as_markdown(lines)


def sentences(root, names):
  """For each data set: whether any schedule beats vanilla training with early stopping."""
  for name in names:
    found = gains(values(pathlib.Path(root) / name, 'validation'))
    ahead = sum(mean > 0 for mean, _ in found.values())
    # The best of many is best by luck too: fresh seeds decide.
    decided = [(variant, row) for variant, row in fresh_rows(root, name)
               if row.metric == 'log_likelihood_by_validation']
    said = '; '.join(f'{variant} {row.difference.mean:+.3f} ± {row.interval:.3f} nats '
                     f'({row.verdict})' for variant, row in decided)
    yield (f'{name}: selected on validation, {ahead} of {len(found)} schedules are ahead of '
           f'vanilla training in the mean; on fresh seeds {said}.')


def draw(root, names, path):
  """Gain over vanilla for temperature × fraction, and below for the other variants."""
  plt = figures.pyplot()
  shown = [(name, metric) for name in names for metric in (*SELECTED, SCORE)
           if values(pathlib.Path(root) / name, metric)]
  figure, axes = plt.subplots(2, len(shown), figsize=(3.6 * len(shown), 6.4), squeeze=False)
  for column, (name, metric) in zip(axes.T, shown):
    found = gains(values(pathlib.Path(root) / name, metric))
    _heat(plt, column[0], found, 'RdBu_r' if metric == SCORE else 'RdBu')   # blue is better
    column[0].set_title(f'{name}\n{SELECTED.get(metric, "log10 error of the score (rare)")}',
                        fontsize=9)
    _bars(column[1], {v: found[v] for v in found if v not in sensitivity.SIGMOIDS
                      or v == sensitivity.DEFAULT})
  figure.suptitle('difference from vanilla training, same seeds, ± standard error; blue is better: '
                  'log-likelihood in nats, log10 of the error of the score', fontsize=9)
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)


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
