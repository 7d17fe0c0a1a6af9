"""Of several processes that train one run one is killed, or told to stop, or has no more disk."""
import resource
import signal
import time

import jax
import numpy as np
import pytest

from mollification import metrics
from tests import disk, several
from tests.training import tiny

pytestmark = pytest.mark.usefixtures('no_key_reuse_check')


@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 1])
def test_a_process_that_is_killed_ends_the_others(killed, tmp_path):
  """They do not wait for it until the end of days, and say what they miss."""
  with several.running(several.long_run(tmp_path), 2) as started:
    several.wait_for_rows(started, tmp_path)
    started[killed].kill()
    begun = time.monotonic()
    status, _, errors = several.ended(started)[1 - killed]
  assert time.monotonic() - begun < 120
  assert status not in (0, 75)
  assert 'Gloo' in errors


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, 'prlimit'), reason='only Linux limits another process')
@pytest.mark.parametrize('full, limit', [(1, 30_000), (0, 300_000)])
def test_a_disk_that_is_full_to_one_process_ends_all(tmp_path, full, limit):
  """Soon after the save that finds it so, the last one too; it says why, and the other that it did.

  A limit on the size of its files stands for the disk: the other writes its part as ever. What was
  saved before stays, nothing else counts, and both go on from it once there is room.
  """
  # (What the process says goes to a file, too, and is to fit, and rows of the first are: its part
  # of a checkpoint is not.)
  command = several.long_run(tmp_path, '--config.checkpoint.every=10',
                             '--config.model.widths=(2000,)')
  saved = lambda: sorted(int(path.name) for path in (tmp_path / 'checkpoints').glob('*[0-9]'))
  for last in (False, True):
    rows = len(metrics.read_rows(tmp_path / 'metrics.jsonl'))
    with several.running(command, 2) as started:
      several.wait_for_rows(started, tmp_path, rows + 20)   # the second save waits for the first
      several.wait_for(saved, started)
      resource.prlimit(started[full].pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
      before = saved()
      if last:
        started[0].send_signal(signal.SIGTERM)
      ended = several.ended(started, 60)
    (own, _, errors), (other, _, told) = ended[full], ended[1 - full]
    assert (own, other) == (1, 1), errors + told   # what hangs is ended by a signal
    assert 'File too large' in errors
    assert f'process {full} of 2 failed, and so the others stop' in told
    assert saved()[-1] <= before[-1] + 10   # the one under way may have had all that it needed
  _goes_on(command, tmp_path, len(tiny.rows(tmp_path)) + 3)


def _goes_on(command, folder, rows):
  """Two processes go on in `folder` until it has so many rows, and leave when one is asked.

  Nothing is missing, twice there, or damaged then.
  """
  with several.running(command, 2) as started:
    several.wait_for_rows(started, folder, rows)
    started[0].send_signal(signal.SIGTERM)
    for status, _, errors in several.ended(started):
      assert status == 75, errors
  assert not (folder / 'checkpoints.damaged').exists()
  steps = [row['step'] for row in tiny.rows(folder)]
  assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_two_processes_that_lose_one_end_like_the_straight_run(tmp_path, record_property):
  """kill -9 of the first and the second in turn; each time both are started again.

  Rows, states and pictures are the same, and one process of each start writes events.
  """
  command = lambda name: [
    '-m', 'mollification.main', f'--workdir={tmp_path / name}',
    '--config=configs/digits_vae.py:total_steps=200,batch_size=16,steps_per_call=1',
    '--config.log.every=1', '--config.eval.every=50', '--config.eval.sample_every=50',
    '--config.checkpoint.every=10', '--config.log.stdout=False', '--config.model.widths=(8,)',
    '--config.log.tensorboard=True']
  for status, _, errors in several.run(command('straight'), 2):
    assert status == 0, errors
  for kill in range(4):
    goal = 40 * kill + 25   # rows that are there at the kill, at the least
    with several.running(command('killed'), 2) as started:
      several.wait_for_rows(started, tmp_path / 'killed', goal)
      started[kill % 2].kill()
      assert several.ended(started)[1 - kill % 2][0] not in (0, 75)
  for status, _, errors in several.run(command('killed'), 2):
    assert status == 0, errors
  killed, straight = tmp_path / 'killed', tmp_path / 'straight'
  assert tiny.rows(killed) == tiny.rows(straight)
  assert [row['step'] for row in tiny.rows(killed)] == list(range(1, 201))
  for kind in ('checkpoints', 'best'):
    jax.tree.map(np.testing.assert_array_equal,
                 *(tiny.newest(folder / kind) for folder in (killed, straight)))
  pictures = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.png')}
              for folder in (killed, straight)]
  assert len(list((straight / 'samples').iterdir())) == 4
  assert pictures[0] == pictures[1]
  events = [len(list((folder / 'tensorboard').iterdir())) for folder in (killed, straight)]
  assert events[1] == 1
  assert 1 < events[0] <= 5   # of each start one at most
  record_property('kills', 4)
  record_property('rows, states and pictures that differ', 0)   # all are asserted equal above


# Of some 200 MB, parameters and Adam's moments, a save takes long enough to be met.
WIDE = '--config.model.widths=(3000, 3000)'


@pytest.mark.slow
@pytest.mark.parametrize('asked', [0, 1], ids=['first', 'second'])
def test_a_signal_during_a_save_of_several_processes_loses_nothing(asked, tmp_path,
                                                                   record_property):
  """Saves are under way all the time: what was is finished, and one of the last update follows."""
  command = several.long_run(tmp_path, WIDE, '--config.checkpoint.every=1')
  taken = []
  for _ in range(2):
    rows = len(metrics.read_rows(tmp_path / 'metrics.jsonl'))
    with several.running(command, 2) as started:
      several.wait_for_rows(started, tmp_path, rows + 3)
      several.wait_for(lambda: any(_under_way(tmp_path)), started)
      started[asked].send_signal(signal.SIGTERM)
      begun = time.monotonic()
      for status, _, errors in several.ended(started):
        assert status == 75, errors
    taken.append(time.monotonic() - begun)
    assert not list(_under_way(tmp_path))
    steps = [row['step'] for row in tiny.rows(tmp_path)]
    assert steps == list(range(1, len(steps) + 1))
    assert max(int(path.name) for path in (tmp_path / 'checkpoints').iterdir()) == len(steps)
  assert not (tmp_path / 'checkpoints.damaged').exists()
  record_property('seconds from signal to exit', f'{max(taken):.1f}')
  assert max(taken) < 15   # what GKE gives a Spot pod


@pytest.mark.slow
@pytest.mark.usefixtures('sigint_is_heard')
def test_a_second_signal_ends_several_processes_at_once_and_leaves_what_was_saved(tmp_path):
  """While they save to a disk that never ends to write, so that neither has left before it."""
  command = several.long_run(tmp_path, '--config.checkpoint.every=5')
  _goes_on(command, tmp_path, 8)
  saved = sorted((tmp_path / 'checkpoints').iterdir())
  with several.running(['-c', disk.HANGING, *command[2:]], 2) as started:
    several.wait_for_rows(started, tmp_path, len(tiny.rows(tmp_path)) + 3)
    for number in (signal.SIGTERM, signal.SIGINT):   # two of one kind may come as one
      for process in started:
        process.send_signal(number)
    begun = time.monotonic()
    statuses = [status for status, _, _ in several.ended(started)]
  assert time.monotonic() - begun < 10
  assert set(statuses) <= {128 + signal.SIGINT, -signal.SIGINT}
  assert set(saved) <= set((tmp_path / 'checkpoints').iterdir())
  _goes_on(command, tmp_path, len(tiny.rows(tmp_path)) + 3)


def _under_way(folder):
  """Checkpoints that are being written: they have another name until they are whole."""
  return (path for path in (folder / 'checkpoints').glob('*') if not path.name.isdecimal())


@pytest.mark.slow
def test_the_notice_of_a_scheduler_stops_all(tmp_path):
  """JAX's pre-emption service, which listens for SIGTERM where nobody else does."""
  with several.running(['-m', 'tests.training.topology', '--task=endless',
                        f'--folder={tmp_path}'], 2) as started:
    several.wait_for_rows(started, tmp_path / 'endless')
    started[1].send_signal(signal.SIGTERM)
    for status, _, errors in several.ended(started):
      assert status == 0, errors
  reasons = [(tmp_path / f'reason-{i}').read_text() for i in range(2)]
  assert reasons[0] == reasons[1]
  assert reasons[0].startswith('preempted')
