"""What the commands of the experiments share: flags, one-line errors, what cannot be recorded."""
import functools
import json
import os
import pathlib
import shutil
import sys
import time
from typing import NamedTuple

from absl import app, flags

from experiments import accelerators, shares
from mollification import allocator, cli, files

FLAGS = flags.FLAGS


def define_flags(name, *, seeds=0, cells='', workers=2):
  """Those of every experiment, defined by its command alone: importers have flags of their own.

  `cells`, where there is a choice of them, says what --cells names; 0 `seeds`, or `workers` of a
  command that starts no other processes: there is none.
  """
  if cells:
    flags.DEFINE(_Names(), 'cells', [], f'{cells}; all by default.',
                 serializer=flags.CsvListSerializer(','))
  flags.DEFINE_string('workdir', f'runs/{name}', 'Folder of all that is written.')
  if seeds:
    flags.DEFINE_integer('seeds', seeds, 'Seeds per arm.', lower_bound=2)
  if workers:
    flags.DEFINE_integer('workers', workers, 'Processes at a time, each on its share of the cores.',
                         lower_bound=1)
  flags.DEFINE_bool('smoke', False, 'Small and short: does it run at all?')
  flags.DEFINE_bool('record', False, f'Copy what is found to experiments/results/{name}.')
  flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')


def define_grid_flags(scales, what):
  """Those of a grid besides: its size, by default the first of `scales`, and what it will take."""
  flags.DEFINE_enum('scale', scales[0], [*scales, 'smoke'],
                    f'{what}; smoke: {scales[0]} with --smoke.')
  flags.DEFINE_string('shard', '1/1', 'i/n: the i-th of n mixed shares of what --cells names.')
  flags.DEFINE_bool('dry_run', False, 'List the cells, their state, and what they will take.')
  flags.DEFINE_enum('accelerator', None, list(accelerators.ACCELERATORS),
                    "Of --dry_run; by default a100 at the paper's size of images, else a core.")
  flags.DEFINE_float('utilisation', .3, 'Share of its peak, of --dry_run.', lower_bound=1e-3,
                     upper_bound=1.)


class _Names(flags.ListParser):
  """Names with commas between, one at least: a variable that the shell does not know has none."""

  def parse(self, argument):
    """[name]; ValueError where there is none."""
    found = super().parse(argument)
    if isinstance(argument, str) and not any(found):
      raise ValueError('names none; leave the flag out for all of them')
    return list(dict.fromkeys(found))   # of one folder there is one cell


def chosen_cells(known, default=None):
  """Of the names that --cells gives, or `default`, or all that are `known`, those of --shard.

  Raises ValueError on another one, and what `shares.share` raises.
  """
  unknown = sorted(set(FLAGS.cells) - set(known))
  if unknown:
    raise ValueError(f'no cell {unknown[0]!r}; known: {", ".join(known)}.')
  # Commands that are no grid have no shares.
  return shares.share(FLAGS.cells or list(default or known), getattr(FLAGS, 'shard', '1/1'))


def device(default):
  """What --dry_run says the hours of."""
  from experiments import dry_run
  return dry_run.Device(FLAGS.accelerator or default, FLAGS.utilisation)


def record_clock(new, old, labels):
  """Copy the clock of a command, unless it is of others than `labels`, or the one there of more."""
  cells = lambda path: json.loads(path.read_text())['cells'] if path.exists() else []
  if cells(new) and set(cells(new)) <= set(labels) and len(cells(new)) >= len(cells(old)):
    old.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(old) as part:
      shutil.copy(new, part)


def run_cells(todo, root):
  """Train and measure `cells.Cell`s, what is missing of them; the seconds of each.

  None for one that was begun before. A signal ends the process, once what is under way is saved.
  """
  from experiments import cells
  return [taken and taken.seconds
          for _, taken in _outcomes(todo, root, cells.train_and_measure)]


class Ended(NamedTuple):
  """Of runs: {label: what went wrong}, and the labels of those left to other processes."""
  failed: dict
  left: list


def leave(ended):
  """End the process with a status that says so where runs failed, or are not done yet."""
  from mollification.training import preemption
  if ended.failed:
    raise SystemExit(1)
  if ended.left:   # whoever starts commands again must know
    raise SystemExit(preemption.EXIT_STATUS)


def run_all(todo, root, work=None, *, clock=True):
  """The same of cells that do not need each other, whichever fails; returns how they `Ended`.

  One that another process is at just now is left to it. `work` is done for each, None:
  `cells.train_and_measure`; with `clock`, where that did all of `todo` in one go, `root` has the
  `clock.json` of the command.
  """
  from experiments import cells
  attempt = functools.partial(cells.attempt, work or cells.train_and_measure)
  left = [cell for cell in todo if not cells.is_done(cell)]
  if len(left) < len(todo):
    print(f'{len(todo) - len(left)} of {len(todo)} cells are done already')
  start = time.monotonic()
  if left and clock:   # what it says is of another command
    (root / 'clock.json').unlink(missing_ok=True)
  outcomes = list(_outcomes(left, root, attempt))
  whole = {cell.label: found.core_seconds for cell, found in outcomes
           if isinstance(found, cells.Taken)}
  if clock and whole and len(whole) == len(todo):
    _write_clock(root / 'clock.json', whole, FLAGS.workers, time.monotonic() - start)
  failed = {cell.label: found for cell, found in outcomes if isinstance(found, cells.Failure)}
  for label, found in failed.items():
    print(f'{label} failed: {found.trace if FLAGS.debug else found.text}', file=sys.stderr)
  return Ended({label: found.text for label, found in failed.items()},
               [cell.label for cell, found in outcomes if isinstance(found, cells.Elsewhere)])


def _write_clock(path, core_seconds, workers, seconds):
  """`path`: which cells {label: seconds of the processor} one command did, and in what time."""
  with files.replacing(path) as part:
    part.write_text(json.dumps({
      'cells': sorted(core_seconds), 'workers': workers, 'seconds': round(seconds),
      'core_seconds': round(sum(core_seconds.values()))}) + '\n')


def _outcomes(todo, root, work):
  """(cell, what came back) of each, said as they come."""
  from experiments import cells
  from mollification.training import preemption
  start, done = time.monotonic(), 0
  if todo:
    print(f'{len(todo)} cells, {FLAGS.workers} at a time; building and compiling', flush=True)
  try:
    for cell, found in cells.run(todo, workers=FLAGS.workers, compiled=root / 'compiled',
                                 work=work):
      done += 1
      elapsed = time.monotonic() - start
      left = elapsed / done * (len(todo) - done)
      how = (f'failed: {found.text}' if isinstance(found, cells.Failure)
             else 'left to the process that is at it' if isinstance(found, cells.Elsewhere)
             else 'done')
      _print(f'[{done}/{len(todo)}, {elapsed:.0f} s, {left:.0f} s left in all] {cell.label}: {how}')
      yield cell, found
  except cells.Stopped:
    print('stopped and saved; the same command goes on from here')
    raise SystemExit(preemption.EXIT_STATUS) from None


def _print(text):
  """Print a line, without the rest of a progress line of the runs under way before it."""
  print(('\r\x1b[K' if sys.stdout.isatty() else '') + text, flush=True)


def on_cores():
  """Have this process and its workers run on the CPU's cores, unless JAX_PLATFORMS is set.

  Before a device is used.
  """
  if 'JAX_PLATFORMS' not in os.environ:
    os.environ['JAX_PLATFORMS'] = 'cpu'   # workers take it over
    if 'jax' in sys.modules:   # it has looked already
      sys.modules['jax'].config.update('jax_platforms', 'cpu')


def settle_scale():
  """--scale=smoke is the usual size of a command with --smoke."""
  if getattr(FLAGS, 'scale', None) == 'smoke':
    FLAGS.scale, FLAGS.smoke = FLAGS['scale'].default, True


def check_record():
  """Raise ValueError where what is no result would be recorded."""
  if FLAGS.record and FLAGS.smoke:
    raise ValueError('--record is for whole runs; leave --smoke out.')


def _folder():
  # (Commands of images have one within theirs, which is shared with --scale=smoke.)
  apart = (FLAGS.smoke and not FLAGS['workdir'].present and FLAGS.workdir != 'runs/images')
  return pathlib.Path(FLAGS.workdir + '_smoke' * apart).expanduser()


def run(experiment):
  """Parse the flags and call `experiment(workdir)`.

  --smoke has a folder of its own where --workdir is not given: its runs are of other configs, which
  would be refused in the folder of whole ones, and those in its.
  """

  def main(argv):
    del argv
    with cli.one_line_errors(FLAGS.debug):
      settle_scale()
      check_record()
      experiment(_folder())

  allocator.keep_freed()
  app.run(main, flags_parser=cli.parse_flags)
