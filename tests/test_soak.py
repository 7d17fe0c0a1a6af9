"""Soak tier: killed at random moments, a run ends as if nothing had happened."""
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mollification import measure, metrics
from mollification.training import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
KILLS = 8


def _train(folder):
  return [sys.executable, '-m', 'mollification.main', f'--workdir={folder}',
          '--config=configs/digits_vae.py:total_steps=4000,batch_size=16,steps_per_call=10',
          '--config.log.every=10', '--config.eval.every=500', '--config.checkpoint.every=100',
          '--config.eval.sample_every=0', '--config.model.widths=(8,)']


def _rows(folder):
  return [{k: v for k, v in row.items() if not k.startswith('time/')}
          for row in metrics.read_rows(folder / 'metrics.jsonl')]


def _newest(folder):
  """(step, state): every leaf of the newest checkpoint."""
  run = measure.open_run(folder.parent)
  with checkpoint.manager(folder, read_only=True) as manager:
    return checkpoint.restore(manager, run.template)


@pytest.mark.soak
def test_killed_runs_end_like_the_straight_one(tmp_path):
  subprocess.run(_train(tmp_path / 'straight'), cwd=ROOT, check=True, capture_output=True)
  chance, kills = random.Random(0), 0
  while kills < KILLS:
    process = subprocess.Popen(_train(tmp_path / 'killed'), cwd=ROOT, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)
    before = len(metrics.read_rows(tmp_path / 'killed' / 'metrics.jsonl'))
    while process.poll() is None and len(
        metrics.read_rows(tmp_path / 'killed' / 'metrics.jsonl')) <= before:
      time.sleep(.01)
    time.sleep(chance.uniform(0, .6))   # into a step, a save or an evaluation
    if process.poll() is not None:
      break
    process.send_signal(signal.SIGKILL)
    process.wait()
    kills += 1
  subprocess.run(_train(tmp_path / 'killed'), cwd=ROOT, check=True, capture_output=True)
  assert kills >= 3
  assert _rows(tmp_path / 'killed') == _rows(tmp_path / 'straight')
  assert [row['step'] for row in _rows(tmp_path / 'killed')] == list(range(10, 4001, 10))
  assert json.loads((tmp_path / 'killed' / 'config.json').read_text())
  for kind in ('checkpoints', 'best'):
    jax.tree.map(np.testing.assert_array_equal,
                 *(_newest(tmp_path / name / kind) for name in ('killed', 'straight')))
