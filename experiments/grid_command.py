"""What the commands of grids of sweeps share: size, training, listing, recording.

--scale is the size that the page has, or smoke, which is that with --smoke. --shard=i/n takes a
part of what --cells names, for machines that share a folder; --dry_run says how far cells are, and
what they will take on --accelerator. Cells that have their records are not trained again, one that
was cut goes on, one that another process is at is left to it.
"""
import os

from absl import logging

from experiments import command, dry_run, grid

FLAGS = command.FLAGS


def define_flags(name, scale, *, seeds, cells):
  """Those of the command `name`, whose size is called `scale`; the rest as `command` has it."""
  command.define_flags(name, seeds=seeds, cells=cells)
  command.define_grid_flags((scale,), 'Size of the cells')


def run(todo, root, results):
  """Train what is missing of `grid.Cell`s; with --record copy them to `results`.

  Returns the folder whose records are to be reported; None with --dry_run, which says what the
  cells will take instead.
  """
  if FLAGS.dry_run:
    list_cells(todo, root, results)
    return None
  train(todo, root)
  return record(todo, root, results) if FLAGS.record else root


def train(todo, root):
  """Train what is missing of cells.

  Where one fails, or is left to another process, the command ends once the others are done. Raises
  ValueError where records are of another config, and FileNotFoundError where a table is missing,
  before anything is trained.
  """
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  grid.check_files([cell for cell in todo if not cell.is_done()])
  command.leave(command.run_all(todo, root, grid.train))


def record(todo, root, results):
  """Copy cells, all of them done, and the clock of their command to `results`; returns that."""
  grid.record(todo, results)
  command.record_clock(root / 'clock.json', results / 'clock.json', [cell.label for cell in todo])
  return results


def list_cells(todo, root, results):
  """Print how far cells are and what they will take, and what they took in `results`."""
  import jax
  if FLAGS.record:
    raise ValueError('--record is for whole runs; leave --dry_run out.')
  logging.set_verbosity(logging.ERROR)   # JAX tells which devices there are not
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  jax.config.update('jax_compilation_cache_dir', str(root / 'compiled'))
  kept = root if FLAGS.smoke else results   # of another size
  for line in dry_run.listing_of_sweeps(todo, command.device('core'), kept):
    print(line, flush=True)
  try:
    grid.check_files(todo)
  except FileNotFoundError as error:
    print(f'Before they can begin: {error}')
