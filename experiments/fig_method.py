"""Figures of the method itself: images under each mollifier, and what the schedules do.

  python -m experiments.fig_method [--workdir=DIR] [--record]

mollifiers.png shows a patch of a photograph under each mollifier along the sigmoid schedule,
schedules.png the level and the signal-to-noise ratio of `gaussian` against the share of the
mollified phase. Nothing is trained. --record puts them into experiments/results/method.
"""
import functools
import pathlib

import jax
import numpy as np

from experiments import command, figures
from mollification import data, mollifiers, schedules

RESULTS = pathlib.Path(__file__).parent / 'results' / 'method'
SIZE, STEPS = 64, 1_000
SHARES = (0., .1, .25, .5, .75, .9, 1.)
MOLLIFIERS = {
  'gaussian': mollifiers.gaussian,
  'gaussian_ve': functools.partial(mollifiers.gaussian_ve, sigma_max=128 / 255),
  'heat_blur': functools.partial(mollifiers.heat_blur, sigma_max=32.),
  'blur_noise': functools.partial(mollifiers.blur_noise, sigma_max=32.)}
SCHEDULES = {'sigmoid': schedules.sigmoid, 'linear': schedules.linear, 'cosine': schedules.cosine,
             'jetformer': schedules.jetformer, 'polynomial': schedules.polynomial}


def run(root):
  """Draw both figures."""
  folder = RESULTS if command.FLAGS.record else root
  folder.mkdir(parents=True, exist_ok=True)
  draw_mollifiers(folder / 'mollifiers.png')
  draw_schedules(folder / 'schedules.png')
  print(f'mollifiers.png and schedules.png are in {folder}')


def smoothed(image):
  """{mollifier: [T, H, W, C] in [-1, 1]} of one uint8 image, at `SHARES` of the phase."""
  level = schedules.sigmoid(STEPS)
  x = np.asarray(image[None], np.float32) / 127.5 - 1
  # One draw of noise for all, so that only the level differs along a row.
  return {name: np.concatenate([
    np.clip(mollify(x, level(share * STEPS), jax.random.key(0)), -1, 1) for share in SHARES])
          for name, mollify in MOLLIFIERS.items()}


def draw_mollifiers(path):
  """A row per mollifier, a column per share of the mollified phase; the last is level 0."""
  patches = data.load('photo_patches', size=SIZE).train.x
  shown = smoothed(patches[len(patches) // 5])
  plt, level = figures.pyplot(), schedules.sigmoid(STEPS)
  figure, axes = plt.subplots(len(shown), len(SHARES),
                              figsize=(1.5 * len(SHARES), 1.65 * len(shown)))
  for i, (row, (name, images)) in enumerate(zip(axes, shown.items())):
    for ax, image, share in zip(row, images, SHARES):
      ax.imshow((image + 1) / 2, interpolation='nearest')
      ax.set(xticks=[], yticks=[])
      ax.spines[:].set_visible(False)
      if i == 0:
        ax.set_title(f'{share:.0%} of phase\nlevel {float(level(share * STEPS)):.3g}', fontsize=8)
    row[0].set_ylabel(name)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def draw_schedules(path):
  """Level and signal-to-noise ratio (1 - level) / level of each schedule."""
  plt, steps = figures.pyplot(), np.arange(1, STEPS)
  figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.8))
  for name, make in SCHEDULES.items():
    level = np.asarray(jax.vmap(make(STEPS))(steps), np.float64)
    left.plot(steps / STEPS, level, label=name)
    right.plot(steps / STEPS, 10 * np.log10((1 - level) / level), label=name)
  left.set(xlabel='share of the mollified phase', ylabel='level')
  right.set(xlabel='share of the mollified phase', ylabel='signal to noise of gaussian (dB)')
  left.legend(frameon=False)
  for ax in (left, right):
    ax.spines[['top', 'right']].set_visible(False)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


if __name__ == '__main__':
  command.define_flags('method', workers=0)
  command.run(run)
