"""Figures from files that runs wrote: learning curves with bands, sample grids side by side."""
import pathlib

import numpy as np

from mollification import files, metrics

# Of the arms, legible on white and on black.
COLORS = {'vanilla': '#4c6a92', 'mollified': '#c8553d', 'gaussian': '#c8553d', 'blur': '#3f8f5b',
          'cosine': '#8e5fa8', 'linear': '#ab822c'}
SOFT = '#808080'   # of what is beside the curves, on white and on black


def pyplot():
  """matplotlib.pyplot, for files alone."""
  import matplotlib
  matplotlib.use('Agg')
  from matplotlib import pyplot
  return pyplot


def curve(path, name):
  """(steps [T], values [T]) of one metric in a metrics.jsonl."""
  points = [(row['step'], float(row[name])) for row in metrics.read_rows(path) if name in row]
  return np.array([p[0] for p in points]), np.array([p[1] for p in points])


def learning_curves(runs, name, path, *, ylabel):
  """One panel per model: mean over seeds ± standard error, and where the noise reaches 0.

  runs: {model: {arm: [metrics.jsonl of each seed]}}.
  """
  plt = pyplot()
  figure, axes = plt.subplots(1, len(runs), figsize=(5.2 * len(runs), 3.8), squeeze=False)
  for ax, (model, arms) in zip(axes[0], runs.items()):
    means = []
    for arm, paths in arms.items():
      curves = [curve(path, name) for path in paths]
      length = min(len(steps) for steps, _ in curves)   # a run may have stopped early
      steps, values = curves[0][0][:length], np.stack([values[:length] for _, values in curves])
      mean, sem = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
      ax.plot(steps, mean, color=COLORS[arm], label=arm)
      ax.fill_between(steps, mean - sem, mean + sem, color=COLORS[arm], alpha=.25, lw=0)
      means.append(mean)
      end = _end_of_noise(paths[0])
      if end:
        ax.axvline(end, color=COLORS[arm], ls=':', lw=1)
        ax.text(end, .02, ' level 0 from here', transform=ax.get_xaxis_transform(), fontsize=8,
                color=COLORS[arm])
    clip_below(ax, means)
    ax.set(title=model, xlabel='updates', ylabel=ylabel)
    ax.legend(frameon=False, loc='center right')
    ax.spines[['top', 'right']].set_visible(False)
  figure.tight_layout()
  save(figure, path)


def clip_below(ax, means):
  """Show what lies above the lower quartile of the lowest of the curves `means` [[T]].

  While mollified a model is far from clean data; the end of training is what is to be seen. The
  margins are shares of the range that is shown: of the values, they would be all of the axis where
  these are large.
  """
  found = [np.asarray(mean, float)[np.isfinite(mean)] for mean in means]
  found = [mean for mean in found if len(mean)]
  if not found:
    return
  low, high = min(np.sort(mean)[len(mean) // 4] for mean in found), max(map(np.max, found))
  if high > low:
    ax.set_ylim(low - .1 * (high - low), high + .1 * (high - low))


def mark_end_of_noise(ax, ends):
  """A dotted line at each of the updates `ends` that is not 0; the first is in the legend."""
  for i, end in enumerate(sorted(set(ends) - {0})):
    ax.axvline(end, color=SOFT, ls=':', lw=1.2, label='_' if i else 'level 0 from here')


def log_ticks(ax):
  """Label round values of a logarithmic y axis, wherever in its decades they lie."""
  low, high = ax.get_ylim()
  if high < 5 * low:   # evenly, since such an axis holds one power of ten or none
    ticks = pyplot().MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)
  else:
    decades = 10. ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = np.outer(decades, (1, 2, 5)).ravel()
  ticks = ticks[(low <= ticks) & (ticks <= high)]
  ax.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
  ax.set_yticks([], minor=True)
  ax.set_ylim(low, high)


def side_by_side(grids, path, *, title):
  """PNG grids of the arms next to each other, named. grids: {arm: file}."""
  plt = pyplot()
  figure, axes = plt.subplots(1, len(grids), figsize=(4 * len(grids), 4.4), squeeze=False)
  for ax, (arm, file) in zip(axes[0], grids.items()):
    ax.imshow(plt.imread(file), cmap='gray', interpolation='nearest', vmin=0, vmax=1)
    ax.set_title(arm)
    ax.set_axis_off()
  figure.suptitle(title)
  figure.tight_layout()
  save(figure, path)


def _end_of_noise(path):
  """Updates of the mollified phase: the last row whose update saw noise; 0 for none."""
  steps, levels = curve(path, 'train/level')
  return int(steps[levels > 0].max(initial=0))


def save(figure, path, dpi=130):
  """Write a figure as PNG, whole or not at all, and close it."""
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    figure.savefig(part, dpi=dpi, format='png')
  pyplot().close(figure)
