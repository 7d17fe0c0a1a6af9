"""Curves of recorded runs as SVG that takes the colours of the text around it."""
import io
import re

import numpy as np

from experiments import figures, image_findings

INK = '#010203'   # stands for the colour of the text


def of_model(folder, arms):
  """SVGs of the runs below MODEL/ARM/SEED: likelihood, and distance, over updates."""
  for curves, label, clip in (
      (_likelihood, 'clean validation log-likelihood (nats)', True),
      (_distance, 'Fréchet distance', False)):
    found = {arm: list(curves(folder / arm)) for arm in arms}
    found = {arm: own for arm, own in found.items() if own}
    if found:
      yield _chart(found, label, clip)


def _likelihood(folder):
  for path in sorted(folder.glob('*/curve.jsonl')):
    yield image_findings.curve_of(path.parent)


def _distance(folder):
  """Of the seeds that were measured over training."""
  for place in sorted(folder.glob('*/records')):
    curve = image_findings.distances_of(place.parent)
    if len(curve) > 1:
      yield curve


def _chart(curves, label, clip):
  """Mean over seeds of each arm with a band of one standard error. curves: {arm: [[(x, y)]]}."""
  plt = figures.pyplot()
  with plt.rc_context({'svg.fonttype': 'none', 'font.family': 'sans-serif', 'text.color': INK,
                       'axes.labelcolor': INK, 'axes.edgecolor': INK, 'xtick.color': INK,
                       'ytick.color': INK, 'svg.hashsalt': 'mollification'}):
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    means = []
    for arm, own in curves.items():
      steps = [step for step, _ in own[0]]
      own = np.array([[y for _, y in curve] for curve in own if len(curve) == len(steps)])
      mean, error = own.mean(0), own.std(0, ddof=min(1, len(own) - 1)) / np.sqrt(len(own))
      ax.plot(steps, mean, marker='o', ms=3, color=figures.COLORS[arm], label=arm)
      ax.fill_between(steps, mean - error, mean + error, color=figures.COLORS[arm], alpha=.25, lw=0)
      means.append(mean)
    if clip:
      figures.clip_below(ax, means)
    ax.set(xlabel='updates', ylabel=label)
    ax.legend(frameon=False)
    ax.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format='svg', transparent=True, metadata={'Date': None})
    plt.close(figure)
  svg = text.getvalue()
  return re.sub(r'^.*?(?=<svg)', '', svg, flags=re.S).replace(INK, 'currentColor')
