"""Curves of recorded runs as SVG that takes the colours of the text around it."""
import io
import re
from typing import NamedTuple

import numpy as np

from experiments import figures, image_cells, image_runs, over_training

INK = '#010203'   # stands for the colour of the text
_STYLE = {'svg.fonttype': 'none', 'font.family': 'sans-serif', 'font.size': 9, 'text.color': INK,
          'axes.labelcolor': INK, 'axes.edgecolor': INK, 'xtick.color': INK, 'ytick.color': INK,
          'svg.hashsalt': 'mollification'}


class Panel(NamedTuple):
  """What a chart shows: `curves` {arm: {seed: [(x, y)]}}, and the updates where noise `ends`.

  Of `samples` so many, where it is measured of samples; `clip` leaves out what lies far below.
  """
  title: str
  curves: dict
  ends: tuple
  samples: int = 0
  clip: bool = False

  @property
  def note(self):
    """Of what it is: seeds, what the band is where there is one, and how many samples."""
    seeds = sorted({seed for own in self.curves.values() for seed in own}, key=int)
    said = (f'mean of seeds {", ".join(seeds)}; band: one standard error' if len(seeds) > 1
            else f'seed {seeds[0]}')
    return said + (f'; n = {self.samples:,} samples' if self.samples else '')


def of_model(folder, arms):
  """SVGs of the runs below MODEL/ARM/SEED: likelihood, and distances, over updates."""
  for i, panel in enumerate(panels(folder, arms)):
    yield _svg(panel, f'{"-".join(folder.parts[-3:])}-{i}')


def panels(folder, arms):
  """[Panel] of the runs below MODEL/ARM/SEED; none of what there is no curve of."""
  runs = {(arm, place.name): place for arm in arms
          for place in sorted((folder / arm).glob('[0-9]*'))}
  ends = tuple(sorted({over_training.end_of_noise(place) for place in runs.values()} - {0}))
  of = ' of latents' if folder.name == image_cells.TWO_STEP else ''
  scores = {run: image_runs.curve_of(place) for run, place in runs.items()
            if image_runs.scored_to_its_end(place)}
  distances = {run: over_training.distances(place) for run, place in runs.items()}
  found = [Panel(f'Clean validation log-likelihood{of}, nats', _by_arm(scores), ends, clip=True)]
  found += [Panel(which.title, _by_arm({run: own.get(which) for run, own in distances.items()}),
                  ends, which.n)
            for which in dict.fromkeys(key for own in distances.values() for key in own)]
  return [panel for panel in found if panel.curves]


def _by_arm(curves):
  """{arm: {seed: curve}} of {(arm, seed): curve}, without what is empty."""
  found = {}
  for (arm, seed), curve in curves.items():
    if curve:
      found.setdefault(arm, {})[seed] = curve
  return found


def draw(panel):
  """The matplotlib figure of a Panel: mean over seeds of each arm, one standard error around it."""
  plt = figures.pyplot()
  figure, ax = plt.subplots(figsize=(5.6, 3.6), layout='constrained')
  means = []
  for arm, own in panel.curves.items():
    steps = sorted(set.intersection(*({step for step, _ in curve} for curve in own.values())))
    values = np.array([[dict(curve)[step] for step in steps] for curve in own.values()])
    mean, error = values.mean(0), values.std(0, ddof=min(1, len(own) - 1)) / np.sqrt(len(own))
    ax.plot(steps, mean, marker='o', ms=3, color=figures.COLORS[arm], label=arm)
    ax.fill_between(steps, mean - error, mean + error, color=figures.COLORS[arm], alpha=.25, lw=0)
    means.append(mean)
  if panel.clip:
    figures.clip_below(ax, means)
  figures.mark_end_of_noise(ax, panel.ends)
  ax.set(xlabel='updates')
  ax.xaxis.set_major_locator(plt.MaxNLocator(6, integer=True))
  ax.xaxis.set_major_formatter('{x:,.0f}')
  ax.spines[['top', 'right']].set_visible(False)
  figure.suptitle(panel.title, x=.01, ha='left', fontsize=10, fontweight='bold')
  ax.set_title(panel.note, loc='left', fontsize=8)
  figure.legend(loc='outside lower center', ncols=len(means) + 1, frameon=False, fontsize=8,
                columnspacing=1.2, handlelength=1.6)
  return figure


def _svg(panel, prefix):
  """A Panel as SVG; `prefix` makes its ids its own among those of a page."""
  plt, text = figures.pyplot(), io.StringIO()
  with plt.rc_context(_STYLE):
    figure = draw(panel)
    figure.savefig(text, format='svg', transparent=True, metadata={'Date': None})
    plt.close(figure)
  svg = re.sub(r'^.*?(?=<svg)', '', text.getvalue(), flags=re.S).replace(INK, 'currentColor')
  svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{prefix}-', svg)
  return svg.replace('<svg ', f'<svg role="img" aria-label="{panel.title}" ', 1)
