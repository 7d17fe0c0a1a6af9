"""How readers are fuzzed: damaged forms of good files, and what a reader may do with them."""
import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable

from hypothesis import strategies as st

from mollification import metrics

SECONDS = 20   # for one input; more is a hang
AGAIN = 1      # seconds until one that goes on is told again
# That one input may add to what the process maps; a tenth of it it may use. Pillow asks the system,
# though not the memory, for the 4 GiB that a chunk of PNG can claim.
MEMORY = 5_000_000_000
# What no reader has to do with; auditing tells of it whatever the way.
FORBIDDEN = ('os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'os.forkpty',
             'pty.spawn', 'subprocess.Popen', 'os.kill', 'socket.connect', 'socket.getaddrinfo',
             'pickle.find_class', 'ctypes.dlopen')
# What a reader may do in its own folder alone: {event: how many of its arguments are paths}.
IN_FOLDER = {'open': 1, 'os.remove': 1, 'os.rename': 2, 'os.mkdir': 1, 'os.rmdir': 1, 'os.link': 2,
             'os.symlink': 2, 'os.truncate': 1, 'os.chmod': 1, 'os.chown': 1, 'shutil.rmtree': 1}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Numbers that files hold as sizes and offsets: too large, negative, just beyond a limit.
_NUMBERS = [n.to_bytes(size, 'little', signed=True) for n, size in (
  (-1, 4), (-1, 8), (2**31 - 1, 4), (2**40, 8), (2**62, 8), (0, 4), (0, 8), (1, 4), (255, 4))]
_watched = []   # the folder of the reader that is watched, and then what it did that it may not


@sys.addaudithook
def _audit(event, args):
  if _watched and (event in FORBIDDEN or (
      _is_outside(event, args, _watched[0]) and not _imports())):
    _watched.append(f'{event} {args!r:.80}')


def _is_outside(event, args, folder):
  """Whether an event of IN_FOLDER touches another place, or 'exec' runs what is no module's."""
  if event == 'exec':   # of a dataclass and the like: its code has no file
    return not args[0].co_filename.endswith('.py') or _lies_in(args[0].co_filename, folder)
  if event not in IN_FOLDER or (event == 'open' and not args[2] & WRITES):
    return False
  paths = [path for path in args[:IN_FOLDER[event]] if not isinstance(path, int)]
  return not all(_lies_in(path, folder) or os.fsdecode(path) == os.devnull for path in paths)


def _lies_in(path, folder):
  return os.path.join(os.path.realpath(os.fsdecode(path)), '').startswith(f'{folder}/')


def _imports():
  """Whether a module is being imported: that runs code, and writes what was compiled."""
  frame = sys._getframe()
  while frame and frame.f_code.co_filename != '<frozen importlib._bootstrap>':
    frame = frame.f_back
  return frame is not None


class _NoEnd(BaseException):
  """Ends a hang: readers that turn every Exception into a ValueError let it through."""


@dataclasses.dataclass(frozen=True)
class Target:
  """A reader, `read(content, folder)`, and good files to damage."""
  seeds: Callable[[], list]
  read: Callable


def to_file(name, read):
  """The reader of a path as one of its content."""
  def read_content(content, folder):
    (folder / name).write_bytes(content)
    read(folder / name)
  return read_content


def check(target, content, folder):
  """Read `content`: True where that works, False for an error that may be; else AssertionError."""
  raised, late, done = None, [], []
  before = _peak(anew=True)
  try:
    with _only_warned(), _bound_memory(), _bound_time(late), _watch(folder, done):
      target.read(content, folder)
  except ValueError as error:
    raised = error
  except _NoEnd:
    pass
  finally:   # also where another error came of it
    assert not late, f'no end after {SECONDS} s'
    assert not done, done
  assert not _ran_out(raised), 'it made room for more than the file holds'
  assert _peak() - before < MEMORY / 10, 'it took memory for more than the file holds'
  return raised is None


@contextlib.contextmanager
def _only_warned():
  """Warnings are shown (to nobody) as users see them: in tests they are errors, which stop much."""
  with warnings.catch_warnings(record=True):
    warnings.simplefilter('default')
    yield


@contextlib.contextmanager
def _bound_memory():
  """Room for so much more than is mapped; what asks for more has a MemoryError."""
  limits = resource.getrlimit(resource.RLIMIT_AS)
  used = 4096 * int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def _bound_time(late):
  """Puts a note into `late` after SECONDS, and ends what runs then; again where that is caught."""
  def stop(*args):
    late.append(args)
    raise _NoEnd

  old = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, SECONDS, AGAIN)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@contextlib.contextmanager
def _watch(folder, done):
  """Puts into `done` what a reader does beside reading; temporary files go into `folder`."""
  folder, old = os.path.realpath(folder), tempfile.tempdir
  tempfile.tempdir, _watched[:] = folder, [folder]
  try:
    yield
  finally:
    done += _watched[1:]
    tempfile.tempdir, _watched[:] = old, []


def _peak(anew=False):
  """Bytes of memory that the process has had at most, since the last call with `anew` if it can be.

  The kernel's mark for getrusage only ever rises: what came before hides what comes now.
  """
  if anew:
    with contextlib.suppress(OSError):
      pathlib.Path('/proc/self/clear_refs').write_text('5')
  return metrics.peak_memory()['host']


def _ran_out(error):
  """Whether an exception, or one that it came of, is a MemoryError or tells of one."""
  told = ('MemoryError', 'Unable to allocate')
  return error is not None and (
    isinstance(error, MemoryError) or any(text in str(error) for text in told)
    or _ran_out(error.__cause__ or error.__context__))


@st.composite
def damaged(draw, seeds):
  """Bytes: random ones, or one of `seeds` after up to four changes."""
  if draw(st.integers(0, 19)) == 0:
    return draw(st.binary(max_size=300))
  content = bytearray(draw(st.sampled_from(seeds)))
  for _ in range(draw(st.integers(0, 4))):
    at = draw(st.integers(0, len(content)))
    end = min(len(content), at + draw(st.integers(0, 64)))
    kind = draw(st.sampled_from(['cut', 'flip', 'drop', 'repeat', 'insert', 'splice', 'number']))
    if kind == 'cut':
      del content[at:]
    elif kind == 'flip' and at < len(content):
      content[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == 'drop':
      del content[at:end]
    elif kind == 'repeat':
      content[at:at] = content[at:end] * draw(st.sampled_from([1, 2, 100]))
    elif kind == 'insert':
      content[at:at] = draw(st.binary(max_size=16))
    elif kind == 'splice':
      other = draw(st.sampled_from(seeds))
      start = draw(st.integers(0, len(other)))
      content[at:] = other[start:]
    elif kind == 'number':
      number = draw(st.sampled_from(_NUMBERS))
      content[at:at + len(number)] = number
  return bytes(content)
