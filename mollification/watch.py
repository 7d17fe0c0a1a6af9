"""Every checkpoint of a run as it appears: measured, or named and counted, until it is over."""
import sys
import time

from mollification import measure, notices
from mollification.training import workdir

EXIT_FAILURES = 4        # some checkpoints could not be measured
EXIT_INTERRUPTED = 130   # SIGINT


def until_the_end(folder, measure_step, check=None):
  """`checkpoints` as the binary runs it: returns an exit status, 0 where all were measured.

  SIGINT stops it at once, and so does SIGTERM, which the binary hears all along: records are
  written whole or not at all, and the same command goes on where it was. What could not be measured
  is counted on stderr.
  """
  try:
    failures = checkpoints(folder, measure_step, check)
  except KeyboardInterrupt:
    notices.say('stopped; the same command goes on', sys.stdout)
    return EXIT_INTERRUPTED
  if failures:
    notices.say(f'error: {len(failures)} of the checkpoints could not be measured: '
                f'{", ".join(f"step {step:,}" for step in failures)}.')
    return EXIT_FAILURES
  return 0


def checkpoints(folder, measure_step, check=None, *, poll_seconds=2.):
  """Call `measure_step(step)` for each checkpoint as it appears, in order; [step] that failed.

  `check()` is called once, as soon as there is a run: what it raises every checkpoint would repeat,
  and it ends the watch.

  Returns once the run is over (all updates are done, it stopped early, or it diverged), nothing
  trains in `folder`, and none is left. A run that ended otherwise, pre-empted say, is waited for,
  however long; one line says so. Training keeps the newest few only: a checkpoint that is deleted
  while it is read is skipped with one line. So is one that cannot be measured, damaged or diverged:
  those to come may be sound.
  """
  done, failures, waiting = set(), [], False
  if workdir.read_config(folder) is None and not workdir.in_use(folder):
    raise FileNotFoundError(f'{folder} holds no run, and nothing trains there; check --workdir.')
  while True:
    if check and workdir.read_config(folder) is not None:
      check()
      check = None
    # In this order: of a run that was over and is not trained, the last one is there.
    ended, training = workdir.has_ended(folder), workdir.in_use(folder)
    present = measure.steps(folder)
    fresh = [step for step in present if step not in done]
    for step in fresh:
      try:
        measure_step(step)
      except Exception as error:   # what is raised depends on what is damaged, or went first
        reason = (str(error).splitlines() or [''])[0] or type(error).__name__
        if step in measure.steps(folder):
          failures.append(step)
          notices.say(f'step {step:,} cannot be measured, skipped: {reason}', sys.stdout)
        else:
          notices.say(f'step {step:,} is gone, skipped ({reason[:100]})', sys.stdout)
      done.add(step)
    idle = not fresh and not training
    if idle and (ended or _is_done(folder, present)):
      return failures
    if idle and not waiting:
      notices.say(f'nothing trains in {folder}, whose run is not over: waiting for it to go on',
                  sys.stdout)
    waiting = idle
    time.sleep(poll_seconds)


def _is_done(folder, steps):
  """Whether the last update of the run is among the `steps` of its checkpoints."""
  config = workdir.read_config(folder)
  return config is not None and max(steps, default=0) >= config['total_steps']
