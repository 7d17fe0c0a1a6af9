"""Soak tier: killed at random moments, a run ends as if nothing had happened."""
import json
import os
import pathlib
import random
import signal
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
KILLS = 50


def _train(folder, changes=None):
  """The command of a run, with changes {config key: value}."""
  config = {'total_steps': 60000, 'batch_size': 16, 'steps_per_call': 10, 'log.every': 10,
            'eval.every': 500, 'checkpoint.every': 100, 'log.stdout': False, 'eval.sample_every': 0,
            'model.widths': '(8,)', **(changes or {})}
  return [sys.executable, '-m', 'mollification.main', f'--workdir={folder}',
          '--config=configs/digits_vae.py', *(f'--config.{k}={v}' for k, v in config.items())]


def _start(folder, cache):
  """The run in `folder`; programs are compiled once for all, into `cache`."""
  return subprocess.Popen(_train(folder), cwd=ROOT, stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL,
                          env={**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(cache),
                               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'})


def _state(path):
  """(inode, size) of a file, (0, 0) of none: a run that starts puts a new one in its place."""
  return (path.stat().st_ino, path.stat().st_size) if path.exists() else (0, 0)


def _wait_for_a_row(process, path):
  """Until a run that has just been started has written one of its own, or has ended."""
  before, _ = inode, size = _state(path)
  while process.poll() is None:
    now, length = _state(path)
    if now != inode:
      inode, size = now, length
    elif inode != before and length > size:
      return
    time.sleep(.005)


def _half_saved(folder):
  """{inode} of checkpoints that were cut: Orbax writes each beside its place."""
  return {path.stat().st_ino for kind in ('checkpoints', 'best')
          for path in folder.glob(f'{kind}/*tmp*')}


@pytest.mark.soak
def test_killed_runs_end_like_the_straight_one(tmp_path, record_property):
  """Killed as it starts (one time of five), steps, evaluates and saves."""
  cache, killed = tmp_path / 'cache', tmp_path / 'killed'
  assert _start(tmp_path / 'straight', cache).wait() == 0
  chance, kills, saving = random.Random(0), 0, 0
  while kills < KILLS:
    before, process = _half_saved(killed), _start(killed, cache)
    if chance.random() < .2:
      time.sleep(chance.uniform(0, 6.))
    else:
      _wait_for_a_row(process, killed / 'metrics.jsonl')
      time.sleep(chance.uniform(0, .6))
    if process.poll() is not None:
      break
    process.send_signal(signal.SIGKILL)
    process.wait()
    kills += 1
    saving += bool(_half_saved(killed) - before)
  rest = len(tiny.rows(killed))
  assert _start(killed, cache).wait() == 0
  record_property('kills', kills)
  record_property('of them during a save', saving)
  record_property('rows before the last start', rest)
  assert kills == KILLS
  assert saving > 0
  assert tiny.rows(killed) == tiny.rows(tmp_path / 'straight')
  assert [row['step'] for row in tiny.rows(killed)] == list(range(10, 60001, 10))
  assert json.loads((killed / 'config.json').read_text())
  for kind in ('checkpoints', 'best'):
    jax.tree.map(np.testing.assert_array_equal,
                 *(tiny.newest(tmp_path / name / kind) for name in ('killed', 'straight')))
  record_property('rows and states that differ', 0)   # all of them are asserted equal above


def _memory_over_updates(command, folder):
  """(updates [N], MB [N]) of a run, some ten times a second, from its first row on."""
  process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
  samples = []
  while process.poll() is None:
    held = memory.own_mb(process.pid)
    rows = metrics.read_rows(folder / 'metrics.jsonl')
    samples += [(rows[-1]['step'], held)] if rows else []
    time.sleep(.05)
  assert process.returncode == 0
  last = samples[-1][0]   # with it the process ends, and gives memory back
  return np.array([sample for sample in samples if sample[0] < last]).T


def _slope(updates, held):
  """(MB per update, half of its 95 % interval), after the first quarter.

  Of the means of 15 stretches: samples that follow each other are alike, and would feign an
  interval that is too narrow.
  """
  late = updates > updates[-1] / 4
  x, y = (np.array([part.mean() for part in np.array_split(a[late], 15)]) for a in (updates, held))
  fit = scipy.stats.linregress(x, y)
  return fit.slope, fit.stderr * scipy.stats.t.ppf(.975, len(x) - 2)


@pytest.mark.soak
@pytest.mark.parametrize('what, count, limit, changes', [
  ('updates', 20_000, 4., {'total_steps': 20_000, 'eval.every': 0, 'checkpoint.every': 0}),
  ('evaluations', 1000, 4., {'total_steps': 10_000, 'eval.every': 10, 'checkpoint.every': 0,
                             'eval.best_metric': ''}),
  # Orbax and TensorStore keep 30 to 80 kB of each, whatever its size; a state is of 400.
  ('checkpoints', 200, 40., {'total_steps': 2000, 'eval.every': 0, 'checkpoint.every': 10,
                             'model.widths': '(256,)'})],
  ids=['updates', 'evaluations', 'checkpoints'])
def test_memory_does_not_grow(tmp_path, record_property, what, count, limit, changes):
  """By `limit` MB in all. Kept of each update, 1 kB would be 20 MB."""
  updates, held = _memory_over_updates(_train(tmp_path, changes), tmp_path)
  growth, margin = (changes['total_steps'] * value for value in _slope(updates, held))
  said = (f'{count:,} {what}: {growth:+.2f} ± {margin:.2f} MB (95 %), {held[-1]:.0f} MB held in '
          f'the end, {len(held)} samples')
  record_property('growth', said)
  print(said)
  assert len(held) > 30
  assert growth < limit
