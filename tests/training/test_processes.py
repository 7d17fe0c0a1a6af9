"""Several processes train one run: alike, bit for bit when repeated, from anybody's checkpoint."""
import json
import resource
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from mollification import build, metrics
from tests import several
from tests.training import tiny, topology

ROUNDING = 1e-5   # above what is left of terms of a few units that cancel


@pytest.fixture(autouse=True)
def _no_key_reuse_check():
  """It slows every eager operation of a checkpoint; test_step.py holds the update to it."""
  with jax.debug_key_reuse(False):
    yield


def _saved(path):
  with np.load(path) as archive:
    return dict(archive)


def _assert_alike(found, wanted):
  """Leaves of two states, to 1e-6; momentum, which may be in the hundreds, to that of its largest.

  That of a bias before a batch norm is no more than `ROUNDING`, and no more can be said of it.
  """
  assert found.keys() == wanted.keys()
  for name, a in found.items():
    largest = np.abs(wanted[name]).max()
    if name.startswith('opt_state') and 0 < largest < ROUNDING:
      assert np.abs(a).max() < ROUNDING, name
      continue
    atol = 1e-6 * max(1., largest if name.startswith('opt_state') else 1.)
    np.testing.assert_allclose(a, wanted[name], rtol=1e-6, atol=atol, err_msg=name)


def _assert_rows_alike(found, wanted):
  """One row per update in both, and the same figures in them to 1e-6."""
  assert [row['step'] for row in found] == [row['step'] for row in wanted] == list(range(1, 9))
  for a, b in zip(found, wanted):
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-6, atol=1e-6)


def _topology(task, folder, processes, devices, family='vae'):
  command = ['-m', 'tests.training.topology', f'--task={task}', f'--folder={folder}',
             f'--family={family}']
  for status, _, errors in several.run(command, processes, devices):
    assert status == 0, errors
  return _saved(folder / f'{task}.npz')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """(folder, here): what two processes did, and what this one's four devices did of the same."""
  folder = tmp_path_factory.mktemp('two')
  here = tmp_path_factory.mktemp('here')
  with jax.debug_key_reuse(False):
    straight = topology.straight(here, 'vae')
  _topology('everything', folder, 2, 1)
  return folder, topology.leaves(straight.state), tiny.rows(here / 'straight')


def test_two_processes_train_as_one_does(two):
  folder, leaves, rows = two
  said = [json.loads((folder / f'said-{i}.json').read_text()) for i in range(2)]
  assert said[0]['devices'] == 2
  assert [one['written'] for one in said] == [[*range(1, 9)] * 3, []]   # one writes
  _assert_alike(_saved(folder / 'everything.npz'), leaves)
  _assert_rows_alike(tiny.rows(folder / 'straight'), rows)
  assert {p.name for p in (folder / 'straight').iterdir()} == {'checkpoints', 'best',
                                                               'metrics.jsonl'}
  assert [p.name for p in (folder / 'straight' / 'best').iterdir()] == ['8']


def test_each_process_reads_its_part_of_the_batch(two):
  parts = [np.load(two[0] / f'batch-{i}.npy') for i in range(2)]
  assert [part.shape for part in parts] == [(2, 8, 8, 8, 1)] * 2
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), topology.run().batch(0, 2)[0])


def test_data_dependent_layers_are_initialised_on_the_global_batch(monkeypatch):
  """In each process: what GLOW's ActNorm makes of it is then the same on any devices."""
  seen, run = [], topology.run()
  monkeypatch.setattr(build.parallel, 'batch_share', lambda batch_size: slice(8, 16))
  monkeypatch.setattr(build, 'create_state', lambda config, batch, *rest: seen.append(batch))
  run.create_state()
  assert len(seen[0]) == 16
  np.testing.assert_array_equal(seen[0][8:], run.batch(0, 1)[0][0])


def test_of_a_large_global_batch_the_first_rows_alone_initialise(monkeypatch):
  """Each process has them all on one device, which may not hold the batch of a thousand."""
  seen, run = [], topology.run()
  monkeypatch.setattr(build, 'INIT_ROWS', 4)
  monkeypatch.setattr(build, 'create_state', lambda config, batch, *rest: seen.append(batch))
  run.create_state()
  np.testing.assert_array_equal(seen[0], run.batch(0, 1)[0][0, :4])


def test_a_request_in_one_process_stops_all_after_the_same_update(two):
  """`cut` asks in both at the third update; test_main_of_several asks one."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  assert [(one['reason'], one['cut']) for one in said] == [('preempted', 4)] * 2
  first, second = (_saved(two[0] / f'cut-{i}.npz') for i in range(2))
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_cut_run_of_two_processes_equals_the_straight_one(two):
  """Bit for bit, and one row per update."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  assert [one['same'] for one in said] == [True, True]
  assert tiny.rows(two[0] / 'cut') == tiny.rows(two[0] / 'straight')


def test_a_request_in_one_process_cuts_the_evaluation_of_all_short(two):
  """What it would have found is owed, and made up for: the rows are those of the straight run."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  assert [one['halted'] for one in said] == [['preempted', 4, 4]] * 2
  assert [one['batches'] for one in said] == [2, 2]   # of five, after which one was asked
  assert tiny.rows(two[0] / 'halted') == tiny.rows(two[0] / 'straight')


def test_one_process_goes_on_from_the_checkpoint_of_two(two, tmp_path):
  folder, leaves, rows = two
  shutil.copytree(folder / 'cut', tmp_path / 'cut')
  shutil.rmtree(tmp_path / 'cut' / 'checkpoints' / '8')
  state = topology.resume(tmp_path, 'vae').state
  _assert_alike(topology.leaves(state), leaves)
  _assert_rows_alike(tiny.rows(tmp_path / 'cut'), rows)


def test_an_error_in_one_process_is_one_of_all(two):
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  assert [one['together'] for one in said] == [
    'process 1 of 2 failed, and so the others stop; its own output says why.', 'no data here']
  assert [one['of_first'] for one in said] == [[0, 'ä']] * 2


def test_processes_of_other_configs_are_refused_in_all(two):
  """Each would go its own way, and checkpoints be read as damaged; where data lie may differ."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  for process, one in enumerate(said):
    assert one['configs'][0] == ''
    assert 'all processes must have the same config.optimizer, got {' in one['configs'][1]
    assert f"""learning_rate": {.1 * (1 + process)}""" in one['configs'][1]


def test_a_checkpoint_that_one_process_sees_late_is_waited_for(two):
  """Else one would save or delete, and wait for another, which has nothing to save or delete."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  assert [one['late'] for one in said] == [[[4, 8], [8]]] * 2


def test_checkpoints_that_one_process_never_sees_are_an_error_of_all(two):
  """As of workdirs that are not shared."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  for process, (one, steps) in enumerate(zip(said, ('[4, 8]', '[4]'))):
    assert 'all processes must have the same checkpoints in ' in one['unlike']
    assert f'got {steps} in process {process} ' in one['unlike']


def test_damage_that_one_process_sees_sends_all_to_the_checkpoint_before(two):
  """They read each by itself, and compare notes before any of them goes on."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text()) for i in range(2)]
  reasons = ['can be read here, but not by all processes: process 1 of 2 failed', 'cannot be read']
  for one, reason in zip(said, reasons):
    step, (warning, *others), error = one['damaged']
    assert (step, others) == (4, [])
    assert f'checkpoints {reason}' in warning
    assert warning.endswith(' Going on from step 4.')
    assert f'checkpoints {reason}' in error


@pytest.mark.parametrize('number', [
  signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_main_of_several_processes(number, tmp_path):
  """A signal to the second: both save after the same update and leave with 75; the first speaks."""
  with several.running(several.long_run(tmp_path), 2) as started:
    several.wait_for_rows(started, tmp_path)
    started[1].send_signal(number)
    (status, out, errors), (other, nothing, _) = several.ended(started)
  assert (status, other) == (75, 75), errors
  steps = [row['step'] for row in tiny.rows(tmp_path)]
  assert steps == list(range(1, len(steps) + 1))
  assert f'preempted after {len(steps):,} updates' in out
  assert 'preempted' not in nothing
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == [str(len(steps))]


@pytest.mark.slow
@pytest.mark.parametrize('asked, pause', [([0, 1], 0.), ([0, 1], 1.), ([1, 0], 1.), ([0], 0.),
                                          ([1], 0.)],
                         ids=['both', 'first to second', 'second to first', 'first', 'second'])
def test_signals_before_the_first_update_of_several_processes(asked, pause, tmp_path,
                                                              record_property):
  """Whoever is asked leaves with 75; the others are told by JAX's runtime, and end by an error.

  A scheduler's signals come one after another: none ends for another's end in between.
  """
  with several.running(several.long_run(tmp_path), 2) as started:
    # Both have joined then, so both listen, and build.
    several.wait_for((tmp_path / 'lock').exists, started)
    for process in asked:
      started[process].send_signal(signal.SIGTERM)
      begun = time.monotonic()
      time.sleep(pause if process == asked[0] else 0.)
    ended = several.ended(started)
  seconds = time.monotonic() - begun
  record_property('seconds from signal to exit', f'{seconds:.1f}')
  assert seconds < 120   # what README's recipes give
  # One of several goes on for seconds; where it comes to the first update by then, all save.
  saved = list((tmp_path / 'checkpoints').glob('*[0-9]'))
  for process, (status, _, errors) in enumerate(ended):
    if saved:
      assert status == 75
    elif process in asked:
      assert status == 75
      assert 'there was nothing new to save' in errors
    else:
      assert status in (1, -signal.SIGABRT), errors   # Python's, or that of JAX's runtime


@pytest.mark.slow
@pytest.mark.parametrize('asked', [[0, 1], [0], [1]], ids=['both', 'first', 'second'])
@pytest.mark.parametrize('task, rest', [('evaluating', {'valid', 'sample'}),
                                        ('drawing', {'sample'})])
def test_signals_while_several_processes_compile_what_is_due(two, task, rest, asked, tmp_path):
  """The state is on disk by then, though no save is due; the next start makes up for the rest."""
  command = ['-m', 'tests.training.topology', f'--task={task}', f'--folder={tmp_path}']
  with several.running(command, 2) as started:
    for process in {'evaluating': [0, 1], 'drawing': [0]}[task]:
      several.wait_for((tmp_path / f'begun-{process}').exists, started)
    for process in asked:
      started[process].send_signal(signal.SIGTERM)
    ended = several.ended(started)
  for process, (status, _, errors) in enumerate(ended):
    assert status in ((75,) if process in asked else (1, -signal.SIGABRT)), errors
  found, whole = tiny.rows(tmp_path / 'signalled'), tiny.rows(two[0] / 'straight')
  assert [path.name for path in (tmp_path / 'signalled' / 'checkpoints').iterdir()] == ['4']
  assert len(found) == 4
  assert 'valid' in _parts(whole[3])
  assert _parts(found[3]) == _parts(whole[3]) - rest
  _topology('signalled', tmp_path, 2, 1)
  found = tiny.rows(tmp_path / 'signalled')
  assert [_parts(found[at]) - _parts(whole[at]) for at in (3, 7)] == [{'sample'}] * 2
  assert [{name: value for name, value in row.items() if not name.startswith('sample/')}
          for row in found] == whole


def _parts(row):
  """{'step', 'train', 'valid', ...} of a row."""
  return {name.split('/')[0] for name in row}


@pytest.mark.slow
@pytest.mark.parametrize('writer', [0, 1])
def test_a_damaged_part_of_a_checkpoint_is_passed_over(two, tmp_path, writer):
  """Each process has written a part of it, and all read both; they go on from the one before."""
  folder, leaves, rows = two
  shutil.copytree(folder / 'cut', tmp_path / 'cut')
  arrays = tmp_path / 'cut' / 'checkpoints' / '8' / 'state' / f'ocdbt.process_{writer}' / 'd'
  for path in arrays.iterdir():
    path.write_bytes(path.read_bytes()[:20])
  _assert_alike(_topology('resume', tmp_path, 2, 1), leaves)
  _assert_rows_alike(tiny.rows(tmp_path / 'cut'), rows)
  for kind, names in (('checkpoints', {'4', '8'}), ('checkpoints.damaged', {'8-0'})):
    assert {path.name for path in (tmp_path / 'cut' / kind).iterdir()} == names


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
def test_a_disk_that_is_full_to_the_second_process_ends_all(tmp_path):
  """Soon after the save that finds it so, the last one too; it says why, and the first that it did.

  A limit on the size of its files stands for the disk: the first writes its part as ever. What was
  saved before stays, nothing else counts, and both go on from it once there is room.
  """
  command = several.long_run(tmp_path, '--config.checkpoint.every=10')
  saved = lambda: sorted(int(path.name) for path in (tmp_path / 'checkpoints').glob('*[0-9]'))
  for last in (False, True):
    rows = len(metrics.read_rows(tmp_path / 'metrics.jsonl'))
    with several.running(command, 2) as started:
      several.wait_for_rows(started, tmp_path, rows + 20)   # the second save waits for the first
      resource.prlimit(started[1].pid, resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
      before = saved()
      if last:
        started[0].send_signal(signal.SIGTERM)
      (first, _, told), (second, _, errors) = several.ended(started, 60)
    assert (first, second) == (1, 1), errors + told   # what hangs is ended by a signal
    assert 'File too large' in errors
    assert 'process 1 of 2 failed, and so the others stop' in told
    assert saved()[-1] <= before[-1] + 10   # the one under way may have had all that it needed
  with several.running(command, 2) as started:
    several.wait_for_rows(started, tmp_path, len(tiny.rows(tmp_path)) + 3)
    started[0].send_signal(signal.SIGTERM)
    for status, _, errors in several.ended(started):
      assert status == 75, errors
  assert not (tmp_path / 'checkpoints.damaged').exists()
  steps = [row['step'] for row in tiny.rows(tmp_path)]
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


MATRIX = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2)]   # (processes, devices of each)


@pytest.mark.slow
@pytest.mark.parametrize('family', ['vae', 'flow', 'flow-adam', 'glow'])
def test_any_topology_goes_on_from_any_other(family, tmp_path, record_property):
  """Each cuts a run that every one resumes; losses and states are those of the straight run."""
  wanted = topology.leaves(topology.straight(tmp_path, family).state)
  rows, differences = tiny.rows(tmp_path / 'straight'), np.zeros((len(MATRIX),) * 2)
  sources = [tmp_path / f'from-{i}' for i in range(len(MATRIX))]
  for source, (processes, devices) in zip(sources, MATRIX):
    source.mkdir()
    _topology('cut', source, processes, devices, family)
  for j, (processes, devices) in enumerate(MATRIX):
    target = tmp_path / f'on-{j}'
    for i, source in enumerate(sources):
      shutil.copytree(source / 'cut', target / f'cut-{i}')
    _topology('resume_each', target, processes, devices, family)   # in one start of the processes
    for i in range(len(MATRIX)):
      _assert_alike(_saved(target / f'{i}.npz'), wanted)
      found = tiny.rows(target / f'cut-{i}')
      _assert_rows_alike(found, rows)
      differences[i, j] = max(abs(a['train/loss'] / b['train/loss'] - 1)
                              for a, b in zip(found, rows))
  record_property('pairs', len(MATRIX) ** 2)
  record_property('largest relative difference of a loss', f'{differences.max():.1e}')
  for (processes, devices), row in zip(MATRIX, differences):
    record_property(f'saved on {processes}×{devices}',
                    ' / '.join(f'{difference:.1e}' for difference in row))


@pytest.mark.slow
def test_a_cut_run_of_two_processes_of_two_devices_ends_like_the_straight_one(tmp_path):
  """Bit for bit, as with one device in each in the fast tier."""
  _topology('everything', tmp_path, 2, 2)
  for i in range(2):
    said = json.loads((tmp_path / f'said-{i}.json').read_text())
    assert (said['devices'], said['same']) == (4, True)
  assert tiny.rows(tmp_path / 'cut') == tiny.rows(tmp_path / 'straight')


@pytest.mark.slow
def test_scanned_updates_of_padded_batches_are_those_of_one_process(tmp_path):
  """Two in a call, of a flow with BatchNorm; of the last batch the second process has nothing."""
  here = tmp_path / 'here'
  wanted = topology.leaves(topology.padded(here, 'flow').state)
  state = _topology('padded', tmp_path, 2, 2, 'flow')
  assert state.keys() == wanted.keys()
  for name, a in state.items():   # sums of other parts: by more than 1e-6 of a few statistics
    largest = max(1., np.abs(wanted[name]).max())
    np.testing.assert_allclose(a, wanted[name], rtol=1e-5, atol=1e-5 * largest)
  found, rows = (tiny.rows(folder / 'padded') for folder in (tmp_path, here))
  assert [row['step'] for row in found] == [2, 4, 6, 8]
  for a, b in zip(found, rows, strict=True):
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-6, atol=1e-6)


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
