"""Figure: distance to real images over training, arm by arm, of the runs of the tables.

  python -m experiments.fig_fid_over_training --scale=cpu|paper [--cells=...] [--shard=1/4]
    [--workdir=DIR] [--data_dir=DIR] [--dry_run] [--record]

Measures what trained runs of the first seed keep of their training (`experiments.looks`), where it
is not measured yet, then draws a panel per model: FID (paper), or the Fréchet distance in the data
set's own features (cpu). Nothing is trained. --record adds what was measured to the committed
records, and draws those, into experiments/results/images.
"""
import pathlib

from experiments import (
  cells,
  command,
  figures,
  image_cells,
  image_command,
  looks,
  names,
  over_training,
)

FLAGS = command.FLAGS
COLUMNS = 4   # of panels


def run(root):
  """Measure what is missing, draw a figure per data set that has records."""
  runs = image_command.settle(root)
  todo = looks.of_scale(FLAGS.scale, runs, data_dir=FLAGS.data_dir, smoke=FLAGS.smoke)
  if not todo:
    print(f'At --scale={FLAGS.scale} looks are in features of a network that --smoke leaves out: '
          'there is nothing to look at.')
    return
  chosen = image_cells.chosen([own.label for own in todo], FLAGS.cells, FLAGS.shard)
  todo = [own for own in todo if own.label in chosen]
  if FLAGS.dry_run:
    image_command.print_listing(looks.listing, todo)
    return
  ended = _measure(todo, runs)
  folder = image_command.drawn_from(root)
  drawn = [draw(folder / dataset, folder / f'{dataset}-over_training.png')
           for dataset, grid in image_cells.TABLES['table1'][FLAGS.scale].items()
           if grid.over_training]
  image_command.print_drawn(drawn, folder, root)
  command.leave(ended)


def _measure(todo, root):
  """Look at those of `todo` [Look] that are trained, say of the others why not.

  Returns their `command.Ended`.
  """
  trained = [own for own in todo if own.is_trained()]
  for own in todo:
    if own not in trained and own.label in FLAGS.cells:
      print(f'{own.label} is not looked at: {own.state()}')
  if len(trained) < len(todo):
    print(f'{len(trained)} of {len(todo)} runs are trained and can be looked at')
  left = [own for own in trained if not cells.is_done(own)]
  image_command.find_networks(left)
  ended = command.run_all(left, root, looks.look, clock=False) if left else command.Ended({}, [])
  for own in trained if FLAGS.record else ():
    if cells.is_done(own) and cells.is_done(own.cell):
      image_command.record(own.cell, image_command.RESULTS / own.cell.folder.relative_to(root))
    else:
      print(f'{own.label} is not recorded: {cells.state(own.cell)}, {own.state()}')
  return ended


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
    _panel(ax, arms, [over_training.end_of_noise(folder / model / arm / image_cells.WATCHED)
                      for arm in arms])
    ax.set(title=names.model(model))
  figure.suptitle(f'{names.DATASETS[folder.name]}: {distance.title} (log scale)\n'
                  f'seed {image_cells.WATCHED}, n = {distance.n:,} samples', fontsize=11)
  handles = {label: handle for ax in axes.flat
             for handle, label in zip(*ax.get_legend_handles_labels())}
  order = sorted(handles, key=lambda label: label not in image_cells.ARMS)   # the mark comes last
  figure.legend([handles[label] for label in order], order, loc='outside lower center',
                ncols=len(order), frameon=False)
  figures.save(figure, path, dpi=110)   # whole: shards may draw it at a time
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
  found = {model.name: {arm: over_training.distances(model / arm / image_cells.WATCHED)
                        for arm in image_cells.ARMS}
           for model in sorted(folder.glob('*')) if model.is_dir()}
  known = {key for arms in found.values() for curves in arms.values() for key in curves}
  if not known:
    return None, {}
  wanted = min(known, key=lambda key: (not key.own, key))
  curves = {model: {arm: own[wanted] for arm, own in arms.items() if wanted in own}
            for model, arms in found.items()}
  return wanted, {model: arms for model, arms in curves.items() if arms}


def sentence(folder):
  """In how many looks mollified runs were nearer to the data than vanilla training by then."""
  looks = [(step >= over_training.end_of_noise(folder / model / arm / image_cells.WATCHED),
            value < dict(arms['vanilla'])[step])
           for model, arms in of_dataset(folder)[1].items() if 'vanilla' in arms
           for arm, curve in arms.items() if arm != 'vanilla'
           for step, value in curve if step in dict(arms['vanilla'])]
  noisy, clean = ([nearer for after, nearer in looks if after == which] for which in (False, True))
  return ('While the level is above 0, mollified runs are nearer to the data than vanilla training '
          f'after as many updates in {sum(noisy)} of {len(noisy)} looks, and once it is 0 in '
          f'{sum(clean)} of {len(clean)}.')


if __name__ == '__main__':
  image_command.define_flags_of_runs(('cpu', 'paper'), 'Size of the tables')
  command.run(run)
