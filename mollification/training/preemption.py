"""SIGTERM and SIGINT: the first asks the loop to save and leave, the second stops at once.

With little more than the standard library: binaries listen before they import what takes seconds.
"""
import contextlib
import os
import signal
import threading

from mollification import notices

# EX_TEMPFAIL of sysexits.h: not a failure; the same command goes on from here.
EXIT_STATUS = 75
# Seconds that Python has to act itself on a second signal, and on a first one where it hears of it
# in a stretch that may be cut short and there is nothing to save. GKE gives a Spot node 15 in all.
_GRACE, _PATIENCE = 1., 5.
# Seconds that one of several processes goes on before it ends so, and their first once more as
# long: JAX's runtime aborts the others when that is gone, and their signals may come later. Each
# looks so often whether another one was asked.
_LINGER, _LOOK = 2., .5


def _end(number, frame):
  del frame
  os._exit(128 + number)


class Interrupted(BaseException):
  """A signal came in a stretch that may be cut short; no `except Exception` may take it."""


class Stop:
  """Says whether to stop: never, unless a subclass does."""

  requested = False   # whether to save and leave
  armed = False       # whether there is anything new to save
  leaving = False     # whether the process is about to end by itself

  def among(self, several, first):
    """Say whether this is one of several processes, and whether the others end with it."""

  def share(self, tell, told):
    """Share requests with the other processes: `tell()` them, and ask whether one has `told()`."""

  def interrupting(self, raising=True):
    """Context that a first signal cuts short, with `Interrupted`, unless it asks by itself."""
    return contextlib.nullcontext()


class Preemption(Stop):
  """Context in which a first signal sets `requested` and a second one acts as it always does.

  While `armed` is not set nothing new is there to be saved, and the first of the `signals` ends the
  process at once, with `EXIT_STATUS` and what is to be `said`: threads that download or convert
  data are not waited for, nor is a compiler. A stretch that may be cut short is given a few seconds
  to end by itself, and one of several processes, `among` which it is, goes on until the others have
  heard theirs, or of it (`share`). Not `at_once`, none does: a process that others depend on ends
  in order. Python itself acts on a signal only between two steps of its own, so a thread hears them
  too: a second one ends the process also while it compiles or waits for a device, with 128 + its
  number.
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self, signals=SIGNALS, said='stopped; there was nothing new to save', at_once=True):
    self._signals, self._said, self._at_once = signals, said, at_once
    self._old, self._interrupting, self._raising = {}, False, False
    self._left, self._linger, self._ending = threading.Event(), 0., None
    self._tell = None

  def among(self, several, first):
    self._linger = _LINGER * several * (1 + first)

  def share(self, tell, told):
    self._tell = tell
    threading.Thread(target=self._hear_of_others, args=(told,), daemon=True).start()
    if self.requested:   # before they had met
      self._ask_others()

  @property
  def leaving(self):
    """Whether one of several processes is about to end, since it was asked to, with `EXIT_STATUS`.

    The others may be gone: what fails now does so for that.
    """
    return self._linger > 0. and self._ending is not None and not self.armed

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
        self._leave()
        if heard == 1:
          self._ask_others()
        if heard > 1 and old[number] is not signal.SIG_IGN and not self._left.wait(_GRACE):
          os._exit(128 + number)

  def _leave(self):
    """End soon, unless there is something to save or to do first."""
    if self._at_once and not self.armed:   # in a thread: a second signal is not to wait for it
      seconds = self._linger + (_PATIENCE if self._interrupting else 0.)
      self._ending = threading.Thread(target=self._end_unless_left, args=(seconds,), daemon=True)
      self._ending.start()

  def _end_unless_left(self, seconds):
    """End the process, unless by then it has left, or has something new to save."""
    if not self._left.wait(seconds) and not self.armed:
      notices.say_at_last(self._said)
      os._exit(EXIT_STATUS)

  def _ask_others(self):
    if self._tell:   # in a thread: a second signal is not to wait for a network
      threading.Thread(target=self._tell, daemon=True).start()

  def _hear_of_others(self, told):
    """Take another process' request for one of this one, whose own signal may come later, or not.

    A scheduler may end one node alone, as of a pool of Spot ones.
    """
    while not self._left.wait(_LOOK):
      if told():
        self.requested = True
        self._leave()
        return

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
      # The kernel shields the first process of a container from what it does not handle itself.
      alone = os.getpid() == 1 and handler is signal.SIG_DFL
      signal.signal(number, _end if alone else handler)
    self._old = {}

  def __exit__(self, kind, error, traceback):
    ended = error is None or getattr(error, 'code', 1) in (None, 0, EXIT_STATUS)
    if self.leaving and not ended:   # the others have ended before this one does
      self._ending.join()
    self._left.set()
    self._restore()
    signal.set_wakeup_fd(self._wakeup)
    os.write(self._mouth, b'\0')
    self._thread.join()
    os.close(self._ears)
    os.close(self._mouth)
