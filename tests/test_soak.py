"""Soak tier: killed at random moments, a run ends as if nothing had happened."""
import collections
import contextlib
import functools
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import scipy.stats

from mollification import metrics
from tests import memory
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[1]
KILLS, STEPS = 50, 3000
# Every phase comes often: each second call saves, each tenth evaluates, in 180 batches, and the
# best state is one of all but the first tenth.
SHORT = {'total_steps': STEPS, 'mollify.fraction': .1, 'checkpoint.every': 20, 'eval.every': 100,
         'eval.batch_size': 1, 'batch_size': 128, 'model.widths': '(512,)'}
DEADLINE = 600   # seconds, for what hangs
# MB that a line through a run's memory may rise by where it is no growth: less than the smallest
# object, of 16 bytes, kept of each of 20,000 updates, or 300 bytes of each of 1,000 evaluations.
# An allocator takes and keeps pages at its own times: +.14 ± .05 MB where nothing is kept.
NOISE = .3
# With it glibc gives back what is freed, as it does not in the binaries (mollification/allocator):
# what is kept would else fill what compiling has freed, and not be seen.
GIVEN_BACK = {'MALLOC_TRIM_THRESHOLD_': '131072'}
UPDATES = {'total_steps': 20_000, 'steps_per_call': 1, 'eval.every': 0}


def _train(folder, changes, module='mollification.main'):
  """The command of a run, with changes {config key: value}."""
  config = {'batch_size': 16, 'steps_per_call': 10, 'log.every': 10, 'log.stdout': False,
            'eval.sample_every': 0, 'model.widths': '(8,)', **changes}
  return [sys.executable, '-m', module, f'--workdir={folder}',
          '--config=configs/digits_vae.py', *(f'--config.{k}={v}' for k, v in config.items())]


@contextlib.contextmanager
def _running(folder, changes, module='mollification.main', **env):
  """The run in `folder`, on one device; it is killed on the way out. What it says is beside it."""
  with folder.with_suffix('.stderr').open('a') as said, subprocess.Popen(
      _train(folder, changes, module), cwd=ROOT, stderr=said, stdout=subprocess.DEVNULL,
      env={**os.environ, 'XLA_FLAGS': '', **env}) as process:
    try:
      yield process
    finally:
      process.kill()   # no effect where it has ended


def _newest(folder):
  """The newest row of a run; before its first, one of update 0."""
  return (metrics.read_rows(folder / 'metrics.jsonl') or [{'step': 0}])[-1]


def _call(row):
  """Seconds of ten updates."""
  return 10 * row.get('time/seconds_per_step', math.inf)


def _evaluates_next(row):
  return (row['step'] + 10) % SHORT['eval.every'] == 0


def _wait(process, folder, due, seconds, at_most=math.inf):
  """Until `seconds(row)` after a new row that is `due`, and `at_most` so many in all.

  Returns whether the run evaluates then: the row that comes next is of an evaluation, and has been
  due for two calls and more.
  """
  row, begun = _newest(folder), time.monotonic()
  old, seen, until = row['step'], begun, begun + at_most
  while (now := time.monotonic()) < until:
    assert process.poll() is None, f'the run in {folder} ended by itself'
    assert now < begun + DEADLINE, f'no row that is due in {folder}'
    newest = _newest(folder)
    if newest['step'] != row['step']:
      row, seen = newest, now
      if row['step'] > old and due(row):
        until = min(until, now + seconds(row))
    time.sleep(.005)
  calls = (now - seen) / _call(row)
  return row['step'] > old and _evaluates_next(row) and calls > 2


def _half_saved(folder):
  """{inode} of checkpoints that were cut: Orbax writes each beside its place."""
  return {path.stat().st_ino for kind in ('checkpoints', 'best')
          for path in folder.glob(f'{kind}/*tmp*')}


@pytest.mark.soak
def test_killed_runs_end_like_the_straight_one(tmp_path, record_property):
  """Killed as it starts (one time of five), evaluates (one of five), steps and saves, all along."""
  straight, killed, chance = tmp_path / 'straight', tmp_path / 'killed', random.Random(0)
  run = functools.partial(   # programs are compiled once for all
    _running, changes=SHORT, JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'cache'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0')
  with run(straight) as process:
    assert process.wait(DEADLINE) == 0
  found, resumes = collections.Counter(), 1   # the last start is one
  for kill in range(KILLS):
    before, goal = _half_saved(killed), STEPS * (kill + chance.random()) / (KILLS + 2)
    kind, later, soon = chance.randrange(5), chance.uniform(0, .15), chance.uniform(0, 6)
    due = lambda row, kind=kind, goal=goal: row['step'] >= goal and (
      kind > 1 or _evaluates_next(row))
    resumes += any(path.name.isdecimal() for path in killed.glob('checkpoints/*'))
    # An evaluation may take less than most of what is drawn: those are killed as it has begun.
    seconds = lambda row, kind=kind, later=later: 2.2 * _call(row) if kind == 1 else later
    with run(killed) as process:
      if kind:
        found['in an evaluation'] += _wait(process, killed, due, seconds)
      else:   # it may come to its first row
        _wait(process, killed, lambda row: True, lambda row: 0., soon)
    found['during a save'] += bool(_half_saved(killed) - before)
    found['with a best state'] += any(killed.glob('best/[0-9]*'))
    found[f'in quarter {1 + 4 * _newest(killed)["step"] // STEPS}'] += 1
  with run(killed) as process:
    assert process.wait(DEADLINE) == 0
  record_property('kills', KILLS)
  record_property('starts that found a checkpoint', resumes)
  for where, count in sorted(found.items()):
    record_property(f'of them {where}', count)
  assert min(found['during a save'], found['in an evaluation']) > 0
  assert tiny.rows(killed) == tiny.rows(straight)
  assert [row['step'] for row in tiny.rows(killed)] == list(range(10, STEPS + 1, 10))
  assert json.loads((killed / 'config.json').read_text())
  for kind in ('checkpoints', 'best'):
    jax.tree.map(np.testing.assert_array_equal,
                 *(tiny.newest(folder / kind) for folder in (killed, straight)))
  record_property('rows and states that differ', 0)   # all of them are asserted equal above


def _memory_of(process, counted):
  """(counts [N], MB [N]) while a process runs, some ten times a second, once `counted()` is there.
  """
  samples = []
  while process.poll() is None:
    held, count = memory.own_mb(process.pid), counted()
    samples += [(count, held)] if count else []
    time.sleep(.05)
  assert process.returncode == 0
  last = samples[-1][0]   # with it the process ends, and gives memory back
  return np.array([sample for sample in samples if sample[0] < last]).T


def _memory_of_run(folder, changes, module='mollification.main', env=GIVEN_BACK):
  with _running(folder, changes, module, **env) as process:
    return _memory_of(process, lambda: _newest(folder)['step'])


def _slope(counts, held):
  """(MB per count, half of its 95 % interval), after the first quarter.

  Of the means of 15 stretches: samples that follow each other are alike, and would feign an
  interval that is too narrow.
  """
  late = counts > counts[-1] / 4
  x, y = (np.array([part.mean() for part in np.array_split(a[late], 15)]) for a in (counts, held))
  fit = scipy.stats.linregress(x, y)
  return fit.slope, fit.stderr * scipy.stats.t.ppf(.975, len(x) - 2)


def _growth(samples, what):
  """(MB that a line through (counts [N], MB [N]) rises by over all, half of its 95 % interval,
  both in words)."""
  counts, held = samples
  growth, margin = (counts[-1] * value for value in _slope(counts, held))
  assert len(held) > 30
  kilo = max(abs(growth), margin) < .1
  said = (f'{1e3 * growth:+.1f} ± {1e3 * margin:.1f} kB' if kilo else
          f'{growth:+.2f} ± {margin:.2f} MB')
  return growth, margin, (f'{what}: {said} (95 %), {held[-1]:.0f} MB held in the end, '
                          f'{len(held)} samples')


def _assert_no_growth(growth, margin):
  """Not told from none, or from what an allocator does; nor so loosely that 2 MB would pass."""
  assert growth < 2.
  assert growth <= margin or growth + margin < NOISE


@pytest.mark.parametrize('kept, wobble, grows', [
  (0., .004, False), (1e-6, .004, False), (0., .04, False), (24e-6, .004, True),
  (24e-6, .04, True), (200e-6, .04, True)])
def test_growth_is_told_from_noise(kept, wobble, grows):
  """`kept` MB of each of 20,000 updates, and MB that an allocator holds more or less, in pages."""
  counts = np.linspace(100, 20_000, 220).round()
  noise = np.random.default_rng(0).choice([-1, 1], len(counts)) * wobble
  held = 366 + ((counts * kept + noise) / .004096).round() * .004096
  growth, margin, said = _growth((counts, held), 'updates')
  assert abs(growth - kept * 20_000) < .03
  assert ('MB (95 %)' if grows else 'kB (95 %)') in said
  with pytest.raises(AssertionError) if grows else contextlib.nullcontext():
    _assert_no_growth(growth, margin)


@pytest.mark.soak
@pytest.mark.parametrize('what, changes', [
  ('20,000 updates', UPDATES),
  ('1,000 evaluations', {'total_steps': 10_000, 'eval.every': 10, 'eval.best_metric': ''})],
  ids=['updates', 'evaluations'])
def test_memory_does_not_grow(tmp_path, record_property, what, changes):
  """But by what cannot be told from none, or from an allocator's pages."""
  samples = _memory_of_run(tmp_path / 'run', {'checkpoint.every': 0, **changes})
  growth, margin, said = _growth(samples, what)
  record_property('growth', said)
  _assert_no_growth(growth, margin)


@pytest.mark.soak
def test_memory_does_not_grow_where_freed_memory_is_kept(tmp_path, record_property):
  """As users have it: evaluations and saves between updates leave no holes that add up.

  Of 200 checkpoints Orbax keeps some 6 MB where freed memory is given back.
  """
  growth, _, said = _growth(
    _memory_of_run(tmp_path / 'run', {**UPDATES, 'eval.every': 200, 'checkpoint.every': 100},
                   env={}), '20,000 updates, 100 evaluations, 200 checkpoints')
  record_property('growth', said)
  assert growth < 15.   # MB


@pytest.mark.soak
def test_memory_that_a_run_keeps_is_seen(tmp_path, record_property):
  """Of a run that keeps some 70 bytes of each of its updates."""
  growth, margin, said = _growth(
    _memory_of_run(tmp_path / 'run', {'checkpoint.every': 0, **UPDATES}, 'tests.leaking'),
    '20,000 updates that keep 72 bytes each')
  record_property('growth', said)
  assert 1. < growth < 2.
  with pytest.raises(AssertionError):
    _assert_no_growth(growth, margin)


@pytest.mark.soak
def test_what_checkpoints_keep_that_are_evaluated(tmp_path, record_property):
  """By the evaluation binary, one after another: records, and the figures over all of them.

  Once caches are full, after a hundred, it is some 30 kB each, of which 12 are strings that
  TensorStore 0.1.86 leaves behind wherever it is asked what it opens (`Spec.to_json`).
  """
  run = tmp_path / 'run'
  changes = {'total_steps': 4000, 'eval.every': 0, 'checkpoint.every': 10,
             'checkpoint.keep_every': 10}
  with _running(run, changes) as process:
    assert process.wait(DEADLINE) == 0
  with subprocess.Popen(
      [sys.executable, '-m', 'mollification.evaluate', f'--workdir={run}', '--watch',
       '--metrics=nll'], cwd=ROOT, stdout=subprocess.DEVNULL,
      env={**os.environ, 'XLA_FLAGS': '', **GIVEN_BACK}) as process:
    growth, _, said = _growth(
      _memory_of(process, lambda: len(list(run.glob('records/log_likelihood-*')))),
      '400 checkpoints evaluated')
  record_property('growth', said)
  assert growth < 16.   # MB


@pytest.mark.soak
def test_what_checkpoints_keep_beside_orbax_alone(tmp_path, record_property):
  """Orbax keeps some 30 kB of each; a state here is of 400.

  Of Orbax alone the first 200 or so may fit into what a start has left free: it saves 800.
  """
  changes = {'total_steps': 2000, 'eval.every': 0, 'checkpoint.every': 10, 'model.widths': '(256,)'}
  ours, _, said = _growth(_memory_of_run(tmp_path / 'run', changes), '200 checkpoints')
  record_property('growth', said)
  bare, count = tmp_path / 'bare', tmp_path / 'count'
  with subprocess.Popen([sys.executable, '-m', 'tests.memory', str(bare), str(count), '800'],
                        cwd=ROOT, env={**os.environ, **GIVEN_BACK}) as process:
    alone, _, said = _growth(
      _memory_of(process, lambda: len(count.read_text()) if count.exists() else 0),
      'Orbax alone, 800 checkpoints')
  record_property('growth with Orbax alone', said)
  assert ours < 1.3 * alone * 200 / 800 + 2.   # MB; two records were a fifth above and as much
