"""SIGTERM and SIGINT: the first asks the loop to save and leave, the second stops at once."""
import contextlib
import os
import signal
import sys
import threading

import jax
import numpy as np

from mollification import parallel

# EX_TEMPFAIL of sysexits.h: not a failure; the same command goes on from here.
EXIT_STATUS = 75
# Seconds that Python has to act itself on a second signal, and on a first one where it hears of it
# in a stretch that may be cut short and there is nothing to save. GKE gives a Spot node 15 in all.
_GRACE, _PATIENCE = 1., 5.


class Interrupted(BaseException):
  """A signal came in a stretch that may be cut short; no `except Exception` may take it."""


class Stop:
  """Says whether to stop: never, unless a subclass does."""

  requested = False   # whether to save and leave
  armed = False       # whether there is anything new to save

  def interrupting(self, raising=True):
    """Context that a first signal cuts short, with `Interrupted`, unless it asks by itself."""
    return contextlib.nullcontext()


class Preemption(Stop):
  """Context in which a first signal sets `requested` and a second one acts as it always does.

  While `armed` is not set nothing new is there to be saved, and the first of the `signals` ends the
  process at once, with `EXIT_STATUS` and what is to be `said`: threads that download or convert
  data are not waited for, nor is a compiler. A stretch that may be cut short is given a few seconds
  to end by itself. Not `at_once`, none does: a process that others depend on ends in order. Python
  itself acts on a signal only between two steps of its own, so a thread hears them too: a second
  one ends the process also while it compiles or waits for a device, with 128 + its number.
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self, signals=SIGNALS, said='stopped; there was nothing new to save', at_once=True):
    self._signals, self._said, self._at_once = signals, said, at_once
    self._old, self._interrupting, self._raising = {}, False, False
    self._left = threading.Event()

  def __enter__(self):
    self._old = {s: signal.signal(s, self._note) for s in self._signals}
    self._ears, self._mouth = os.pipe()
    os.set_blocking(self._mouth, False)
    self._wakeup = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
    self._thread = threading.Thread(target=self._listen, args=(dict(self._old),), daemon=True)
    self._thread.start()
    return self

  def _note(self, number, frame):
    del number, frame
    self.requested = True
    self._restore()
    if self._raising:
      raise Interrupted

  def _listen(self, old):
    """Act where the main thread cannot, or there is nothing that it should do first."""
    heard = 0
    while True:
      for number in os.read(self._ears, 64):
        if not number:
          return
        if number not in self._signals:   # other ones that somebody handles in Python
          continue
        heard += 1
        if self._at_once and not self.armed:   # in a thread: a second one is not to wait for it
          seconds = _PATIENCE if self._interrupting else 0.
          threading.Thread(target=self._end_unless_left, args=(seconds,), daemon=True).start()
        if heard > 1 and old[number] is not signal.SIG_IGN and not self._left.wait(_GRACE):
          os._exit(128 + number)

  def _end_unless_left(self, seconds):
    """End the process, unless by then it has left, or has something new to save."""
    if not self._left.wait(seconds) and not self.armed:
      sys.stderr.write(f'{self._said}\n')
      sys.stderr.flush()
      os._exit(EXIT_STATUS)

  @contextlib.contextmanager
  def interrupting(self, raising=True):
    """Context that a first signal cuts short, with `Interrupted`, unless it asks by itself."""
    self._interrupting, self._raising = True, raising
    try:
      if self.requested and raising:   # it came just before
        raise Interrupted
      yield
    finally:
      self._interrupting = self._raising = False

  def _restore(self):
    for number, handler in self._old.items():
      signal.signal(number, handler)
    self._old = {}

  def __exit__(self, *exception):
    self._left.set()
    self._restore()
    signal.set_wakeup_fd(self._wakeup)
    os.write(self._mouth, b'\0')
    self._thread.join()
    os.close(self._ears)
    os.close(self._mouth)


def _has_notice(update):
  """Whether all processes have a notice of JAX's pre-emption service with this update.

  Never where the service is disabled, which JAX itself says by an error.
  """
  # Here, since the loop has it already, and what only evaluates does without.
  import orbax.checkpoint as ocp
  return ocp.utils.reached_preemption(update)


class Agreement:
  """When the processes of a run leave the loop: after the same update, all of them.

  A request in one process (`stop.requested`), a save that failed there, or a notice to JAX's
  pre-emption service, which a cluster's scheduler may send, is one of all: they hear of it with the
  call after. One process leaves with the call that was under way.
  """

  def __init__(self, stop):
    self._stop, self._noticed, self._pending = stop or Stop(), False, None

  def arm(self, new=True):
    """From here on there is something new to save, or nothing."""
    self._stop.armed = new

  def after(self, step, updates, failed=False):
    """Whether to save and leave after `step`, the end of a call of so many `updates`.

    `failed`: whether a save of this process has; the one that is due then says why, in all.
    """
    requested = self._stop.requested or failed
    if jax.process_count() == 1:
      return requested
    # JAX names one update after which all have the notice; it counts those that it is asked about.
    self._noticed |= any([_has_notice(update) for update in range(step - updates + 1, step + 1)])
    before, self._pending = self._pending, parallel.any_process(requested or self._noticed)
    return before is not None and bool(np.asarray(before.addressable_data(0)).any())

  def meanwhile(self):
    """Whether a request came since `after`; of several processes that is known with the next call.
    """
    return jax.process_count() == 1 and self._stop.requested

  def unless_stopped(self, fn):
    """`fn()`, or None where a signal cut it short; of several processes, `between` its batches."""
    try:
      with self._stop.interrupting(raising=jax.process_count() == 1):
        return fn()
    except Interrupted:
      return None

  def between(self):
    """Raise Interrupted in all of several processes where one is `asked`; all must call it."""
    if jax.process_count() > 1 and self.asked():
      raise Interrupted

  def asked(self):
    """Whether a process is asked to stop; all must call it, and none goes on before the others do.

    A notice to JAX's service is heard between updates alone: it names one of them.
    """
    return bool(np.any(parallel.all_processes(np.array(self._stop.requested))))
