"""What the commands of the experiments share: flags, one-line errors, what cannot be recorded."""
import functools
import json
import pathlib
import shutil
import sys
import time
from typing import NamedTuple

from absl import app, flags

from mollification import allocator, cli, files

FLAGS = flags.FLAGS


def define_flags(name, *, seeds=0, cells=''):
  """Those of every experiment, defined by its command alone: importers have flags of their own.

  `cells`, where there is a choice of them, says what --cells names; 0 `seeds`: there is none.
  """
  if cells:
    flags.DEFINE(_Names(), 'cells', [], f'{cells}; all by default.',
                 serializer=flags.CsvListSerializer(','))
  flags.DEFINE_string('workdir', f'runs/{name}', 'Folder of all that is written.')
  if seeds:
    flags.DEFINE_integer('seeds', seeds, 'Seeds per arm.', lower_bound=2)
  flags.DEFINE_integer('workers', 2, 'Processes at a time, each on its share of the cores.',
                       lower_bound=1)
  flags.DEFINE_bool('smoke', False, 'Small and short: does it run at all?')
  flags.DEFINE_bool('record', False, f'Copy what is found to experiments/results/{name}.')
  flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')


class _Names(flags.ListParser):
  """Names with commas between, one at least: a variable that the shell does not know has none."""

  def parse(self, argument):
    """[name]; ValueError where there is none."""
    found = super().parse(argument)
    if isinstance(argument, str) and not any(found):
      raise ValueError('names none; leave the flag out for all of them')
    return found


def chosen_cells(known):
  """The names that --cells gives, or all that are `known`; raises ValueError on another one."""
  unknown = sorted(set(FLAGS.cells) - set(known))
  if unknown:
    raise ValueError(f'no cell {unknown[0]!r}; known: {", ".join(known)}.')
  return FLAGS.cells or known


def run_grid(cells, root, results):
  """Train what is missing of grid cells; with --record copy them to `results`.

  Returns the folder whose records are to be reported.
  """
  from experiments import grid
  grid.run(cells, root, FLAGS.workers)
  if not FLAGS.record:
    return root
  grid.record(cells, results)
  record_clock(root / 'clock.json', results / 'clock.json', [cell.label for cell in cells])
  return results


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
  return [seconds for _, seconds in _outcomes(todo, root, cells.train_and_measure)]


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


def run_all(todo, root, work=None):
  """The same of cells that do not need each other, whichever fails; returns how they `Ended`.

  One that another process is at just now is left to it. `work` is done for each, None:
  `cells.train_and_measure`; where that trained all of `todo` in one go, `root` has the `clock.json`
  of the command.
  """
  from experiments import cell_records, cells
  attempt = functools.partial(cells.attempt, work or cells.train_and_measure)
  left = [cell for cell in todo if not cells.is_done(cell)]
  if len(left) < len(todo):
    print(f'{len(todo) - len(left)} of {len(todo)} runs are done already')
  start, clock = time.monotonic(), root / 'clock.json'
  if left and work is None:   # what it says is of another command
    clock.unlink(missing_ok=True)
  outcomes = list(_outcomes(left, root, attempt))
  whole = [cell for cell, found in outcomes if isinstance(found, float)]
  if work is None and whole and len(whole) == len(todo):
    timed = {cell.label: cell_records.seconds(cell.folder)['core_seconds'] for cell in whole}
    cells.write_clock(clock, timed, FLAGS.workers, time.monotonic() - start)
  failed = {cell.label: found for cell, found in outcomes if isinstance(found, cells.Failure)}
  for label, found in failed.items():
    print(f'{label} failed: {found.trace if FLAGS.debug else found.text}', file=sys.stderr)
  return Ended({label: found.text for label, found in failed.items()},
               [cell.label for cell, found in outcomes if isinstance(found, cells.Elsewhere)])


def _outcomes(todo, root, work):
  """(cell, what came back) of each, said as they come."""
  from experiments import cells
  from mollification.training import preemption
  start, done = time.monotonic(), 0
  print(f'{len(todo)} runs, {FLAGS.workers} at a time; building and compiling', flush=True)
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
      check_record()
      experiment(_folder())

  allocator.keep_freed()
  app.run(main, flags_parser=cli.parse_flags)
