"""What the commands of the tables of images share: which runs, training, listing, recording.

--scale=paper is a table as published, for accelerators: full size, FID (Inception weights are
looked for before anything is trained, data before a run is). --scale=cpu is the same narrower and
shorter, four to twelve minutes of a core; --scale=digits seconds to minutes; --scale=smoke a few
updates of the command's own size, to see whether it runs at all. Runs live in runs/images, belong
to every table that names them, and are not trained again once they are finished, so that machines
that share a folder may each take a --shard. --dry_run lists the runs, how far each is, and what it
will take on --accelerator; --record copies the records, or of a dry run those estimates, to
experiments/results/images.
"""
import json
import pathlib
import shutil

from absl import flags, logging

from experiments import cell_records, cells, command, dry_run, image_cells

FLAGS = command.FLAGS
RESULTS = pathlib.Path(__file__).parent / 'results' / 'images'


def define_flags(table, scale):
  """Those of the command of one of `image_cells.TABLES`, `scale` the size by default."""
  others = [other for other in image_cells.TABLES[table] if other != scale]
  define_flags_of_runs([scale, *others], 'Size of the table')
  flags.DEFINE_integer('seeds', 0, 'Seeds an arm; 0: as many as the table has.', lower_bound=0)


def define_flags_of_runs(scales, what):
  """Those of every command that does something to runs of one of `scales`, the first by default."""
  command.define_flags('images', cells='Runs, or DATASET[/MODEL[/ARM]] of several')
  command.define_grid_flags(scales, what)
  flags.DEFINE_string('data_dir', '', 'Folder of the data sets of TFDS.')


def settle(root):
  """The folder of the runs, --smoke apart from the others; decides what the workers run on.

  At the paper's scale one process drives all devices of a host: a second one would find their
  memory taken. Smaller runs are several on the cores of a CPU, unless JAX_PLATFORMS says otherwise.
  """
  logging.set_verbosity(logging.ERROR)   # checkpoints that are opened tell much
  if FLAGS.scale != 'paper':
    command.on_cores()
  elif not FLAGS['workers'].present:
    FLAGS.workers = 1
  return _apart(root)


def _apart(root):
  """The folder of the runs; those of --smoke have one of their own."""
  return root / 'smoke' if FLAGS.smoke else root


def drawn_from(root):
  """The folder of the runs that a figure is of: the committed records, or those of --smoke."""
  return (RESULTS if FLAGS.record else _apart(root)) / FLAGS.scale


def print_drawn(drawn, folder, root):
  """Print the paths of figures, None where there was nothing to draw.

  Raises FileNotFoundError, which names the command that makes the runs, where that is all.
  """
  if not any(drawn):
    raise FileNotFoundError(
      f'{folder} has no run with several measured checkpoints; '
      f'python -m experiments.table1 --scale={FLAGS.scale} --workdir={root} makes runs, and '
      'experiments.fig_fid_over_training with the same flags measures what they keep.')
  print('\n'.join(str(path) for path in drawn if path))


def run(table, root):
  """Train what is missing, measure, print the table; or say what that would take."""
  root = settle(root)
  names = image_cells.chosen(image_cells.names(table, FLAGS.scale, FLAGS.seeds), FLAGS.cells,
                             FLAGS.shard)
  todo = [image_cells.cell(table, FLAGS.scale, name, root, data_dir=FLAGS.data_dir,
                           smoke=FLAGS.smoke) for name in names]
  if FLAGS.dry_run:
    list_runs(todo, root)
    return
  check_recorded(todo, root)
  find_networks([cell for cell in todo if not cells.is_done(cell)])
  ended = command.run_all(todo, root)
  for cell in todo if FLAGS.record else ():
    if cells.is_done(cell):
      record(cell, RESULTS / cell.folder.relative_to(root))
  if FLAGS.record:
    command.record_clock(root / 'clock.json', RESULTS / FLAGS.scale / 'clock.json',
                         [cell.label for cell in todo])
  from experiments import image_table
  source = RESULTS if FLAGS.record else root
  print(image_table.text(source, table, FLAGS.scale))
  if found := image_table.rows_of(source, table, FLAGS.scale):
    image_table.write_csv(source / FLAGS.scale / f'{table}.csv', found)
  command.leave(ended)


def list_runs(todo, root):
  """Print how far runs are and what they will take; with --record keep the latter."""
  import jax
  jax.config.update('jax_compilation_cache_dir', str(root / 'compiled'))   # that of the runs
  print_listing(dry_run.listing, todo)
  try:
    find_networks(todo)
  except FileNotFoundError as error:
    print(f'Before they can begin: {error}')


def print_listing(listing, todo):
  """Print what `listing(todo, device, programs)` says of a dry run; with --record keep programs."""
  device, programs = command.device('a100' if FLAGS.scale == 'paper' else 'core'), {}
  for line in listing(todo, device, programs):
    print(line, flush=True)
  if FLAGS.record:
    dry_run.write(estimates(FLAGS.scale), device, programs)


def check_recorded(todo, root):
  """With --record, raise ValueError where one of `todo` could not be recorded once it is done.

  That is where a run of another config is recorded, or one that was looked at over its training as
  this one is not yet. Before hours are spent on it.
  """
  for cell in todo if FLAGS.record else ():
    place = RESULTS / cell.folder.relative_to(root)
    cell_records.check_recorded(place, cell.claimed())
    lacks = cell_records.looks_beside(cell.folder, place)
    if lacks:
      raise ValueError(
        f'{place} has {len(lacks)} records of earlier updates that {cell.folder} lacks, like '
        f'{lacks[0]}, and that would be lost. Leave --record out, give '
        'experiments.fig_fid_over_training the same flags once the run is done, which measures '
        'and records them, and then this command with --record; or move them away.')


def find_networks(todo):
  """Raise FileNotFoundError, once for all runs, where the weights of a network are not there."""
  for network in {own.network: own for cell in todo for own in cell.networks}.values():
    network.extractor()


def estimates(scale):
  """The path of the record of what the runs of a scale will take."""
  return RESULTS / scale / 'estimates.json'


def record(cell, place):
  """Copy what a page shows of a run: records, config, seconds, its curve, pictures of one seed.

  Raises ValueError where a run of another config is recorded in `place`.
  """
  with cell_records.replacing(cell.folder, place) as part:
    write_curve(cell.folder, part / 'curve.jsonl')
    if str(cell.config.seed) == image_cells.WATCHED:
      _copy_pictures(cell.folder, part / 'samples')


def _copy_pictures(folder, place):
  """Grids of samples, and those of them that are nearest to training images."""
  from experiments import nearest
  if folder.parts[-3] in nearest.MODELS:
    nearest.draw(folder)
  for path in sorted((folder / 'samples').glob('*.png')):
    if path.name.startswith(('measured-', 'nearest-')):
      place.mkdir(exist_ok=True)
      shutil.copy(path, place)


def write_curve(folder, path):
  """The rows of a run's evaluations, without what the machine was doing."""
  from mollification import metrics
  rows = [row for row in metrics.read_rows(folder / 'metrics.jsonl')
          if any(name.startswith('valid/') for name in row)]
  of_run = lambda row: {name: value for name, value in row.items()
                        if name.split('/')[0] in ('step', 'train', 'valid')}
  path.write_text(''.join(json.dumps(of_run(row)) + '\n' for row in rows))
