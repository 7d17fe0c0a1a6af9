"""The UCI table and its figure, from records alone."""
import math
import pathlib

import numpy as np

from experiments import figures, grid, statistics
from mollification.metrics import Moments

# Test log-likelihood in nats at the last epoch and at the best one on test, of the authors'
# released code (tranbahien/data-mollification), run once with seed 1 on RED-WINE.
RELEASED = {
  ('maf', 'vanilla'): (-15.19, -10.87), ('maf', 'mollified'): (-11.73, -10.67),
  ('realnvp', 'vanilla'): (-26.27, -11.15), ('realnvp', 'mollified'): (-13.70, -10.60),
  ('glow', 'vanilla'): (-17.98, -10.21), ('glow', 'mollified'): (-12.12, -10.27),
}
ARMS = ('vanilla', 'mollified')
EPOCHS = 150
HEADER = ('table', 'flow', 'selection', 'seeds', 'vanilla', 'mollified', 'difference', 'bootstrap',
          'sign test', 'released, in our sd')


def read(root, names):
  """{(table, flow): {(arm, seed): {selection: Record}}} of the cells that have records."""
  found = {tuple(name.split('_')): grid.read(pathlib.Path(root) / name) for name in names}
  return {name: runs for name, runs in found.items() if runs}


def _values(runs, arm, selection):
  return {seed: records[selection].value for (name, seed), records in sorted(runs.items())
          if name == arm}


def csv_rows(found):
  """(dataset, flow, arm, selection, seeds, mean, sd) of every cell; sd over seeds, ddof 1."""
  for (table, flow), runs in found.items():
    for arm in ARMS:
      for selection in grid.SELECTIONS:
        moments = _moments(_values(runs, arm, selection))
        yield (table, flow, arm, selection, moments.count, round(moments.mean, 4),
               round(_sd(moments), 4))


def _moments(values):
  return Moments.of(list(values.values()))


def _sd(moments):
  return moments.sem * math.sqrt(moments.count)


def lines(found):
  """Rows of the table as text, in the order of `HEADER`; differences are mollified - vanilla."""
  for (table, flow), runs in found.items():
    for selection in grid.SELECTIONS:
      arms = [_values(runs, arm, selection) for arm in ARMS]
      shown = [f'{m.mean:.2f} ± {_sd(m):.2f}' for m in map(_moments, arms)]
      paired = [arms[1][seed] - arms[0][seed] for seed in arms[0]]
      low, high = statistics.bootstrap_interval(paired)
      yield (table, flow, selection, str(len(paired)), *shown, f'{np.mean(paired):+.2f}',
             f'[{low:+.2f}, {high:+.2f}]', f'{statistics.sign_test(paired):.3f}',
             _released(table, flow, selection, arms))


def _released(table, flow, selection, arms):
  """How far the released code's figure is from our mean, for both arms, in our sd over seeds."""
  column = {'last': 0, 'oracle': 1}.get(selection)
  if table != 'redwine' or column is None:
    return ''
  text = []
  for arm, values in zip(ARMS, arms):
    moments = _moments(values)
    text.append(f'{(RELEASED[flow, arm][column] - moments.mean) / _sd(moments):+.1f}')
  return ', '.join(text)


def markdown(found):
  """The table for a page."""
  cells = [HEADER, ('---',) * len(HEADER), *lines(found)]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in cells)


def sentence(found):
  """What the table says of early stopping, either way."""
  verdicts = {'better': 0, 'worse': 0, 'undecided': 0}
  gains = {selection: [] for selection in grid.SELECTIONS}
  for runs in found.values():
    for selection in grid.SELECTIONS:
      arms = [_values(runs, arm, selection) for arm in ARMS]
      paired = [arms[1][seed] - arms[0][seed] for seed in arms[0]]
      gains[selection].append(np.mean(paired))
      if selection == 'validation':
        low, high = statistics.bootstrap_interval(paired)
        verdicts['better' if low > 0 else 'worse' if high < 0 else 'undecided'] += 1
  return (f'Gain of mollification, mean over {len(found)} cells: {np.mean(gains["last"]):+.2f} '
          f'nats at the last epoch, {np.mean(gains["validation"]):+.2f} where the epoch is '
          'selected on validation data (early stopping). There it is better in '
          f'{verdicts["better"]}, worse in {verdicts["worse"]}, undecided in '
          f'{verdicts["undecided"]} cells by the 95 % bootstrap interval.')


def draw(found, path):
  """Test log-likelihood over training: mean over seeds, band of ± sd, and what validation picks."""
  plt = figures.pyplot()
  tables, flows = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
  figure, axes = plt.subplots(len(tables), len(flows), squeeze=False,
                              figsize=(4.2 * len(flows), 3. * len(tables)))
  for row, table in zip(axes, tables):
    for ax, flow in zip(row, flows):
      ax.set_title(f'{table}, {flow}')
      if (table, flow) in found:
        _panel(ax, found[table, flow])
  for ax in axes[-1]:
    ax.set_xlabel('epoch')
  for row in axes:
    row[0].set_ylabel('test log-likelihood (nats)')
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)


def _panel(ax, runs):
  tops = []
  for arm in ARMS:
    curves = np.array([records['last'].extra['curves']['test']
                       for (name, _), records in runs.items() if name == arm])
    epochs = EPOCHS * np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    mean, sd = curves.mean(0), curves.std(0, ddof=1)
    ax.plot(epochs, mean, color=figures.COLORS[arm], label=arm)
    ax.fill_between(epochs, mean - sd, mean + sd, color=figures.COLORS[arm], alpha=.25, lw=0)
    tops.append(mean.max())
  # Not down to the first epochs.
  ax.set_ylim(max(ax.get_ylim()[0], max(tops) - 20), max(tops) + 1.5)
  ax.legend(frameon=False, fontsize=8)
