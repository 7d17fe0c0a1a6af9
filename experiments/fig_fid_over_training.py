"""Figure: distance to real images over training, arm by arm, of the runs of Table 1.

  python -m experiments.fig_fid_over_training --scale=cpu|paper [--workdir=DIR] [--record]

A panel per model of what `experiments.table1` measured of the kept checkpoints: FID (paper), or the
Fréchet distance in the data set's own features (cpu). Nothing is trained. --record draws the
committed records, into experiments/results/images.
"""
import pathlib

from experiments import command, figures, image_cells, image_command, image_runs

FLAGS = command.FLAGS
COLUMNS = 4   # of panels


def run(root):
  """Draw a figure per data set that has records."""
  folder = image_command.drawn_from(root)
  drawn = [draw(folder / dataset, folder / f'{dataset}-over_training.png')
           for dataset, grid in image_cells.TABLES['table1'][FLAGS.scale].items()
           if grid.over_training]
  image_command.print_drawn(drawn, folder, root)


def draw(folder, path):
  """The PNG `path` of the runs below MODEL/ARM/SEED; None where there are none."""
  curves = {model.name: found for model in sorted(pathlib.Path(folder).glob('*'))
            if (found := of_model(model))}
  if not curves:
    return None
  plt, columns = figures.pyplot(), min(len(curves), COLUMNS)
  rows = -(-len(curves) // columns)
  figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3 * rows), squeeze=False)
  for ax in axes.flat[len(curves):]:
    ax.set_axis_off()
  for ax, (model, arms) in zip(axes.flat, curves.items()):
    for arm, curve in arms.items():
      ax.plot(*zip(*curve), marker='o', ms=3, color=figures.COLORS[arm], label=arm)
    ax.set(title=model, xlabel='updates', ylabel='distance (log scale)', yscale='log')
    ax.yaxis.set_major_formatter('{x:g}')
    ax.yaxis.set_minor_formatter('{x:g}')
    ax.legend(frameon=False)
    ax.spines[['top', 'right']].set_visible(False)
  figure.tight_layout()
  figure.savefig(path, dpi=110)
  plt.close(figure)
  return path


def of_model(folder):
  """{arm: [(update, distance)]} of the first seed."""
  found = {arm: image_runs.distances_of(folder / arm / '0') for arm in image_cells.ARMS}
  return {arm: curve for arm, curve in found.items() if len(curve) > 1}


if __name__ == '__main__':
  image_command.define_figure_flags()
  command.run(run)
