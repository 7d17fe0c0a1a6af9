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

from mollification import metrics
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[1]
KILLS = 50


def _train(folder):
  return [sys.executable, '-m', 'mollification.main', f'--workdir={folder}',
          '--config=configs/digits_vae.py:total_steps=60000,batch_size=16,steps_per_call=10',
          '--config.log.every=10', '--config.eval.every=500', '--config.checkpoint.every=100',
          '--config.log.stdout=False', '--config.eval.sample_every=0', '--config.model.widths=(8,)']


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


@pytest.mark.soak
def test_killed_runs_end_like_the_straight_one(tmp_path, record_property):
  """Killed as it starts (one time of five), steps, evaluates and saves."""
  cache, killed = tmp_path / 'cache', tmp_path / 'killed'
  assert _start(tmp_path / 'straight', cache).wait() == 0
  chance, kills, saving = random.Random(0), 0, 0
  while kills < KILLS:
    process = _start(killed, cache)
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
    # Orbax writes a checkpoint beside its place; one that is found so was cut.
    saving += bool([*killed.glob('checkpoints/*tmp*'), *killed.glob('best/*tmp*')])
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


@pytest.mark.soak
def test_memory_does_not_grow(tmp_path, record_property):
  """Over 20,000 updates, 200 evaluations and 20 checkpoints, from a quarter of them on."""
  command = [arg for arg in _train(tmp_path) if 'checkpoint' not in arg and 'eval.every' not in arg]
  subprocess.run([*command, '--config.total_steps=20000', '--config.eval.every=100',
                  '--config.checkpoint.every=1000'], cwd=ROOT, check=True, capture_output=True)
  rows = metrics.read_rows(tmp_path / 'metrics.jsonl')
  assert len(rows) == 2000
  peaks = np.array([row['memory/host_peak_mb'] for row in rows])
  growth = peaks[-1] - peaks[len(peaks) // 4]
  record_property('MB at a quarter', float(peaks[len(peaks) // 4]))
  record_property('MB more at the end', float(growth))
  assert growth < .02 * peaks[-1]
