"""Damaged checkpoints: noticed, passed over, kept aside; the run ends as if nothing had been."""
import errno
import gc
import os
import pathlib
import re
import shutil
import threading
import time
import types
import warnings

import jax
import numpy as np
import pytest

from mollification.training import checkpoint, loop
from tests.training import tiny

# Orbax drops the reads that it had begun when the first one fails, and Python says so.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def _arrays(folder):
  """The files that hold arrays; Orbax leaves others that nobody reads again."""
  return sorted((folder / 'state' / 'ocdbt.process_0' / 'd').iterdir())


def _truncate(folder):
  for path in _arrays(folder):
    path.write_bytes(path.read_bytes()[:20])


def _remove(folder):
  for path in _arrays(folder):
    path.unlink()


def _remove_digest(folder):
  (folder / 'sha256' / 'sha256').unlink()


def _cut_digest(folder):
  path = folder / 'sha256' / 'sha256'
  path.write_text(path.read_text()[:20])


def _flip_bits(folder):
  """Some in each file, parts of which nobody reads; Orbax checks its index, not its contents."""
  for path in _arrays(folder):
    content = bytearray(path.read_bytes())
    for i in range(20, len(content), 50):
      content[i] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture(autouse=True)
def dropped_reads():
  """Said within the test that dropped them, not in whichever one runs when they are collected."""
  yield
  gc.collect()


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """(folder, final state) of a run that nothing happened to."""
  folder = tmp_path_factory.mktemp('straight')
  return folder, loop.train(tiny.run(), folder).state


@pytest.fixture
def folder(straight, tmp_path):
  """A copy of its workdir. TensorStore caches what this process wrote or read, by path."""
  return shutil.copytree(straight[0], tmp_path / 'copy')


@pytest.mark.parametrize('damage', [_truncate, _remove, _flip_bits])
def test_a_run_goes_on_from_the_one_before_a_damaged_checkpoint(straight, folder, damage):
  damage(folder / 'checkpoints' / '8')
  with pytest.warns(UserWarning, match=r'checkpoint 8 .* cannot be read .* from step 4'):
    state = loop.train(tiny.run(), folder).state
  jax.tree.map(np.testing.assert_array_equal, state, straight[1])
  assert (folder / 'checkpoints.damaged' / '8-0').is_dir()
  with checkpoint.manager(folder / 'checkpoints', read_only=True) as manager:
    assert sorted(manager.all_steps()) == [4, 8]   # step 8 was saved anew


def _halve(path):
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _flip_one_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize('damage', [pathlib.Path.unlink, _halve, _flip_one_bit])
def test_any_file_of_a_checkpoint_may_be_damaged(straight, tmp_path, damage):
  """The state is that which was saved, or that of the checkpoint before; nothing else is read."""
  with checkpoint.manager(straight[0] / 'checkpoints', read_only=True) as manager:
    saved = {step: checkpoint.restore(manager, straight[1], step)[1] for step in (4, 8)}
  newest = straight[0] / 'checkpoints' / '8'
  names = [path.relative_to(newest) for path in sorted(newest.rglob('*')) if path.is_file()]
  read = []
  for i, name in enumerate(names):   # a path each: TensorStore caches by it
    folder = shutil.copytree(straight[0] / 'checkpoints', tmp_path / f'{i}')
    damage(folder / '8' / name)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', UserWarning)
      with checkpoint.manager(folder, read_only=True) as manager:
        step, state = checkpoint.restore(manager, straight[1])
    jax.tree.map(np.testing.assert_array_equal, state, saved[step])
    read.append(step)
  assert set(read) == {4, 8}   # parts of it nobody reads again


def test_a_save_that_was_killed_leaves_nothing_for_good(folder):
  """Orbax alone replaces it where the same step is saved again, which after a signal is rare."""
  half = folder / 'checkpoints' / '7.orbax-checkpoint-tmp'
  shutil.copytree(folder / 'checkpoints' / '8', half)
  with checkpoint.manager(folder / 'checkpoints', read_only=True) as manager:   # as evaluate has it
    assert sorted(manager.all_steps()) == [4, 8]
  assert half.exists()
  shutil.rmtree(folder / 'checkpoints' / '8')   # so that there is something to save
  loop.train(tiny.run(), folder)
  assert {path.name for path in half.parent.iterdir()} == {'4', '8'}


def test_a_checkpoint_without_files_is_passed_over(straight, folder):
  """They were never written, or are gone."""
  shutil.rmtree(folder / 'checkpoints' / '8')
  (folder / 'checkpoints' / '8').mkdir()
  with (checkpoint.manager(folder / 'checkpoints', read_only=True) as manager,
        pytest.warns(UserWarning, match='from step 4')):
    assert checkpoint.restore(manager, straight[1])[0] == 4


def test_only_checkpoints_that_are_all_damaged_stop_a_run_and_stay_where_they_are(folder):
  for step in ('4', '8'):
    _flip_bits(folder / 'checkpoints' / step)
  with pytest.raises(ValueError, match=r'checkpoint 8 .* move it away'):
    loop.train(tiny.run(), folder)
  assert sorted(p.name for p in (folder / 'checkpoints').iterdir()) == ['4', '8']


def test_readers_pass_over_a_damaged_checkpoint_and_move_nothing(straight, folder):
  _remove(folder / 'checkpoints' / '8')
  with checkpoint.manager(folder / 'checkpoints', read_only=True) as manager:
    with pytest.warns(UserWarning, match='from step 4'):
      assert checkpoint.restore(manager, straight[1])[0] == 4
    with pytest.raises(ValueError, match=r'checkpoint 8 .* damaged'):
      checkpoint.restore(manager, straight[1], 8)
  assert (folder / 'checkpoints' / '8').is_dir()


def test_bytes_that_are_not_those_saved_are_noticed_where_they_can_be_read(tmp_path, monkeypatch):
  """A flip that decompresses: one bit of one number."""
  state = {'a': np.arange(4.), 'b': np.ones(3, np.float32)}
  flipped = [np.array([0., 1., 2., np.nextafter(3., 4.)]), state['b']]
  with checkpoint.manager(tmp_path) as manager:
    with monkeypatch.context() as patch:
      digest = checkpoint._sha256
      patch.setattr(checkpoint, '_sha256', lambda arrays: digest(flipped))
      checkpoint.save(manager, 1, state)
      manager.wait_until_finished()
    with pytest.raises(ValueError, match='its bytes are not those that were saved'):
      checkpoint.restore(manager, state)


def _behind(error):
  """An error of a library's own, raised from `error`."""
  own = RuntimeError('could not be opened')
  own.__cause__ = error
  return own


@pytest.mark.parametrize('error', [
  MemoryError('no room'), jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'),
  ValueError('RESOURCE_EXHAUSTED: as tensorstore says it'),
  *(OSError(number, os.strerror(number)) for number in (errno.ESTALE, errno.EMFILE)),
  ValueError(f'FAILED_PRECONDITION: opening a: {os.strerror(errno.EACCES)}'),
  _behind(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))], ids=str)
def test_what_is_wrong_with_a_host_damages_no_checkpoint(folder, monkeypatch, error):
  """Memory, open files, a server that is away: the newest would be moved aside for nothing."""
  read_one = checkpoint._state_and_digest

  def read(manager, step, wanted):
    if step == 8:
      raise error
    return read_one(manager, step, wanted)

  monkeypatch.setattr(checkpoint, '_state_and_digest', read)
  with pytest.raises(type(error), match=re.escape(str(error))):
    loop.train(tiny.run(), folder)
  assert sorted(p.name for p in (folder / 'checkpoints').iterdir()) == ['4', '8']
  assert not (folder / 'checkpoints.damaged').exists()


def test_an_error_that_does_not_come_again_damages_no_checkpoint(folder, straight, monkeypatch):
  """As of a mount that fails once."""
  read_one, read = checkpoint._state_and_digest, []

  def fail_once(manager, step, wanted):
    read.append(step)
    if len(read) == 1:
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return read_one(manager, step, wanted)

  monkeypatch.setattr(checkpoint, '_state_and_digest', fail_once)
  with checkpoint.manager(folder / 'checkpoints', read_only=True) as manager:
    assert checkpoint.restore(manager, straight[1])[0] == 8
  assert read == [8, 8]


@pytest.mark.parametrize('first', [True, False])
def test_what_the_digest_is_of_leaves_the_devices_of_the_first_process_alone(monkeypatch, first):
  asked = []
  fake = types.SimpleNamespace(
    all_steps=lambda: [], failed=False, wait_until_finished=lambda: None,
    save=lambda step, *, force, args: asked.append(args))
  monkeypatch.setattr(checkpoint.parallel, 'is_first', lambda: first)
  checkpoint.save(fake, 1, jax.device_put({'a': np.arange(4.), 'b': np.ones(3, np.float32)}))
  assert [len(args['sha256'].arrays) for args in asked] == [2 if first else 0]


@pytest.mark.parametrize('damage', [_remove_digest, _cut_digest])
def test_a_checkpoint_without_a_whole_digest_is_passed_over(straight, folder, damage):
  damage(folder / 'checkpoints' / '8')
  with checkpoint.manager(folder / 'checkpoints', read_only=True) as manager, \
      pytest.warns(UserWarning, match=r'checkpoint 8 .* cannot be read .* from step 4'):
    assert checkpoint.restore(manager, straight[1])[0] == 4


def _until_written(folder):
  """Wait until the arrays of a save under way in `folder` are on disk: their index comes last."""
  until = time.monotonic() + 60
  while not list(folder.glob('*-tmp*/state*/ocdbt.process_0/manifest.ocdbt')):
    assert time.monotonic() < until
    time.sleep(.01)


def test_killed_between_state_and_digest_there_is_no_checkpoint(tmp_path, monkeypatch):
  """Its folder takes its name after both; what lies there before is no step to any reader."""
  state, written, killed = {'a': np.arange(4.)}, tmp_path / 'written', tmp_path / 'killed'
  digest, proceed = checkpoint._sha256, threading.Event()
  with checkpoint.manager(written) as manager:
    checkpoint.save(manager, 1, state)
    manager.wait_until_finished()
    monkeypatch.setattr(checkpoint, '_sha256', lambda arrays: proceed.wait(60) and digest(arrays))
    try:
      checkpoint.save(manager, 2, state)
      _until_written(written)
      time.sleep(1)   # a save that did not wait for the digest would end now
      shutil.copytree(written, killed)   # what kill -9 would leave
    finally:
      proceed.set()
  for folder, steps in ((killed, [1]), (written, [1, 2])):
    assert checkpoint.steps(folder) == steps
    with checkpoint.manager(folder) as manager:
      assert sorted(manager.all_steps()) == steps
      assert checkpoint.restore(manager, state)[0] == steps[-1]


def test_a_digest_that_cannot_be_written_is_an_error_and_no_checkpoint(tmp_path, monkeypatch):
  """That of the thread, where the save is waited for."""
  def no_space(arrays):
    raise OSError('no space left')
  monkeypatch.setattr(checkpoint, '_sha256', no_space)
  manager = checkpoint.manager(tmp_path)
  checkpoint.save(manager, 1, {'a': np.arange(4.)})
  with pytest.raises(OSError, match='no space left'):
    manager.wait_until_finished()
  manager.close()
  with checkpoint.manager(tmp_path, read_only=True) as manager:
    assert not manager.all_steps()


def test_a_state_that_is_given_away_while_it_is_saved_is_saved_as_it_was(tmp_path, monkeypatch):
  """The next update may write over its buffers before the digest is taken."""
  digest, proceed = checkpoint._sha256, threading.Event()
  monkeypatch.setattr(checkpoint, '_sha256', lambda arrays: proceed.wait(60) and digest(arrays))
  update = jax.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree), donate_argnums=0)
  state = jax.device_put({'a': np.arange(1e5, dtype=np.float32), 'b': np.float32(3)})
  expected = jax.device_get(jax.tree.map(np.copy, state))
  with checkpoint.manager(tmp_path) as manager:
    checkpoint.save(manager, 1, state)
    state = jax.block_until_ready(update(update(state)))
    proceed.set()
    manager.wait_until_finished()
    restored = checkpoint.restore(manager, state)
  jax.tree.map(np.testing.assert_array_equal, restored, (1, expected))


def test_a_digest_saved_in_the_foreground_is_read_back(tmp_path):
  handler, arrays = checkpoint._DigestHandler(), [np.arange(6.), np.ones(2, np.int32)]
  handler.save(tmp_path, checkpoint._Digest(arrays))
  assert handler.restore(tmp_path) == checkpoint._sha256(arrays)
