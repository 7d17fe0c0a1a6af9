"""Figure: samples over training, a row per arm, from the same keys throughout.

  python -m experiments.fig_intermediate_samples --scale=cpu|paper [--workdir=DIR] [--record]

A picture per model of Table 1, of the first seed, of the checkpoints that
`experiments.fig_fid_over_training` has measured, which draws their samples. Nothing is trained.
--record shows the committed samples, and puts the pictures into experiments/results/images.
"""
import pathlib
import re

from absl import flags

from experiments import command, figures, image_cells, image_command, names, over_training

FLAGS = command.FLAGS
SHOWN = 4   # samples in a row and a column, of each checkpoint


def run(root):
  """Draw a picture per data set and model that has samples of more than one checkpoint."""
  folder = image_command.drawn_from(root)
  drawn = [draw(model, folder / f'{model.parent.name}-{model.name}-samples.png')
           for dataset in image_cells.TABLES['table1'][FLAGS.scale]
           for model in sorted((folder / dataset).glob('*')) if model.is_dir()]
  image_command.print_drawn(drawn, folder, root)


def draw(folder, path):
  """The PNG `path` of the arms below MODEL; None where there are no two checkpoints."""
  folder = pathlib.Path(folder)
  found = {arm: pictures(folder / arm / image_cells.WATCHED / 'samples')
           for arm in image_cells.ARMS}
  found = {arm: own for arm, own in found.items() if len(own) > 1}
  if not found:
    return None
  plt, columns = figures.pyplot(), max(map(len, found.values()))
  figure, axes = plt.subplots(len(found), columns, figsize=(1.9 * columns, 2.1 * len(found) + .4),
                              squeeze=False, layout='constrained')
  for row, (arm, own) in zip(axes, found.items()):
    end = over_training.end_of_noise(folder / arm / image_cells.WATCHED)
    for ax, (step, file) in zip(row, own.items()):
      image = plt.imread(file)
      side = image.shape[0] * SHOWN // 8   # of the 8 x 8 that a grid has
      ax.imshow(image[:side, :side], cmap='gray', vmin=0, vmax=1, interpolation='nearest')
      ax.set_title(f'{step:,} updates' + (', level > 0' if step < end else ''), fontsize=8)
      ax.set(xticks=[], yticks=[])
      ax.spines[:].set_visible(False)
    row[0].set_ylabel(arm)
  title = f'{names.DATASETS[folder.parent.name]}, {names.model(folder.name)}'
  figure.suptitle(f'{title}: seed {image_cells.WATCHED}, from the same keys throughout',
                  fontsize=10)
  figures.save(figure, path, dpi=110)
  return path


def pictures(folder):
  """{update: file} of the grids of measured checkpoints."""
  return {int(re.search(r'-(\d+)\.png$', path.name)[1]): path
          for path in sorted(pathlib.Path(folder).glob('measured-*.png'))}


if __name__ == '__main__':
  command.define_flags('images', workers=0)
  flags.DEFINE_enum('scale', 'cpu', ('cpu', 'paper'), 'Size of the tables.')
  command.run(run)
