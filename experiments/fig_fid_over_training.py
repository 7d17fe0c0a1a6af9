"""Figure: distance to real images over training, arm by arm, of the runs of Table 1.

  python -m experiments.fig_fid_over_training --scale=cpu|paper [--workdir=DIR] [--record]

A panel per model of what `experiments.table1` measured of the kept checkpoints of the first seed:
FID (paper), or the Fréchet distance in the data set's own features (cpu). Nothing is trained.
--record draws the committed records, into experiments/results/images.
"""
import pathlib

from experiments import command, figures, image_cells, image_command, over_training

FLAGS = command.FLAGS
COLUMNS = 4   # of panels
SEED = '0'    # the one that is measured over training


def run(root):
  """Draw a figure per data set that has records."""
  folder = image_command.drawn_from(root)
  drawn = [draw(folder / dataset, folder / f'{dataset}-over_training.png')
           for dataset, grid in image_cells.TABLES['table1'][FLAGS.scale].items()
           if grid.over_training]
  image_command.print_drawn(drawn, folder, root)


def draw(folder, path):
  """The PNG `path` of the runs below MODEL/ARM/SEED; None where there are none."""
  folder = pathlib.Path(folder)
  distance, curves = of_dataset(folder)
  if not curves:
    return None
  plt, columns = figures.pyplot(), min(len(curves), COLUMNS)
  rows = -(-len(curves) // columns)
  figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.9 * rows + .9),
                              squeeze=False, layout='constrained')
  for ax in axes.flat[len(curves):]:
    ax.set_axis_off()
  for ax, (model, arms) in zip(axes.flat, curves.items()):
    _panel(ax, arms, [over_training.end_of_noise(folder / model / arm / SEED) for arm in arms])
    ax.set(title=model)
  figure.suptitle(f'{folder.name}: {distance.title} (log scale)\n'
                  f'seed {SEED}, n = {distance.n:,} samples', fontsize=11)
  handles = {label: handle for ax in axes.flat
             for handle, label in zip(*ax.get_legend_handles_labels())}
  figure.legend(handles.values(), handles, loc='outside lower center', ncols=len(handles),
                frameon=False)
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def _panel(ax, arms, ends):
  """Curves {arm: [(update, distance)]} on a logarithmic axis, and where the noise `ends`."""
  for arm, curve in arms.items():
    ax.plot(*zip(*curve), marker='o', ms=3, color=figures.COLORS[arm], label=arm)
  figures.mark_end_of_noise(ax, ends)
  ax.set(xlabel='updates', yscale='log')
  ax.xaxis.set_major_locator(figures.pyplot().MaxNLocator(4, integer=True))
  ax.xaxis.set_major_formatter('{x:,.0f}')
  figures.log_ticks(ax)
  ax.spines[['top', 'right']].set_visible(False)


def of_dataset(folder):
  """(Distance, {model: {arm: [(update, value)]}}) of the first seed; (None, {}) of nothing.

  One distance for all panels: that of the data set's own features, where there is one.
  """
  found = {model.name: {arm: over_training.distances(model / arm / SEED)
                        for arm in image_cells.ARMS}
           for model in sorted(folder.glob('*')) if model.is_dir()}
  known = {key for arms in found.values() for curves in arms.values() for key in curves}
  if not known:
    return None, {}
  wanted = min(known, key=lambda key: (not key.own, key))
  curves = {model: {arm: own[wanted] for arm, own in arms.items() if wanted in own}
            for model, arms in found.items()}
  return wanted, {model: arms for model, arms in curves.items() if arms}


if __name__ == '__main__':
  image_command.define_figure_flags()
  command.run(run)
