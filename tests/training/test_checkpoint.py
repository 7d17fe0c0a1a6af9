"""Damaged checkpoints: noticed, passed over, kept aside; the run ends as if nothing had been."""
import gc
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mollification.training import checkpoint, loop
from tests.training import tiny

# Orbax drops the reads that it had begun when the first one fails, and Python says so.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def _arrays(folder):
  """The files that hold arrays; Orbax leaves others that nobody reads again."""
  return sorted((folder / 'default' / 'ocdbt.process_0' / 'd').iterdir())


def _truncate(folder):
  for path in _arrays(folder):
    path.write_bytes(path.read_bytes()[:20])


def _remove(folder):
  for path in _arrays(folder):
    path.unlink()


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


def test_bytes_that_are_not_those_saved_are_noticed_where_they_can_be_read(tmp_path):
  """A flip that decompresses: one bit of one number."""
  state = {'a': np.arange(4.), 'b': np.ones(3, np.float32)}
  flipped = {**state, 'a': np.array([0., 1., 2., np.nextafter(3., 4.)])}
  with checkpoint.manager(tmp_path) as manager:
    manager.save(1, args=ocp.args.StandardSave(
      {'state': flipped, 'sha256': checkpoint._sha256(state)}))
    manager.wait_until_finished()
    with pytest.raises(ValueError, match='its bytes are not those that were saved'):
      checkpoint.restore(manager, state)
