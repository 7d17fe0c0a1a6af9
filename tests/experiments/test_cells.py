"""Cells side by side: all of them, or none that begins after a signal or an error."""
import copy
import dataclasses
import errno
import functools
import json
import multiprocessing
import os
import pathlib
import signal
import threading
import time
import types

import jax
import pytest

from experiments import cell_records, cells, command
from mollification import build, measure, metrics
from mollification.evaluation import records, reference
from mollification.training import preemption, workdir
from tests import disk
from tests.training import tiny


def _work(folder, name):
  """Runs in a worker: leave a mark, then wait for the signal as training does, up to 60 s."""
  with preemption.Preemption() as stop:
    stop.armed = True
    (folder / f'{name}.began').touch()
    if name == 'bad':
      raise ValueError('no such cell')
    until = time.monotonic() + (60 if 'long' in name else 0)
    while time.monotonic() < until and not stop.requested:
      time.sleep(.02)
    time.sleep(.3 if stop.requested else 0)   # it takes a while to save
    (folder / f'{name}.{"saved" if stop.requested else "ended"}').touch()
  return name.upper()


def _run(folder, names):
  return cells.run(names, workers=2, compiled=folder, work=functools.partial(_work, folder))


def _marks(folder):
  return sorted(path.name for path in folder.iterdir())


def _when(path, act):
  """Call `act` once `path` is there, from another thread."""
  def wait():
    while not path.exists():
      time.sleep(.02)
    act()
  threading.Thread(target=wait, daemon=True).start()


def test_all_cells_are_done_and_come_with_their_results(tmp_path):
  assert sorted(_run(tmp_path, ['a', 'b', 'c'])) == [('a', 'A'), ('b', 'B'), ('c', 'C')]


def _programs_before_and_after(name):
  """How many programs this worker holds, once it has compiled another one."""
  before = _SQUARE._cache_size()
  _SQUARE(float(len(name)))
  return before, _SQUARE._cache_size()


_SQUARE = jax.jit(lambda x: x * x)


def test_no_program_is_left_in_a_worker(tmp_path):
  found = dict(cells.run(['a', 'b', 'c'], workers=1, compiled=tmp_path,
                         work=_programs_before_and_after))
  assert set(found.values()) == {(0, 1)}


def test_after_a_signal_what_runs_is_saved_and_nothing_else_begins(tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  _when(tmp_path / 'long2.began', lambda: os.kill(os.getpid(), signal.SIGTERM))
  with pytest.raises(cells.Stopped):
    list(_run(tmp_path, ['long1', 'long2', 'c']))
  assert _marks(tmp_path) == ['long1.began', 'long1.saved', 'long2.began', 'long2.saved']
  assert signal.getsignal(signal.SIGTERM) == before


def test_an_error_of_a_cell_is_raised_at_once_and_the_others_are_saved(tmp_path):
  with pytest.raises(ValueError, match='no such cell'):
    list(_run(tmp_path, ['long', 'a', 'bad', 'c', 'd']))
  marks = _marks(tmp_path)
  assert 'long.saved' in marks
  assert not {'c.began', 'd.began'} & set(marks)


def _die(name):
  os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_said_with_its_cells(tmp_path):
  todo = [types.SimpleNamespace(label='digits/a'), types.SimpleNamespace(label='digits/b')]
  with pytest.raises(RuntimeError, match=r'one of digits/[ab](, digits/[ab])? was killed, '
                     'most likely since memory ran out, or the disk is full; .* fewer --workers'):
    list(cells.run(todo, workers=2, compiled=tmp_path, work=_die))


def _find_no_disk(cell):
  try:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  except OSError as error:
    if cell.label == 'digits/bare':
      raise
    text = 'UNKNOWN: No space left on device [source]' if cell.label == 'digits/said' else 'lost'
    raise ValueError(text) from error


@pytest.mark.parametrize('label', ['digits/bare', 'digits/said', 'digits/behind'])
def test_a_full_disk_is_no_failure_of_one_cell(label, tmp_path):
  """Whether the system says so, or what a library makes of it; the way on is said."""
  todo = [types.SimpleNamespace(label=label)]
  work = functools.partial(cells.attempt, _find_no_disk)
  with pytest.raises(OSError, match=f'{label}: No space left on device, so all stop; what is '
                     'recorded is kept. Once its folder can be written to, the same command'):
    list(cells.run(todo, workers=1, compiled=tmp_path, work=work))


def test_a_failure_of_one_cell_leaves_the_others_theirs():
  def work(cell):
    raise OSError(errno.ENOENT, 'no such\n file')

  assert cells.attempt(work, 'a').text == 'FileNotFoundError: [Errno 2] no such file'


def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path, monkeypatch, capsys):
  """Of machines that share a folder, each with its own idea of the shares."""
  theirs, own = (cells.Cell(tiny.config(), tmp_path / name, (), name) for name in ('theirs', 'own'))
  monkeypatch.setattr(command, 'FLAGS', types.SimpleNamespace(workers=1, debug=False))
  monkeypatch.setattr(cells, 'run', lambda todo, work, **_: ((cell, work(cell)) for cell in todo))
  monkeypatch.setattr(build, 'build', lambda config: 1 / 0)
  with workdir.lock(theirs.folder):
    ended = command.run_all([theirs, own], tmp_path)
  assert ended == ({'own': 'ZeroDivisionError: division by zero'}, ['theirs'])
  assert 's left in all] theirs: left to the process that is at it\n' in capsys.readouterr().out


@pytest.mark.parametrize(('ended', 'status'), [
  (command.Ended({'own': 'ValueError'}, ['theirs']), 1),
  (command.Ended({}, ['theirs']), preemption.EXIT_STATUS)])
def test_the_status_of_a_command_says_that_work_is_left(ended, status):
  """Whoever starts commands again goes by it."""
  with pytest.raises(SystemExit) as caught:
    command.leave(ended)
  assert caught.value.code == status
  command.leave(command.Ended({}, []))


def test_runs_that_are_done_are_not_begun_again(monkeypatch, tmp_path, capsys):
  begun = []
  monkeypatch.setattr(command, '_outcomes', lambda todo, root, work: (begun.extend(todo), [])[1])
  todo = [types.SimpleNamespace(label=name, is_done=lambda name=name: name == 'b')
          for name in 'abc']
  assert command.run_all(todo, tmp_path) == ({}, [])
  assert [cell.label for cell in begun] == ['a', 'c']
  assert capsys.readouterr().out == '1 of 3 cells are done already\n'


@pytest.mark.parametrize('taken, whole', [
  (cells.Taken(5., 4.1), True), (None, False), (cells.Failure('x'), False)])
def test_a_command_that_did_all_in_one_go_leaves_its_clock(monkeypatch, tmp_path, taken, whole):
  todo = [types.SimpleNamespace(label=name, folder=tmp_path / name, is_done=lambda: False)
          for name in 'ba']
  (tmp_path / 'clock.json').write_text('of another command')
  monkeypatch.setattr(command, 'FLAGS', types.SimpleNamespace(workers=2, debug=False))
  outcomes = cells.Taken(3., 2.5), taken
  monkeypatch.setattr(command, '_outcomes', lambda todo, root, work: zip(todo, outcomes))
  now = iter((10., 20.4))
  monkeypatch.setattr(command.time, 'monotonic', lambda: next(now, 0.))
  command.run_all(todo, tmp_path)
  assert (tmp_path / 'clock.json').exists() == whole
  if whole:
    assert json.loads((tmp_path / 'clock.json').read_text()) == {
      'cells': ['a', 'b'], 'workers': 2, 'seconds': 10, 'core_seconds': 7}
  done = [types.SimpleNamespace(label='c', is_done=lambda: True)]
  command.run_all(done, tmp_path)   # it does nothing, and leaves what the other one said
  command.run_all(todo, tmp_path, lambda cell: None, clock=False)
  assert (tmp_path / 'clock.json').exists() == whole


def test_a_cell_is_trained_and_measured_once(tmp_path):
  config = tiny.config(eval__every=0, checkpoint__every=0)
  cell = cells.Cell(config, pathlib.Path(tmp_path), ('nll',), 'tiny')
  with jax.debug_key_reuse(False):   # it slows every eager operation of a checkpoint
    assert cells.train_and_measure(cell).seconds > 0
    rows = metrics.read_rows(tmp_path / 'metrics.jsonl')
    assert [row['step'] for row in rows] == list(range(1, 9))
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / 'records').iterdir()}
    assert {p.name.split('-')[0] for p in written} == {'log_likelihood', 'bits_per_dim'}
    assert cells.train_and_measure(cell) is None   # of nothing new there is no time
  assert {p: p.stat().st_mtime_ns for p in (tmp_path / 'records').iterdir()} == written


def _compiled_anew(cell):
  """Runs in a worker: how many programs a cell has compiled, that were not taken from the disk."""
  events = []
  jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
  assert cells.train_and_measure(cell).seconds > 0
  return events.count('/jax/compilation_cache/cache_misses')


@pytest.mark.slow
def test_an_arm_of_another_seed_compiles_nothing_that_is_not_there_already(tmp_path):
  """Programs are on disk, and neither a seed nor what the noise is like stands in a large one.

  What is compiled leaves a file, unless there is one that could not be loaded.
  """
  compiled, there = tmp_path / 'compiled', [{}]
  for seed, fraction in ((0, .5), (1, .25)):
    config = tiny.config('conv', seed=seed, mollify__fraction=fraction, eval__every=0)
    cell = cells.Cell(config, tmp_path / str(seed), ('nll', 'mmd'), f'{seed}')
    (_, missed), = cells.run([cell], workers=1, compiled=compiled, work=_compiled_anew)
    there.append({path.name: path.stat().st_size for path in compiled.glob('*-cache')})
    assert missed == len(there[-1]) - len(there[-2])
  large = [{name for name, size in files.items() if size > 50_000} for files in there]
  assert large[1] == large[2]
  assert len(large[1]) > 3   # an update, statistics, likelihoods, samples


@pytest.mark.slow
def test_a_disk_that_is_full_loses_no_earlier_record(tmp_path):
  """The run that finds it so is no result, and goes on once there is room."""
  with disk.mounted(tmp_path / 'disk', megabytes=60) as folder:
    one, other = (cells.Cell(tiny.config(seed=seed, eval__every=0), folder / f'{seed}', ('nll',),
                             f'tiny/{seed}') for seed in (0, 1))
    run = functools.partial(
      cells.run, workers=1, compiled=tmp_path / 'compiled',
      work=functools.partial(cells.attempt, cells.train_and_measure))
    assert [taken.seconds > 0 for _, taken in run([one])] == [True]
    there = {path: path.read_bytes() for path in one.folder.rglob('*') if path.is_file()}
    disk.fill(folder)
    with pytest.raises(OSError, match='tiny/1: No space left on device, so all stop'):
      list(run([one, other]))
    assert there == {path: path.read_bytes() for path in one.folder.rglob('*') if path.is_file()}
    assert [cell.is_done() for cell in (one, other)] == [True, False]
    disk.free(folder)
    list(run([one, other]))
    assert other.is_done()


def _killed_at_its_second_record(cell):
  """Runs in a process: train and measure, up to where the file of a record would get its name."""
  jax.config.update('jax_debug_key_reuse', False)
  rename, seen = os.replace, []

  def replace(source, place):
    seen.extend([place] * (pathlib.Path(place).parent.name == 'records'))
    if len(seen) == 2:
      os.kill(os.getpid(), signal.SIGKILL)
    rename(source, place)
  os.replace = replace
  cells.train_and_measure(cell)


@pytest.mark.slow
def test_a_cell_that_is_killed_while_it_is_measured_is_no_result(tmp_path):
  cell = cells.Cell(tiny.config(eval__every=0), tmp_path, ('nll', 'mmd'), 'tiny')
  process = multiprocessing.get_context('spawn').Process(
    target=_killed_at_its_second_record, args=(cell,))
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL
  assert len(records.read_all(tmp_path / 'records')) == 1
  assert len(list((tmp_path / 'records').iterdir())) == 2   # the other one has no name yet
  assert cells.state(cell) == 'trained, not measured'
  with jax.debug_key_reuse(False):
    assert cells.train_and_measure(cell) is None
  assert cell.is_done()
  assert {record.metric for record in records.read_all(tmp_path / 'records')} == {
    'log_likelihood', 'bits_per_dim', 'mmd2'}


def _noted(order, name, function, *args, **options):
  order.append(name)
  return function(*args, **options)


def test_what_is_measured_in_other_features_too(tmp_path, monkeypatch):
  order = []
  for module, name in ((reference, '_pass'), (measure, 'measure')):
    monkeypatch.setattr(module, name, functools.partial(_noted, order, name, getattr(module, name)))
  config = tiny.config(eval__every=0, checkpoint__every=4, checkpoint__keep_every=4)
  # A size of its own: a network is kept in the process, compiled for the devices of its first test.
  other = cell_records.InFeatures(('pr',), 'efficientnet_lite0_40', 20, 'validation')
  cell = cells.Cell(config, pathlib.Path(tmp_path), ('mmd',), 'tiny', (other,),
                    kept=tmp_path / 'kept')
  with jax.debug_key_reuse(False):
    assert cells.train_and_measure(cell).seconds > 0
  # What is kept of data for all is no part of what measuring takes.
  assert order == ['_pass', 'measure', 'measure']
  found = records.read_all(tmp_path / 'records')
  assert {(r.metric, r.step) for r in found if r.features is None} == {('mmd2', 8)}
  inside = {r.metric: r for r in found if r.features}
  assert set(inside) == {'precision', 'recall', 'density', 'coverage'}
  assert {(r.step, r.n, r.features['net'], r.reference['split']) for r in inside.values()} == {
    (8, 20, 'efficientnet_lite0_40', 'validation')}
  assert (tmp_path / 'kept' / 'features' / 'validation-efficientnet_lite0_40.npy').exists()
  seconds = json.loads((tmp_path / 'seconds.json').read_text())
  assert seconds.pop('evaluating') == 0   # nothing was evaluated inside training
  assert min(seconds.values()) > 0
  assert seconds.keys() == {'training', 'reference', 'measuring', 'core_seconds', 'update',
                            'quiet_update'}
  assert cell.is_done()
  for changes in ({'more': (dataclasses.replace(other, split='test'),)},
                  {'more': (dataclasses.replace(other, num_samples=30),)},
                  {'metrics': ('mmd', 'nll')},
                  # What is there of the network named is not what is wanted of the data set's own.
                  {'metrics': ('mmd', 'pr')}):
    assert not dataclasses.replace(cell, **changes).is_done()
  # These keys may change in a workdir, and what they change is another figure.
  for key, value in (('temperature', .7), ('quantize', 'round')):
    changed = copy.deepcopy(config)
    changed.eval[key] = value
    with pytest.raises(ValueError, match=f"records holds a .* which is wanted with .*'{key}': "):
      dataclasses.replace(cell, config=changed).is_done()
  written = {p: p.stat().st_mtime_ns for p in (tmp_path / 'records').iterdir()}
  (tmp_path / 'records' / sorted(p.name for p in written if 'mmd2' in p.name)[-1]).unlink()
  with jax.debug_key_reuse(False):   # cut before its last record: it measures that one
    assert cells.train_and_measure(cell) is None
  again = {p: p.stat().st_mtime_ns for p in (tmp_path / 'records').iterdir()}
  assert again.keys() == written.keys()
  assert sum(again[p] != written[p] for p in written) == 1
  measured_again = json.loads((tmp_path / 'seconds.json').read_text())
  # What was not measured in one go has no time of its own, and keeps what is known.
  assert {name: measured_again[name] for name in seconds} == seconds
  assert order.count('_pass') == 1
  # What there is in a network by name is not meant.
  own = cell_records.InFeatures(('pr',), num_samples=20, split='validation')
  assert cell_records.holds(tmp_path, 8, (own,), config)
  assert not cell_records.holds(tmp_path, 8, (own,), config, among=(own, other))
  # Nor do 20 samples stand for as many as the split has.
  assert not cell_records.holds(tmp_path, 8, (dataclasses.replace(own, num_samples=0),), config)


def test_a_network_without_weights_is_missed_before_training(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setattr(build, 'build', None)
  cell = cells.Cell(tiny.config(), tmp_path / 'run', ('nll',), 'tiny',
                    (cell_records.InFeatures(('fid',), 'inception_pytorch', 50),))
  with pytest.raises(FileNotFoundError):
    cells.train_and_measure(cell)


def test_a_signal_cuts_measuring_short(tmp_path, monkeypatch):
  cell = cells.Cell(tiny.config(), tmp_path, ('mmd',), 'tiny')
  wanted = [cell_records.InFeatures((metric,)) for metric in ('mmd', 'pr')]
  stop, done = preemption.Stop(), []

  def measured(run, metrics, **_):
    done.append(metrics)
    stop.requested = len(done) == 3
  monkeypatch.setattr(measure, 'open_run', lambda folder: None)
  monkeypatch.setattr(measure, 'measure', measured)
  assert not cell.measure_at([4, 8], wanted, stop)
  assert done == [('mmd',), ('pr',), ('mmd',)]
  assert not cell.measure(types.SimpleNamespace(step=8), stop)
  cell.keep_reference(stop)   # of nothing, without a run
  assert len(done) == 3


def test_one_cell_that_fails_leaves_the_others_theirs(tmp_path):
  work = functools.partial(cells.attempt, functools.partial(_work, tmp_path))
  found = dict(cells.run(['a', 'bad', 'c'], workers=1, compiled=tmp_path, work=work))
  assert found == {'a': 'A', 'bad': cells.Failure('ValueError: no such cell'), 'c': 'C'}
  assert "raise ValueError('no such cell')" in found['bad'].trace
