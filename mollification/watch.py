"""Every checkpoint of a run as it appears: measured, or named and counted, until training ends."""
import signal
import sys
import time

from mollification import measure
from mollification.training import preemption, workdir

EXIT_FAILURES = 4        # some checkpoints could not be measured
EXIT_INTERRUPTED = 130   # SIGINT


class _Terminated(BaseException):
  """SIGTERM came; no `except Exception` about a checkpoint may take it for one of its errors."""


def until_the_end(folder, measure_step, check=None):
  """`checkpoints` as the binary runs it: returns an exit status, 0 where all were measured.

  SIGTERM and SIGINT stop it at once: records are written whole or not at all, and the same command
  goes on where it was. What could not be measured is counted on stderr.
  """
  before = signal.signal(signal.SIGTERM, _terminate)
  try:
    failures = checkpoints(folder, measure_step, check)
  except (KeyboardInterrupt, _Terminated) as stop:
    print('stopped; the same command goes on', flush=True)
    return preemption.EXIT_STATUS if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
  finally:
    signal.signal(signal.SIGTERM, before)
  if failures:
    sys.stderr.write(f'error: {len(failures)} of the checkpoints could not be measured: '
                     f'{", ".join(f"step {step:,}" for step in failures)}.\n')
    return EXIT_FAILURES
  return 0


def _terminate(number, frame):
  del frame
  signal.signal(number, signal.SIG_DFL)   # a second one ends the process as it always does
  raise _Terminated


def checkpoints(folder, measure_step, check=None, *, poll_seconds=2.):
  """Call `measure_step(step)` for each checkpoint as it appears, in order; [step] that failed.

  `check()` is called once, as soon as there is a run: what it raises every checkpoint would repeat,
  and it ends the watch.

  Returns once nothing trains in `folder` and none is left. Training keeps the newest few only: a
  checkpoint that is deleted while it is read is skipped with one line. So is one that cannot be
  measured, damaged or diverged: those to come may be sound.
  """
  done, failures = set(), []
  if workdir.read_config(folder) is None and not workdir.in_use(folder):
    raise FileNotFoundError(f'{folder} holds no run, and nothing trains there; check --workdir.')
  while True:
    if check and workdir.read_config(folder) is not None:
      check()
      check = None
    training = workdir.in_use(folder)   # before the look, so that a last one is not missed
    fresh = [step for step in measure.steps(folder) if step not in done]
    for step in fresh:
      try:
        measure_step(step)
      except Exception as error:   # what is raised depends on what is damaged, or went first
        reason = (str(error).splitlines() or [''])[0] or type(error).__name__
        if step in measure.steps(folder):
          failures.append(step)
          print(f'step {step:,} cannot be measured, skipped: {reason}', flush=True)
        else:
          print(f'step {step:,} is gone, skipped ({reason[:100]})', flush=True)
      done.add(step)
    if not fresh and not training:
      return failures
    time.sleep(poll_seconds)
