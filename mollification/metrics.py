"""Figures of a run: exact merging of means, JSON lines, TensorBoard through clu, progress."""
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import resource
import shutil
import sys
import time

import jax
import numpy as np

from mollification import files, notices

MARK = 'end/'   # what is called so in a row says how a run goes on from there, and is no figure

_STATUS = pathlib.Path('/proc/self/status')   # of Linux


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and sum of squared deviations of a set of numbers, in float64.

  Merging is exact (Chan et al. 1979), so a mean over shards or batches of unequal size is the
  mean over the examples, never an average of averages.
  """
  count: int = 0
  mean: float = 0.
  m2: float = 0.

  @classmethod
  def of(cls, values, mask=None):
    """Moments of the entries of `values` (any shape); `mask` of the same shape leaves some out."""
    values = np.asarray(values, np.float64).ravel()
    if mask is not None:
      values = values[np.asarray(mask, bool).ravel()]
    if not values.size:
      return cls()
    mean = values.mean()
    return cls(values.size, float(mean), float(np.square(values - mean).sum()))

  def merge(self, other):
    """Moments of the union of both sets."""
    count = self.count + other.count
    if not count:
      return self
    delta = other.mean - self.mean
    return Moments(count, self.mean + delta * other.count / count,
                   self.m2 + other.m2 + delta * delta * self.count * other.count / count)

  @property
  def sem(self):
    """Standard error of the mean (ddof 1); NaN below two entries."""
    if self.count < 2:
      return math.nan
    return math.sqrt(self.m2 / (self.count - 1) / self.count)

  def __str__(self):
    return f'{self.mean:.4f} ± {self.sem:.4f} (n={self.count})'


def figures(row):
  """The row, or a part of one, without its marks."""
  return {name: value for name, value in row.items() if not name.startswith(MARK)}


def read_rows(path):
  """Rows of a metrics.jsonl; a last line that a crash cut short is left out.

  Any other line that is no row is damage that no run leaves: ValueError names it.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  lines = path.read_bytes().splitlines()   # what a machine leaves that fails may be no text
  rows = []
  for number, line in enumerate(lines, 1):
    try:
      row = json.loads(line)
      if type(row['step']) is not int:
        raise TypeError(f"its step is {row['step']!r:.40}")
      rows.append(row)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
      if number < len(lines):
        raise ValueError(f'{path}, line {number} is no row of metrics ({error}); restore the file, '
                         'or remove that line.') from error
  return rows


def cut_rows(path, cut):
  """Leave `cut(rows)` of the rows in a file, so that a resumed run has one per logged step.

  The file is replaced in one move: a crash here leaves either the old or the new one.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return []
  rows = cut(read_rows(path))
  _rewrite(path, rows)
  return rows


def _rewrite(path, rows):
  with files.replacing(path) as part:
    part.write_text(''.join(_line(row) for row in rows))


def jsonable(value):
  """`value` as JSON holds it: NumPy and JAX scalars and arrays as numbers and lists.

  JSON has no NaN and no infinity: as text ('nan', 'inf', '-inf') a diverged figure survives any
  reader, and `float` takes it back.
  """
  if isinstance(value, dict):
    return {str(k): jsonable(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [jsonable(v) for v in value]
  if hasattr(value, '__array__'):
    return jsonable(np.asarray(value).tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return repr(value)
  return value


def _line(row):
  return json.dumps(jsonable(row), allow_nan=False) + '\n'


class JsonlWriter:
  """Appends one row per call to a JSON-lines file and flushes it."""

  def __init__(self, path):
    self._path = pathlib.Path(path)
    self._file = self._path.open('a')

  def write(self, step, values):
    """Append {'step': step, **values}; values are numbers or strings."""
    self._file.write(_line({'step': step, **values}))
    self._file.flush()

  def sync(self):
    """Have the disk hold all rows, also where the machine fails."""
    os.fsync(self._file.fileno())

  def replace(self, row):
    """Put `row` where the one of its step stands; a crash leaves either of them."""
    self._file.close()
    rows = [row if old['step'] == row['step'] else old for old in read_rows(self._path)]
    _rewrite(self._path, rows)
    self._file = self._path.open('a')

  def close(self):
    """Close the file."""
    self._file.close()


def peak_memory():
  """{'host': bytes, 'device': bytes}: the most that this process has held so far.

  Of devices the one that held most; a backend that does not say (CPU) has no such entry.
  """
  found = {'host': _peak_of_host()}
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [one['peak_bytes_in_use'] for one in stats if 'peak_bytes_in_use' in one]
  return {**found, 'device': max(peaks)} if peaks else found


def _peak_of_host():
  """Bytes: VmHWM where the kernel says it, as Linux does, else what getrusage says.

  Linux carries the latter over fork and exec: a run that a large process started would have its
  parent's peak.
  """
  found = _STATUS.exists() and re.search(r'^VmHWM:\s+(\d+) kB$', _STATUS.read_text(), re.MULTILINE)
  if found:
    return int(found[1]) * 1024
  unit = 1 if sys.platform == 'darwin' else 1024   # what getrusage counts in
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class TensorBoardWriter:
  """Scalars and images for TensorBoard, through clu (imports TensorFlow: slow, 550 MB)."""

  def __init__(self, logdir):
    from clu import metric_writers
    self._writer = metric_writers.SummaryWriter(str(logdir))

  def write(self, step, values):
    """Write the numeric entries of `values` as scalars."""
    self._writer.write_scalars(
      step, {k: v for k, v in values.items() if isinstance(v, (int, float))})

  def write_image(self, step, name, image):
    """Write one uint8 image [H, W, C]."""
    self._writer.write_images(step, {name: np.asarray(image)[None]})

  def flush(self):
    """Put on disk what was written."""
    self._writer.flush()

  def close(self):
    """Flush and close the event file."""
    self._writer.close()


_CLEAR = '\x1b[K'   # to the end of a terminal's line; others may write on the same one


class Progress:
  """One line on stderr, rewritten in place on a terminal: step, rate, time left."""

  def __init__(self, total, first=0, label='', batch_size=0, interval=1., stream=None,
               unit='steps'):
    self._total, self._label, self._batch, self._unit = total, label, batch_size, unit
    self._stream = stream if stream is not None else sys.stderr
    self._watched = notices.is_terminal(self._stream)
    # In a log file a line a second would drown the rest.
    self._interval = interval if self._watched else max(interval, 10.)
    self._stopped = None
    self.restart(first)
    self._shown = -math.inf
    self._open = False

  @contextlib.contextmanager
  def paused(self):
    """Keeps what is done inside (evaluations, pictures, saves) out of `rate`."""
    self._stopped = time.monotonic()
    try:
      yield
    finally:
      self._paused += time.monotonic() - self._stopped
      self._stopped = None

  def rate(self, step):
    """Updates per second of training since the last `restart`; 0 before there is one."""
    now = time.monotonic() if self._stopped is None else self._stopped
    return self._per_second(step, now - self._start - self._paused)

  def _per_second(self, step, seconds):
    return (step - self._first) / seconds if seconds > 0 and step > self._first else 0.

  def restart(self, step):
    """Count the rate from here: compiling the first update is not its speed."""
    self._first, self._start, self._paused = step, time.monotonic(), 0.

  def show(self, step, note='', force=False):
    """Show step, rate and time left, at most once per interval unless forced."""
    now = time.monotonic()
    if not force and now - self._shown < self._interval:
      return
    self._shown = now
    rate, overall = self.rate(step), self._per_second(step, now - self._start)
    pace = ''
    if rate:   # none is known of a first call, which compiles
      images = f', {rate * self._batch:,.0f} examples/s' if self._batch else ''
      pace = (f'{rate:,.1f} {self._unit}/s{images}, '
              f'{_clock((self._total - step) / overall)} left  ')
    share = 100 * step / max(self._total, 1)
    self._write(f'{self._label}{step:,}/{self._total:,} ({share:.0f} %)  '
                f'{pace}{note}'.rstrip())

  def print(self, text):
    """Print a line to stdout that stays, without a rest of the progress line in it."""
    if self._watched:
      notices.say('\r' + _CLEAR, self._stream, end='')
    notices.say(text, sys.stdout)

  def _write(self, text):
    if self._watched:
      # A line that wraps could not be rewritten in place.
      text = text[:shutil.get_terminal_size().columns - 1]
      notices.say('\r' + text + _CLEAR, self._stream, end='')
      self._open = True
    else:
      notices.say(text, self._stream)

  def close(self):
    """End the line."""
    if self._open:
      notices.say('', self._stream)


def _clock(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
