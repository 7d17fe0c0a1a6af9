"""The training binary.

  python -m mollification.main --config=configs/NAME.py[:key=value,...] --workdir=DIR \
      [--config.key=value ...] [--distributed=auto] [--deterministic]

The same command again resumes. Exit status: 0 finished, 75 pre-empted (what is new is saved; run it
again), 2 a mistake in the command or its data, 3 diverged, after a second signal 128 + its number,
or the signal itself, 1 anything else, with a traceback, but for what the machine lacks before
training begins.
"""
import atexit
import contextlib
import functools
import os
import signal
import sys
import time
import traceback

try:
  from absl import app, flags, logging
  from ml_collections import config_flags

  from mollification import allocator, cli, deterministic, notices, processes
  from mollification.training import preemption
except ModuleNotFoundError as error:
  raise SystemExit(f"error: {error.name} is not installed; "
                   "pip install 'mollification[train]'.") from None

EXIT_DIVERGED = 3

_CONFIG = config_flags.DEFINE_config_file('config', None, 'File of the run: configs/NAME.py.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; holds all that it writes.')
_SMOKE = flags.DEFINE_bool('smoke', False, 'A few updates and samples only: does it run at all?')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')
flags.mark_flags_as_required(['config', 'workdir'])


def run():
  """The binary. Signals are heard from before its flags are read.

  The file of a config imports jax and flax, which takes seconds and from a cold disk a minute.
  """
  allocator.keep_freed()
  atexit.register(notices.let_go)
  with preemption.Preemption() as stop:
    app.run(functools.partial(main, stop=stop), flags_parser=cli.parse_flags)


def main(argv, stop):
  """Build the run, train it in its workdir until `stop` asks to leave, say how it ended."""
  if len(argv) > 1:
    cli.fail(f'unexpected argument {argv[1]!r}; flags read --name=value.')
  logging.set_verbosity(logging.ERROR)   # TFDS and Orbax log much that is no trouble
  _train(cli.config_of(_CONFIG), _WORKDIR.value, stop)


def _train(config, folder, stop):
  # Heavy imports come after the flags: --help and a misspelt key answer at once.
  with contextlib.ExitStack() as stack:
    stack.enter_context(processes.not_waited_for())
    with cli.one_line_errors(_DEBUG.value):
      deterministic.apply()   # before anything starts a device
      from mollification import build, check, parallel
      from mollification.training import loop, workdir
      processes.join(stop)
      config = build.smoke(config) if _SMOKE.value else config
      check.check_same(config)
      with parallel.together():
        path = stack.enter_context(workdir.lock(workdir.local(folder)))
        workdir.check(path, config.to_dict())   # before data are fetched for what will be refused
        run = build.build(config) if parallel.is_first() else None
      with parallel.together():
        run = run or build.build(config)   # the others find the data that the first has prepared
      of_first = parallel.of_first(run.data)
      with parallel.together():
        workdir.check_data_of_first(of_first, run.data)
      with parallel.together():
        workdir.claim(path, config.to_dict(), run.data)
      workdir.check_shared(path)
    # What goes wrong from here on is no mistake in the command: it ends with its traceback.
    if parallel.is_first():
      notices.say(run.overview, sys.stdout)
    try:
      outcome = loop.train(run, path, stop=stop)
    except loop.Diverged as error:
      notices.say(f'error: {error}')
      sys.exit(EXIT_DIVERGED)
    except KeyboardInterrupt:   # a second Ctrl-C: Python's way out would wait for a save under way
      os._exit(128 + signal.SIGINT)
    except BaseException:
      if not stop.leaving:
        _leave_others()
      raise
  step = int(outcome.state.step)
  if parallel.is_first():
    notices.say(f'{outcome.reason} after {step:,} updates; workdir {path}', sys.stdout)
  if outcome.reason == 'preempted':
    sys.exit(preemption.EXIT_STATUS)


def _leave_others():
  """Of several processes, end this one soon: Python's way out waits for them, and they for it.

  They notice, and do the same; JAX's runtime aborts them where the first, its coordinator, is gone
  before they have said why.
  """
  import jax
  if jax.process_count() > 1:
    notices.say_at_last(traceback.format_exc(), end='')
    if jax.process_index() == 0:
      time.sleep(1)
    os._exit(1)


if __name__ == '__main__':
  run()
