"""Says where a run hangs: the stacks of all threads, where nothing ends for a long time."""
import contextlib
import faulthandler
import sys
import threading
import time

from mollification import notices


class Watchdog:
  """Context in which a thread waits for `seconds` without a call of `alive`; 0 waits for nothing.

  It then writes the stacks of all threads to stderr, once, until there is a sign of life again, and
  ends nothing: whoever hangs on a file system or on another process may yet go on.
  """

  def __init__(self, seconds, stream=None):
    self._seconds, self._stream = seconds, stream if stream is not None else sys.__stderr__
    self._last, self._what, self._warned = time.monotonic(), 'the start', False
    self._left = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True, name='watchdog')

  def __enter__(self):
    if self._seconds:
      self._thread.start()
    return self

  def alive(self, what):
    """Tell it that `what` (in words: 'update 7') is done."""
    self._last, self._what, self._warned = time.monotonic(), what, False

  def _watch(self):
    while not self._left.wait(min(self._seconds / 4, 1.)):
      silent = time.monotonic() - self._last
      if silent >= self._seconds and not self._warned:
        self._warned = True
        notices.say(f'nothing was done for {silent:.0f} s since {self._what}; all threads '
                    '(log.watchdog):', self._stream)
        with contextlib.suppress(OSError, ValueError, RuntimeError):   # as of `say`
          faulthandler.dump_traceback(self._stream, all_threads=True)

  def __exit__(self, *exception):
    self._left.set()
    if self._seconds:
      self._thread.join()
