"""What breaks around a run: the disk, the folder, the data, the device; and what hangs."""
import dataclasses
import errno
import gc
import os
import pathlib
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from configs import synthetic_realnvp
from mollification import build, metrics
from mollification.evaluation import batching
from mollification.training import checkpoint, loop, watchdog, workdir
from tests import disk
from tests.training import tiny

# Orbax drops the writes that it had begun when one fails, and Python says so.
pytestmark = [pytest.mark.usefixtures('no_key_reuse_check'),
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]


@pytest.fixture(autouse=True)
def dropped_writes():
  """Said within the test that dropped them, not in whichever one runs when they are collected."""
  yield
  gc.collect()


@pytest.fixture
def small_disk(tmp_path):
  """A disk of its own of 2 MB."""
  with disk.mounted(tmp_path / 'disk', megabytes=2) as folder:
    yield folder


def _full_from(run, step, folder):
  """`run` that finds the disk of `folder` full from its update `step` on."""
  def batch(first, count):
    if first == step:
      disk.fill(folder)
    return run.batch(first, count)
  return dataclasses.replace(run, batch=batch)


@pytest.mark.parametrize('log_every', [1, 8], ids=['row', 'checkpoint'])
def test_a_run_whose_disk_is_full_says_so_and_goes_on_once_there_is_room(
    small_disk, tmp_path, log_every):
  """Whether a row or a checkpoint is the first that finds no room."""
  run = tiny.run(log__every=log_every, eval__every=0, checkpoint__every=4)
  straight = loop.train(run, tmp_path / 'straight')
  folder = small_disk / 'run'
  with pytest.raises(Exception, match=r'(?i)no space left'):
    loop.train(_full_from(run, 5, small_disk), folder)
  assert not (folder / 'checkpoints' / '8').exists()
  disk.free(small_disk)
  resumed = loop.train(run, folder)
  jax.tree.map(np.testing.assert_array_equal, resumed.state, straight.state)
  assert tiny.rows(folder) == tiny.rows(tmp_path / 'straight')


def test_a_save_that_fails_ends_the_run_with_the_call_after(tmp_path, monkeypatch):
  """What comes until the next save would be lost."""
  def no_room(arrays):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  run = tiny.run(eval__every=0, checkpoint__every=4)

  def after_the_save(first, count):
    while first == 6 and any(thread.name == 'save_finalize' for thread in threading.enumerate()):
      time.sleep(.01)
    return run.batch(first, count)

  monkeypatch.setattr(checkpoint, '_sha256', no_room)
  with pytest.raises(OSError, match='No space left'):
    loop.train(dataclasses.replace(run, batch=after_the_save), tmp_path)
  assert 5 <= tiny.rows(tmp_path)[-1]['step'] <= 7   # the next save is due after 8


def test_a_run_without_room_for_a_row_goes_on_once_there_is_some(tmp_path, monkeypatch):
  """The same where no disk can be mounted."""
  write = metrics.JsonlWriter.write

  def no_room_for_the_sixth(self, step, values):
    if step == 6:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(self, step, values)

  run = tiny.run(eval__every=0, checkpoint__every=4)
  straight = loop.train(run, tmp_path / 'straight')
  monkeypatch.setattr(metrics.JsonlWriter, 'write', no_room_for_the_sixth)
  with pytest.raises(OSError, match='No space left'):
    loop.train(run, tmp_path / 'run')
  assert [row['step'] for row in tiny.rows(tmp_path / 'run')] == [1, 2, 3, 4, 5]
  monkeypatch.undo()
  resumed = loop.train(run, tmp_path / 'run')
  jax.tree.map(np.testing.assert_array_equal, resumed.state, straight.state)
  assert tiny.rows(tmp_path / 'run') == tiny.rows(tmp_path / 'straight')


def test_a_workdir_on_a_disk_that_is_read_only(small_disk):
  """Refused in one line, at once, also where it holds a run."""
  (small_disk / 'run').mkdir()
  (small_disk / 'run' / 'lock').touch()
  subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
  for folder in ('run', 'new'):
    with pytest.raises(PermissionError, match=r'cannot be written: Read-only file system; choose '
                       'another --workdir'), workdir.lock(small_disk / folder):
      pass


def test_an_error_of_the_disk_under_the_lock_is_one_of_the_workdir(tmp_path, monkeypatch):
  """The same where no disk can be mounted."""
  def no_write(self, mode='r'):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
  monkeypatch.setattr(pathlib.Path, 'open', no_write)
  with pytest.raises(PermissionError, match='cannot be written: Read-only'), \
      workdir.lock(tmp_path):
    pass


def _with_nan(bad, where=slice(None)):
  """A run of 6 updates whose updates `bad` (from 0) a device spoils; at most one in a row."""
  config = synthetic_realnvp.get_config('batch_size=16,steps_per_call=1,total_steps=6')
  config.update_from_flattened_dict({'log.every': 1, 'eval.every': 0, 'checkpoint.every': 0,
                                     'eval.best_metric': '', 'model.num_blocks': 1})
  run = build.build(config)

  def batch(first, count):
    rows, cond, mask = run.batch(first, count)
    if first in bad:
      rows = rows.copy()
      rows[:, where] = np.nan
    return rows, cond, mask
  return dataclasses.replace(run, batch=batch, max_nonfinite=2)


@pytest.mark.parametrize('where', [slice(None), slice(-1, None)], ids=['all', 'the last'])
def test_devices_that_return_nan_now_and_then_cost_these_updates(tmp_path, where):
  """Whether all of them do, or one."""
  assert jax.local_device_count() > 1
  outcome = loop.train(_with_nan((2, 4), where), tmp_path)
  assert outcome.reason == 'finished'
  assert (int(outcome.state.step), int(outcome.state.skipped)) == (6, 2)
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(outcome.state.params))
  rows = tiny.rows(tmp_path)
  assert [row['train/skipped'] for row in rows] == [0, 0, 1, 1, 2, 2]
  assert [np.isfinite(float(row['train/loss'])) for row in rows] == [
    True, True, False, True, False, True]


def test_a_device_that_returns_nan_twice_in_a_row_ends_the_run(tmp_path):
  with pytest.raises(loop.Diverged, match='2 updates in a row up to update 4'):
    loop.train(_with_nan((2, 3)), tmp_path)


def test_a_hung_input_is_shown_and_the_run_goes_on(tmp_path, monkeypatch):
  """The stacks, once, name the place; the run ends as ever."""
  with (tmp_path / 'stderr').open('w+') as stderr:
    monkeypatch.setattr(sys, '__stderr__', stderr)
    run = tiny.run(eval__every=0, log__watchdog=.5, total_steps=4)

    def slow_storage(first, count):
      if first == 2:
        time.sleep(2)
      return run.batch(first, count)

    assert loop.train(dataclasses.replace(run, batch=slow_storage), tmp_path).reason == 'finished'
    stderr.seek(0)
    said = stderr.read()
  hung = said[said.index('since update 1; all threads (log.watchdog)'):]
  assert said.count('since update 1;') == 1
  assert 'in slow_storage' in hung


def test_evaluations_and_pictures_are_signs_of_life(tmp_path, monkeypatch):
  """Batch by batch: each of them may take as long as the watchdog waits, and the rest as well."""
  heard = []
  monkeypatch.setattr(watchdog.Watchdog, 'alive', lambda self, what: heard.append(what))
  run = tiny.run(eval__sample_every=8, eval__batch_size=100, eval__num_samples=16)

  def marked(name):
    fn = getattr(run, name)
    return lambda state: (heard.append(f'{name} begins'), fn(state))[1]

  loop.train(dataclasses.replace(run, evaluate=marked('evaluate'), sample=marked('sample')),
             tmp_path)
  end = heard[heard.index('evaluate begins', heard.index('evaluate begins') + 1):]
  assert end == [
    'evaluate begins', *['a batch of the evaluation after update 8'] * 2,   # 180 examples
    'the evaluation after update 8',
    'sample begins', *['a batch of the pictures after update 8'] * 3,   # of three kinds
    'the pictures after update 8']
  # The first of them are saved before: they are to be compiled.
  for step, what in ((4, 'evaluate begins'), (8, 'sample begins')):
    assert heard.index(f'the save after update {step}') < heard.index(what)
  assert heard.index('the save after update 4') < heard.index('update 5')
  heard.clear()
  next(batching.map_rows(lambda context, index: index, (), 4, 4))
  assert not heard   # nobody listens outside


def test_a_watchdog_that_is_off_or_fed_says_nothing(tmp_path):
  with (tmp_path / 'said').open('w+') as stream:
    with watchdog.Watchdog(0., stream):
      time.sleep(.3)
    with watchdog.Watchdog(.5, stream) as dog:
      for i in range(8):
        dog.alive(f'update {i}')
        time.sleep(.1)
    assert stream.tell() == 0
