"""Soak tier: killed at random moments, a run ends as if nothing had happened."""
import collections
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
import orbax.checkpoint as ocp
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


def _train(folder, changes):
  """The command of a run, with changes {config key: value}."""
  config = {'batch_size': 16, 'steps_per_call': 10, 'log.every': 10, 'log.stdout': False,
            'eval.sample_every': 0, 'model.widths': '(8,)', **changes}
  return [sys.executable, '-m', 'mollification.main', f'--workdir={folder}',
          '--config=configs/digits_vae.py', *(f'--config.{k}={v}' for k, v in config.items())]


def _start(folder, cache):
  """The run in `folder`; programs are compiled once for all, into `cache`."""
  return subprocess.Popen(_train(folder, SHORT), cwd=ROOT, stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL,
                          env={**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(cache),
                               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'})


def _newest(folder):
  """The newest row of a run; before its first, one of update 0."""
  return (metrics.read_rows(folder / 'metrics.jsonl') or [{'step': 0}])[-1]


def _kill(process):
  assert process.poll() is None
  process.kill()
  process.wait()


def _evaluates_next(row):
  return (row['step'] + 10) % SHORT['eval.every'] == 0


def _kill_after(process, folder, due, seconds):
  """Kill it so many `seconds` after it has written a row that is `due`; whether in an evaluation.

  There it is where the row that comes next is one, and has been due for two calls and more.
  """
  row, seen, until = _newest(folder), 0., None
  old = row['step']   # of the start before
  while until is None or time.monotonic() < until:
    assert process.poll() is None
    newest, now = _newest(folder), time.monotonic()
    if newest['step'] != row['step']:
      row, seen = newest, now
    if until is None and row['step'] > old and due(row):
      until = now + seconds
    time.sleep(.005)
  waited = time.monotonic() - seen
  _kill(process)
  return _evaluates_next(row) and waited > 20 * row.get('time/seconds_per_step', math.inf)


def _half_saved(folder):
  """{inode} of checkpoints that were cut: Orbax writes each beside its place."""
  return {path.stat().st_ino for kind in ('checkpoints', 'best')
          for path in folder.glob(f'{kind}/*tmp*')}


@pytest.mark.soak
def test_killed_runs_end_like_the_straight_one(tmp_path, record_property):
  """Killed as it starts (one time of five), evaluates (one of five), steps and saves, all along."""
  cache, straight, killed = (tmp_path / name for name in ('cache', 'straight', 'killed'))
  assert _start(straight, cache).wait() == 0
  chance, found = random.Random(0), collections.Counter()
  for kill in range(KILLS):
    before, process = _half_saved(killed), _start(killed, cache)
    kind, goal = chance.randrange(5), STEPS * (kill + chance.random()) / (KILLS + 2)
    if kind == 0:
      time.sleep(chance.uniform(0, 6.))
      _kill(process)
    else:
      due = lambda row, kind=kind, goal=goal: row['step'] >= goal and (
        kind > 1 or _evaluates_next(row))
      found['in an evaluation'] += _kill_after(process, killed, due, chance.uniform(0, .15))
    found['during a save'] += bool(_half_saved(killed) - before)
    found['with a best state'] += any(killed.glob('best/[0-9]*'))
    found[f'in quarter {1 + 4 * _newest(killed)["step"] // STEPS}'] += 1
  assert _start(killed, cache).wait() == 0
  record_property('kills', KILLS)
  for where, count in sorted(found.items()):
    record_property(f'of them {where}', count)
  assert min(found[where] for where in (
    'during a save', 'in an evaluation', 'with a best state', 'in quarter 4')) > 0
  assert tiny.rows(killed) == tiny.rows(straight)
  assert [row['step'] for row in tiny.rows(killed)] == list(range(10, STEPS + 1, 10))
  assert json.loads((killed / 'config.json').read_text())
  for kind in ('checkpoints', 'best'):
    jax.tree.map(np.testing.assert_array_equal,
                 *(tiny.newest(folder / kind) for folder in (killed, straight)))
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


def _growth(samples, record_property, what):
  """MB that a line through `samples`, (counts [N], MB [N]), rises by over all of them; recorded."""
  counts, held = samples
  growth, margin = (counts[-1] * value for value in _slope(counts, held))
  said = (f'{what}: {growth:+.2f} ± {margin:.2f} MB (95 %), {held[-1]:.0f} MB held in the end, '
          f'{len(held)} samples')
  record_property('growth', said)
  print(said)
  assert len(held) > 30
  return growth


@pytest.mark.soak
@pytest.mark.parametrize('what, changes', [
  ('20,000 updates', {'total_steps': 20_000, 'eval.every': 0}),
  ('1,000 evaluations', {'total_steps': 10_000, 'eval.every': 10, 'eval.best_metric': ''})],
  ids=['updates', 'evaluations'])
def test_memory_does_not_grow(tmp_path, record_property, what, changes):
  """By 4 MB in all. Kept of each update, 1 kB would be 20 MB."""
  command = _train(tmp_path, {'checkpoint.every': 0, **changes})
  assert _growth(_memory_over_updates(command, tmp_path), record_property, what) < 4.


def _memory_of_orbax(folder, saves, leaves):
  """(saves [N], MB [N]) of nothing but a manager that saves `leaves` over and over."""
  held = []
  options = ocp.CheckpointManagerOptions(max_to_keep=2)
  with ocp.CheckpointManager(folder, options=options) as manager:
    for step in range(saves):
      manager.save(step, args=ocp.args.StandardSave(leaves))
      manager.wait_until_finished()
      held.append(memory.own_mb())
  return np.arange(1, saves + 1), np.array(held)


@pytest.mark.soak
def test_checkpoints_keep_no_more_than_orbax_does(tmp_path, record_property):
  """Some 50 kB of each, whatever its size; a state here is of 400."""
  changes = {'total_steps': 2000, 'eval.every': 0, 'checkpoint.every': 10,
             'model.widths': '(256,)'}
  command = _train(tmp_path / 'run', changes)
  ours = _growth(_memory_over_updates(command, tmp_path / 'run'), record_property,
                 '200 checkpoints')
  _, state = tiny.newest(tmp_path / 'run' / 'checkpoints')
  orbax = _growth(_memory_of_orbax(tmp_path / 'bare', 200, jax.tree.leaves(state)),
                  record_property, 'of Orbax alone')
  assert ours < 1.5 * orbax + 4.
