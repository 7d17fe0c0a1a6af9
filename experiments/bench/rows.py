"""What all benches share: rows with bars, timing in pairs, and the command line.

A bench is a module with `MEASURES`, {name: () -> rows}, and `sys.exit(rows.main(MEASURES, ...))`.
"""
import argparse
import contextlib
import contextvars
import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from mollification import allocator


@dataclasses.dataclass(frozen=True)
class Row:
  """One measured figure; a `ratio` above 1 is better than the reference, whichever way is better.

  `reference` says in words what `reference_value` (same unit) is. A row with a `bar` is missed
  unless its ratio reaches it; None is no bar.
  """
  name: str
  value: float
  unit: str
  reference: str
  reference_value: float | None
  ratio: float | None
  bar: float | None
  lower_is_better: bool

  @property
  def missed(self):
    """Whether there is a bar and the ratio does not reach it; no ratio and NaN do not."""
    return self.bar is not None and (self.ratio is None or not self.ratio >= self.bar)


class Comparison(NamedTuple):
  """Medians over pairs: of the seconds of each side, of a / b, and of a - b.

  `quartiles` are the first and the third of a / b: half of the pairs lie between them.
  """
  a: float
  b: float
  ratio: float
  difference: float
  pairs: int
  quartiles: tuple

  @property
  def words(self):
    """How many pairs there were, and how far apart."""
    return f'{self.pairs} pairs, half of them {self.quartiles[0]:.2f} to {self.quartiles[1]:.2f}'


def seconds_of(fn):
  """Wall seconds of one call of `fn`, which returns when its work is done."""
  start = time.perf_counter()
  fn()
  return time.perf_counter() - start


def processor_seconds_of(fn):
  """Processor seconds of one call of `fn`, of all threads; what else runs does not count."""
  start = time.process_time()
  fn()
  return time.process_time() - start


@contextlib.contextmanager
def worker(module, *flags, **env):
  """word -> number: what `python -m experiments.bench.MODULE`, a process of its own, answers.

  It is sent a word a line, answers with a number a line, and waits meanwhile.
  """
  command = [sys.executable, '-m', f'experiments.bench.{module}', *flags]
  with subprocess.Popen(command, cwd=pathlib.Path(__file__).parents[2], text=True,
                        env={**os.environ, 'JAX_PLATFORMS': 'cpu', **env}, stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE) as process:

    def ask(word):
      process.stdin.write(f'{word}\n')
      process.stdin.flush()
      return float(process.stdout.readline())

    yield ask
    process.stdin.close()


def interleaved(fn_a, fn_b, pairs=9, *, seconds=0., clock=seconds_of):
  """Comparison of two functions called in turn, a first in one pair and b in the next.

  At least `pairs` of them, and more while they fit into `seconds`: load that comes and goes hits
  both sides alike, and the median forgets the pairs that it split. One call of each goes before
  and does not count. `clock(fn)` is what a call took.
  """
  if pairs < 5:
    raise ValueError(f'a median of ratios takes at least 5 pairs, got {pairs}.')
  if _SMOKE.get():
    pairs, seconds = 1, 0.
  clock(fn_a), clock(fn_b)
  taken, start = [], time.perf_counter()
  while len(taken) < pairs or time.perf_counter() - start < seconds:
    if len(taken) % 2:
      b = clock(fn_b)
      a = clock(fn_a)
    else:
      a = clock(fn_a)
      b = clock(fn_b)
    taken.append((a, b))
  ratios = [a / b for a, b in taken]
  quarters = statistics.quantiles(ratios, n=4, method='inclusive') if len(taken) > 1 else ratios * 3
  return Comparison(
    a=statistics.median(a for a, _ in taken), b=statistics.median(b for _, b in taken),
    ratio=statistics.median(ratios), difference=statistics.median(a - b for a, b in taken),
    pairs=len(taken), quartiles=(quarters[0], quarters[2]))


def fastest(fns, calls=4):
  """(name, fn) of {name: fn} with the shortest of `calls` calls each, the best of references."""
  seconds = {name: min(seconds_of(fn) for _ in range(or_one(calls))) for name, fn in fns.items()}
  name = min(seconds, key=seconds.get)
  return name, fns[name]


def or_one(count):
  """How often to repeat what is timed: `count`, or once under --smoke."""
  return 1 if _SMOKE.get() else count


def as_json(row, run):
  """The row and its `run` as one line of JSON; what is not finite becomes null."""
  figures = {name: _rounded(value) for name, value in dataclasses.asdict(row).items()}
  return json.dumps(figures | {'run': run})


def commit():
  """The commit that is checked out; -dirty where what runs is not what was committed."""
  described = subprocess.run(['git', 'describe', '--always', '--dirty'], capture_output=True,
                             cwd=pathlib.Path(__file__).parent, text=True, check=False)
  return described.stdout.strip() or 'no commit'


def run_of():
  """'day, commit, jax version' of now."""
  return ', '.join([datetime.date.today().isoformat(), commit(),
                    f'jax {importlib.metadata.version("jax")}'])


def as_text(row):
  """The row as one line of a table, under `HEADER`."""
  verdict = '' if row.bar is None else f'{row.bar:g} {"MISSED" if row.missed else "met"}'
  value, reference, ratio = (
    '-' if number is None else f'{number:,.4g}'
    for number in (row.value, row.reference_value, row.ratio))
  return (f'{row.name:<16} {value:>10} {row.unit:<18} {ratio:>8}  {verdict:<12} '
          f'{reference:>10} {row.reference}').rstrip()


# Set by --smoke: whether everything runs, not how fast.
_SMOKE = contextvars.ContextVar('smoke', default=False)
HEADER = f'{"name":<16} {"value":>10} {"unit":<18} {"ratio":>8}  {"bar":<12} {"reference":>10}'


def main(measures, doc, argv=None, *, smoke=None):
  """Run the named measures and print their rows as they come; 1 if a row misses its bar, else 0.

  `measures` is {name: () -> [Row]}, `doc` the docstring of the bench, shown by --help. With
  --smoke one pair of each is timed, of the tiny forms in `smoke` if given, and no bar counts. Freed
  memory is kept in this process, for both sides, as binaries of the project keep it.
  """
  args = _parse(measures, doc, argv)
  allocator.keep_freed()
  _SMOKE.set(args.smoke)
  measures = smoke if args.smoke and smoke else measures
  if not args.json:
    print(HEADER, flush=True)
  missed, run = False, run_of() if args.json else ''   # of before: the commit may change meanwhile
  for name in args.only:
    for row in measures[name]():
      print(as_json(row, run) if args.json else as_text(row), flush=True)
      missed |= row.missed and not args.smoke
  return int(missed)


def _parse(measures, doc, argv):
  parser = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--json', action='store_true', help='one JSON object per line')
  parser.add_argument('--smoke', action='store_true', help='one pair each: does it run at all?')
  parser.add_argument('--only', default=','.join(measures), metavar='NAME,...',
                      help='measure these alone: %(default)s')
  args = parser.parse_args(sys.argv[1:] if argv is None else argv)
  args.only = args.only.split(',')
  unknown = [name for name in args.only if name not in measures]
  if unknown:
    parser.error(f'unknown measure {unknown[0]!r}; known: {", ".join(measures)}')
  return args


def _rounded(value):
  if not isinstance(value, float):
    return value
  return float(f'{value:.6g}') if math.isfinite(value) else None
