"""What the commands of grids of sweeps share: size, training, listing, recording.

--scale is the size that the page has, or smoke, which is that with --smoke. --shard=i/n takes a
part of what --cells names, for machines that share a folder; --dry_run says how far cells are, and
what they will take on --accelerator. Cells that have their records are not trained again, one that
was cut goes on, one that another process is at is left to it.
"""
from absl import logging

from experiments import cells, command, grid

FLAGS = command.FLAGS


def define_flags(name, scale, *, seeds, cells):
  """Those of the command `name`, whose size is called `scale`; the rest as `command` has it."""
  command.define_flags(name, seeds=seeds, cells=cells)
  command.define_grid_flags((scale,), 'Size of the cells')


def run(todo, root, results):
  """Train what is missing of `grid.Cell`s; with --record copy those that are done to `results`.

  Returns the folder whose records are to be reported; None with --dry_run, which says what the
  cells will take instead. Ends the process where one fails, or is left to another process.
  """
  if FLAGS.dry_run:
    list_cells(todo, root, results)
    return None
  ended = train(todo, root)
  if FLAGS.record:
    record(todo, root, results)
  command.leave(ended)
  return results if FLAGS.record else root


def train(todo, root):
  """Train what is missing of cells, whichever fails; returns how they `command.Ended`.

  Raises ValueError where records are of another config, and FileNotFoundError where a table is
  missing, before anything is trained.
  """
  command.on_cores()
  grid.check_files([cell for cell in todo if not cell.is_done()])
  return command.run_all(todo, root, grid.train)


def record(todo, root, results):
  """Copy those of the cells that are done to `results`, and the clock of their command."""
  done = [cell for cell in todo if cells.is_done(cell)]
  grid.record(done, results)
  command.record_clock(root / 'clock.json', results / 'clock.json', [cell.label for cell in done])


def list_cells(todo, root, results):
  """Print how far cells are and what they will take, and what they took in `results`."""
  from experiments import dry_run  # jax, which workers import when they have their cores
  if FLAGS.record:
    raise ValueError('--record is for whole runs; leave --dry_run out.')
  logging.set_verbosity(logging.ERROR)   # JAX tells which devices there are not
  command.on_cores()
  kept = root if FLAGS.smoke else results   # of another size
  for line in dry_run.listing_of_sweeps(todo, command.device('core'), kept):
    print(line, flush=True)
  try:
    grid.check_files(todo)
  except FileNotFoundError as error:
    print(f'Before they can begin: {error}')
