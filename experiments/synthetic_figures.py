"""Figures of `experiments.synthetic`, from what its runs recorded."""
import pathlib

import numpy as np

from experiments import figures, grid, plane

ARMS = ('vanilla', 'mollified')
LOW = 6e4   # fields and arrows are kept as float16, which ends there
CURVES = {'test': 'test log-likelihood (nats)', 'score_error_low': 'relative error of the score\n'
          'where data are rare', 'share_far': 'share of samples\nwhere data are rare'}


def _observed(folder):
  """{arm: {name: [P, ...]}} of seed 0."""
  found = {}
  for arm in ARMS:
    with np.load(pathlib.Path(folder) / arm / '0' / 'observed.npz', allow_pickle=False) as archive:
      found[arm] = {name: archive[name].astype(np.float32) for name in archive.files}
  return found


def panels(name, folder, path, count=5):
  """Log-density and score at `count` times of training, one row per arm, and the exact ones."""
  plt, observed = figures.pyplot(), _observed(folder)
  total = len(observed['vanilla']['field'])
  times = np.linspace(0, total - 1, min(count, total)).round().astype(int)
  figure, axes = plt.subplots(2, len(times) + 1, figsize=(2.3 * (len(times) + 1), 5.6),
                              squeeze=False)
  updates = _updates_between(folder)
  for row, arm in zip(axes, ARMS):
    for ax, i in zip(row, times):
      _draw(ax, observed[arm]['field'][i], observed[arm]['arrows'][i])
      ax.set_title(f'{arm}, {(i + 1) * updates:,}', fontsize=9)
  _draw(axes[0, -1], *_exact(name))
  axes[0, -1].set_title('exact', fontsize=9)
  samples = observed['mollified']['samples'][-1]
  axes[1, -1].scatter(*samples.T, s=.5, color=figures.COLORS['mollified'])
  axes[1, -1].set(xlim=(-plane.SIDE, plane.SIDE), ylim=(-plane.SIDE, plane.SIDE), xticks=[],
                  yticks=[], aspect='equal')
  axes[1, -1].set_title('mollified, samples', fontsize=9)
  figure.suptitle(f'{name}: log-density (5 nats from black to white) and score, by updates')
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def animate(name, folder, path):
  """Both arms side by side, a frame per evaluation."""
  from PIL import Image
  plt, observed, frames = figures.pyplot(), _observed(folder), []
  updates = _updates_between(folder)
  for i in range(len(observed['vanilla']['field'])):
    figure, axes = plt.subplots(1, 2, figsize=(5., 2.8))
    for ax, arm in zip(axes, ARMS):
      _draw(ax, observed[arm]['field'][i], observed[arm]['arrows'][i])
      ax.set_title(f'{arm}, {(i + 1) * updates:,} updates', fontsize=9)
    figure.tight_layout()
    figure.canvas.draw()
    frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert('P'))
    plt.close(figure)
  frames[0].save(path, save_all=True, append_images=frames[1:], duration=300, loop=0)


def curves(root, names, path):
  """Median over seeds, with the band from lowest to highest, of `CURVES` over training."""
  plt = figures.pyplot()
  found = {name: grid.read(pathlib.Path(root) / name) for name in names}
  found = {name: runs for name, runs in found.items() if runs}
  figure, axes = plt.subplots(len(CURVES), len(found), squeeze=False,
                              figsize=(3.6 * len(found), 2.5 * len(CURVES)))
  for column, (name, runs) in zip(axes.T, found.items()):
    for ax, metric in zip(column, CURVES):
      _curve(ax, runs, metric)
    column[0].set_title(name)
    column[-1].set_xlabel('updates')
  for ax, label in zip(axes[:, 0], CURVES.values()):
    ax.set_ylabel(label)
  figure.tight_layout()
  figures.save(figure, path, dpi=110)


def _curve(ax, runs, metric):
  drawn = False
  for arm in ARMS:
    records = [r['last'].extra['curves'] for (name, _), r in sorted(runs.items()) if name == arm]
    lines = np.array([r[metric] for r in records if metric in r])
    if not lines.size:
      continue
    drawn, steps = True, records[0]['updates_between'] * np.arange(1, lines.shape[1] + 1)
    ax.plot(steps, np.median(lines, 0), color=figures.COLORS[arm], label=arm)
    ax.fill_between(steps, lines.min(0), lines.max(0), color=figures.COLORS[arm], alpha=.25, lw=0)
    if metric == 'test':   # not down to the first updates
      ax.set_ylim(max(ax.get_ylim()[0], np.median(lines, 0).max() - 2.5))
  if not drawn:
    ax.set_axis_off()
    ax.text(.5, .5, 'not defined', ha='center', transform=ax.transAxes)
  elif metric != 'test':
    ax.set_yscale('log')
  ax.legend(frameon=False, fontsize=8) if drawn else None


def _updates_between(folder):
  runs = grid.read(folder)
  return next(iter(runs.values()))['last'].extra['curves']['updates_between']


def _exact(name):
  law = plane.density(name)
  if law.score is None:
    return None, None
  return law.log_prob(plane.lattice(plane.FIELD)), law.score(plane.lattice(plane.ARROWS))


def _draw(ax, field, arrows):
  side = plane.SIDE
  ax.set(xticks=[], yticks=[], aspect='equal', xlim=(-side, side), ylim=(-side, side))
  if field is None:
    points = plane.points('von_mises_circle')[0]
    ax.scatter(*points.T, s=.5, color='k')
    return
  # What is infinite would be drawn in no colour, which is white: the highest.
  field = np.nan_to_num(field.astype(np.float32), nan=-LOW, neginf=-LOW, posinf=LOW).reshape(
    plane.FIELD, plane.FIELD)
  ax.imshow(field, extent=(-side, side, -side, side), origin='lower', cmap='gray',
            vmin=field.max() - 5, vmax=field.max())
  at = plane.lattice(plane.ARROWS)
  arrows = np.clip(arrows, -LOW, LOW)
  length = np.linalg.norm(arrows, axis=-1, keepdims=True)
  arrows = arrows / np.maximum(length, 1e-9) * np.log1p(length)   # lengths span decades
  ax.quiver(*at.T, *arrows.T, color=figures.COLORS['mollified'], width=.005)
