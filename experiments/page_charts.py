"""Curves of recorded runs as SVG that takes the colours of the text around it."""
import io
import re

import numpy as np

from experiments import figures, image_runs

INK = '#010203'   # stands for the colour of the text
TWO_STEP = 'two_step'   # model whose likelihood is that of an autoencoder's latents


def of_model(folder, arms):
  """SVGs of the runs below MODEL/ARM/SEED: likelihood, and distance, over updates."""
  of = ' of latents' if folder.name == TWO_STEP else ''
  for curves, label, clip in (
      (_likelihood, f'clean validation log-likelihood{of} (nats)', True),
      (_distance, 'Fréchet distance (FID in Inception features)', False)):
    found = {arm: [curve for curve in curves(folder / arm) if curve] for arm in arms}
    found = {arm: own for arm, own in found.items() if own}
    if found:
      yield _chart(found, label, clip)


def _likelihood(folder):
  for path in sorted(folder.glob('*/curve.jsonl')):
    yield image_runs.curve_of(path.parent)


def _distance(folder):
  """Of the seeds that were measured over training."""
  for place in sorted(folder.glob('*/records')):
    curve = image_runs.distances_of(place.parent)
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
      steps = sorted(set.intersection(*({step for step, _ in curve} for curve in own)))
      own = np.array([[dict(curve)[step] for step in steps] for curve in own])
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
