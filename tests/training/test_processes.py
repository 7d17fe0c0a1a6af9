"""Several processes train one run: alike, bit for bit when repeated, from anybody's checkpoint."""
import json
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from mollification import build
from tests import several
from tests.training import alike, tiny, topology

pytestmark = pytest.mark.usefixtures('no_key_reuse_check')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """(folder, here): what two processes did, and what this one's four devices did of the same."""
  folder = tmp_path_factory.mktemp('two')
  here = tmp_path_factory.mktemp('here')
  with jax.debug_key_reuse(False):
    straight = topology.straight(here, 'vae')
  alike.task('everything', folder, 2, 1)
  return folder, topology.leaves(straight.state), tiny.rows(here / 'straight')


def test_two_processes_train_as_one_does(two):
  folder, leaves, rows = two
  said = [json.loads((folder / f'said-{i}.json').read_text()) for i in range(2)]
  assert said[0]['devices'] == 2
  assert [one['written'] for one in said] == [[*range(1, 9)] * 3, []]   # one writes
  alike.assert_states(alike.saved(folder / 'everything.npz'), leaves)
  alike.assert_rows(tiny.rows(folder / 'straight'), rows)
  assert {p.name for p in (folder / 'straight').iterdir()} == {'checkpoints', 'best',
                                                               'metrics.jsonl'}
  assert {p.name for p in (folder / 'straight' / 'best').iterdir()} == {'4', '8'}


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
  first, second = (alike.saved(two[0] / f'cut-{i}.npz') for i in range(2))
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
  alike.assert_states(topology.leaves(state), leaves)
  alike.assert_rows(tiny.rows(tmp_path / 'cut'), rows)


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


def test_a_workdir_that_one_process_does_not_see_is_an_error_of_all(two):
  """Though each has a folder of that name, with a run in it. No mark is left."""
  said = [json.loads((two[0] / f'said-{i}.json').read_text())['apart'] for i in range(2)]
  assert said[0] == ['', [], 'process 1 of 2 failed, and so the others stop; its own output says '
                     'why.', []]
  assert (said[1][0], said[1][3]) == ('', [])
  assert 'which the first process has written, is not there for this one' in said[1][2]


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


def test_what_is_wrong_with_one_host_is_no_damage_to_the_others(two):
  """They stop, and take no older checkpoint."""
  there, here = (json.loads((two[0] / f'said-{i}.json').read_text())['short'] for i in range(2))
  assert here == 'OSError: [Errno 24] Too many open files'
  assert re.fullmatch(r'RuntimeError: checkpoint 8 in .* is not damaged, but was not read by all '
                      r'processes: process 1 of 2 failed, and so the others stop; .*', there)


@pytest.mark.usefixtures('sigint_is_heard')
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
  """All leave with 75, whoever is asked: the others are told.

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
  assert seconds < 15   # what GKE gives a Spot pod, and README's recipes
  # One of several goes on for seconds; where it comes to the first update by then, all save.
  saved = list((tmp_path / 'checkpoints').glob('*[0-9]'))
  for status, _, errors in ended:
    assert status == 75, errors
    assert saved or 'there was nothing new to save' in errors


@pytest.mark.slow
@pytest.mark.parametrize('task, rest, asked', [
  ('evaluating', {'valid', 'sample'}, [0, 1]), ('evaluating', {'valid', 'sample'}, [0]),
  ('evaluating', {'valid', 'sample'}, [1]), ('drawing', {'sample'}, [0, 1]),
  ('drawing', {'sample'}, [0]), ('drawing', {'sample'}, [1])],
  ids=['evaluating, both', 'evaluating, first', 'evaluating, second', 'drawing, both',
       'drawing, first', 'drawing, second'])
def test_signals_while_several_processes_compile_what_is_due(two, task, rest, asked, tmp_path,
                                                             record_property):
  """The state is on disk by then, though no save is due; the next start makes up for the rest."""
  command = ['-m', 'tests.training.topology', f'--task={task}', f'--folder={tmp_path}']
  with several.running(command, 2) as started:
    for process in {'evaluating': [0, 1], 'drawing': [0]}[task]:
      several.wait_for((tmp_path / f'begun-{process}').exists, started)
    for process in asked:
      started[process].send_signal(signal.SIGTERM)
    begun = time.monotonic()
    ended = several.ended(started)
  seconds = time.monotonic() - begun
  record_property('seconds from signal to exit', f'{seconds:.1f}')
  assert seconds < 15
  for status, _, errors in ended:
    assert status == 75, errors
  found, whole = tiny.rows(tmp_path / 'signalled'), tiny.rows(two[0] / 'straight')
  assert [path.name for path in (tmp_path / 'signalled' / 'checkpoints').iterdir()] == ['4']
  assert len(found) == 4
  assert 'valid' in _parts(whole[3])
  assert _parts(found[3]) == _parts(whole[3]) - rest
  alike.task('signalled', tmp_path, 2, 1)
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
  alike.assert_states(alike.task('resume', tmp_path, 2, 1), leaves)
  alike.assert_rows(tiny.rows(tmp_path / 'cut'), rows)
  for kind, names in (('checkpoints', {'4', '8'}), ('checkpoints.damaged', {'8-0'})):
    assert {path.name for path in (tmp_path / 'cut' / kind).iterdir()} == names
