"""Table, sentences and figure of `experiments.alternatives`, from records alone.

Of a method with settings the one counts that is best on validation data by the figure in question,
in the mean over seeds; where an evaluation is selected, it is the best by validation log-likelihood
in each run. What is compared is of test data and of the same seeds.
"""
import dataclasses
import pathlib

import numpy as np

from experiments import alternatives, comparison, figures, grid, statistics
from mollification.metrics import Moments

CELLS = alternatives.DATA
METHODS = tuple(alternatives.methods(CELLS[0]))
SHOWN = {'weight_decay': 'weight decay', 'noise': 'constant noise', 'softflow': 'SoftFlow',
         'tweedie': 'constant noise, Tweedie', 'ema': 'EMA'}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A column: `curve` on test data, by what curve its setting is chosen, and at which evaluation.

  `metric` is its name in `comparison`, which knows whether less is better.
  """
  title: str
  curve: str
  chosen_by: str
  selection: str
  metric: str


FIGURES = (
  Figure('log-likelihood, last', 'test', 'validation', 'last', 'log_likelihood'),
  Figure('log-likelihood, selected', 'test', 'validation', 'validation',
         'log_likelihood_by_validation'),
  Figure('MMD², selected', 'mmd2', 'mmd2_validation', 'validation', 'mmd2'),
  Figure('share far, selected', 'share_far', 'mmd2_validation', 'validation', 'share_far'))


def read(root, name):
  """{arm: {seed: {curve: [P]}}} of a data set: what `grid` keeps with the last record."""
  found = {}
  for label in alternatives.programs(name):
    for (arm, seed), run in grid.read(pathlib.Path(root) / label).items():
      curves = {key: np.array([float(v) for v in curve]) for key, curve in
                run['last'].extra['curves'].items() if isinstance(curve, list)}
      found.setdefault(arm, {})[seed] = curves
  return found


def values(seeds, curve, selection):
  """{seed: value} of `curve` at the evaluation that `selection` takes in each run."""
  return {seed: curves[curve][grid.chosen(curves)[selection]] for seed, curves in seeds.items()}


def best(name, found, method, figure):
  """(setting, {seed: test value}) of a method: the setting that validation data prefer.

  A setting with a value that is not finite counts as the worst.
  """
  sign = -1 if comparison.lower_is_better(figure.metric) else 1
  scores = {}
  for setting in alternatives.methods(name)[method]:
    arm = alternatives.arm_of(method, setting)
    if arm in found:
      score = sign * np.mean([*values(found[arm], figure.chosen_by, figure.selection).values()])
      scores[setting] = score if np.isfinite(score) else -np.inf
  setting = max(scores, key=scores.get)
  return setting, values(found[alternatives.arm_of(method, setting)], figure.curve,
                         figure.selection)


def row(name, figure, mollified, other):
  """comparison.Row of mollified against another {seed: value}, over seeds that are finite in both.

  None where fewer than two are.
  """
  seeds = [s for s in other if np.isfinite(other[s]) and np.isfinite(mollified[s])]
  if len(seeds) < 2:
    return None
  cells = [comparison.Cell(name, arm, seed, figure.metric, source[seed]) for seed in seeds
           for arm, source in (('vanilla', other), ('mollified', mollified))]
  return comparison.compare(cells)[0]


def table(root, names):
  """(data, method, Figure, setting, {seed: value}, {seed: mollified's}) of all there is to say."""
  for name in names:
    found = read(root, name)
    has = next(iter(found['vanilla'].values()))
    for figure in FIGURES:
      if figure.curve in has:
        _, mollified = best(name, found, 'mollified', figure)
        for method in METHODS:
          yield (name, method, figure, *best(name, found, method, figure), mollified)


def markdown(root, names):
  """The table for a page: for each figure the value and, beside it, what mollification adds."""
  cells = {(name, method, figure): (_value(setting, own), _gain(name, method, figure, own, other))
           for name, method, figure, setting, own, other in table(root, names)}
  head = ('data', 'method', *(title for figure in FIGURES
                              for title in (figure.title, 'mollified - it')))
  lines = [head, ('---',) * len(head)]
  for name in names:
    for method in METHODS:
      texts = [cells.get((name, method, figure), ('', '')) for figure in FIGURES]
      lines.append((name, SHOWN.get(method, method), *(text for pair in texts for text in pair)))
  return comparison.as_markdown(lines)


def _value(setting, own):
  finite = [v for v in own.values() if np.isfinite(v)]
  lost = f'; {len(own) - len(finite)} of {len(own)} not finite' if len(finite) < len(own) else ''
  label = f' ({setting.replace("_", " ")}{lost})' if setting or lost else ''
  return (comparison.shown(Moments.of(finite)) if len(finite) > 1 else '') + label


def _gain(name, method, figure, own, mollified):
  """Mean difference with its bootstrap interval; * where Student's interval leaves 0 out too."""
  found = row(name, figure, mollified, own) if method != 'mollified' else None
  if found is None:
    return ''
  pairs = [mollified[s] - own[s] for s in own if np.isfinite(mollified[s] - own[s])]
  digits = 5 if figure.metric == 'mmd2' else 3
  low, high = statistics.bootstrap_interval(pairs)
  star = '' if found.verdict == 'undecided' else '*'
  return f'{np.mean(pairs):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{star}'


def verdicts(root, names):
  """(data, Figure, method, what mollified training is against it), of every other method."""
  for name, method, figure, _, own, mollified in table(root, names):
    if method != 'mollified':
      found = row(name, figure, mollified, own)
      yield name, figure, method, 'undecided' if found is None else found.verdict


def sentences(root, names):
  """For each data set and figure: better and worse than which, and what is undecided."""
  said = {}
  for name, figure, method, verdict in verdicts(root, names):
    said.setdefault((name, figure), {}).setdefault(verdict, []).append(SHOWN.get(method, method))
  for (name, figure), against in said.items():
    alone = len(against) == 1
    parts = [f'{word} {"all" if alone else "; ".join(against[verdict])}' for verdict, word in (
      ('better', 'better than'), ('worse', 'worse than'), ('undecided', 'undecided against'))
             if verdict in against]
    yield f'{name}, {figure.title}: mollified training is ' + ', and '.join(parts) + '.'
  yield grid.time_taken(root, [label for name in names for label in alternatives.programs(name)])


def recorded(root):
  """Data sets of which all sweeps have records under `root`."""
  sweeps = {name: list(alternatives.programs(name)) for name in CELLS}
  return [name for name, labels in sweeps.items() if grid.recorded(root, labels) == labels]


def report(root, names):
  """Print the table and the sentences, write table.csv, draw."""
  root = pathlib.Path(root)
  print('\n' + markdown(root, names) + '\n\n' + '\n'.join(sentences(root, names)))
  comparison.write_csv(
    root / 'table.csv', ('data', 'method', 'figure', 'setting', 'seed', 'value'),
    ((name, method, figure.title, setting, seed, value)
     for name, method, figure, setting, own, _ in table(root, names)
     for seed, value in own.items()))
  draw(root, names, root / 'alternatives.png')


def draw(root, names, path):
  """What mollification adds to each method: mean and Student's interval of 95 %, by figure."""
  plt = figures.pyplot()
  rows = {}
  for name, method, figure, _, own, mollified in table(root, names):
    if method != 'mollified':
      rows.setdefault((name, figure), {})[method] = row(name, figure, mollified, own)
  figure, axes = plt.subplots(len(names), len(FIGURES), squeeze=False,
                              figsize=(3.2 * len(FIGURES), 2.4 * len(names)))
  for line, name in zip(axes, names):
    for ax, column in zip(line, FIGURES):
      if (name, column) not in rows:
        ax.set_axis_off()
        continue
      _panel(ax, rows[name, column])
      ax.set_title(f'{name}\n{column.title}', fontsize=8)
      if ax is not line[0]:
        ax.set_yticklabels([])
  figure.suptitle('mollified - other, same seeds (right of 0: mollified has more)', fontsize=9)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def _panel(ax, rows):
  for i, found in enumerate(rows.values()):
    if found is not None:
      better = {'better': figures.COLORS['mollified'], 'worse': figures.COLORS['vanilla']}
      ax.errorbar(found.difference.mean, i, xerr=found.interval, fmt='o', ms=4,
                  color=better.get(found.verdict, 'gray'))
  ax.axvline(0, color='k', lw=.8)
  ax.set_yticks(range(len(rows)), [SHOWN.get(method, method) for method in rows])
  ax.tick_params(labelsize=7)
  ax.invert_yaxis()
  ax.spines[['top', 'right']].set_visible(False)
