"""SIGTERM and SIGINT: the first asks the loop to save and leave, the second stops at once."""
import os
import signal
import sys

# EX_TEMPFAIL of sysexits.h: not a failure; the same command goes on from here.
EXIT_STATUS = 75


class Preemption:
  """Context in which a first signal sets `requested` and a second one acts as it always does.

  Until `armed` is set nothing is there to be saved, and the first signal ends the process at once,
  with `EXIT_STATUS`: threads that download or convert data are not waited for.
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self):
    self.requested = self.armed = False
    self._old = {}

  def __enter__(self):
    self._old = {s: signal.signal(s, self._note) for s in self.SIGNALS}
    return self

  def _note(self, number, frame):
    del number, frame
    self.requested = True
    self._restore()
    if not self.armed:
      sys.stderr.write('stopped before the first update; there was nothing to save\n')
      sys.stderr.flush()
      os._exit(EXIT_STATUS)

  def _restore(self):
    for number, handler in self._old.items():
      signal.signal(number, handler)
    self._old = {}

  def __exit__(self, *exception):
    self._restore()
