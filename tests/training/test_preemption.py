"""Signals in every phase: building, compiling, stepping, evaluating, saving; the second acts."""
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mollification import parallel
from mollification.training import agreement, checkpoint, loop, preemption
from mollification.training.outputs import Outputs
from tests.training import tiny

pytestmark = pytest.mark.usefixtures('no_key_reuse_check', 'sigint_is_heard')

# In C, as a compiler is: Python's own handlers do not run before it is through.
BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
HEAD = ('import hashlib, os, signal, sys, threading, time\n'
        'from mollification.training import preemption\n'
        'def kill(after, number):\n'
        '  threading.Timer(after, os.kill, (os.getpid(), number)).start()\n')


def _end(code):
  """(exit status, stderr) of a program."""
  done = subprocess.run([sys.executable, '-c', HEAD + code], capture_output=True, text=True,
                        timeout=60, check=False)
  return done.returncode, done.stderr


@pytest.mark.parametrize('pid, doing, ended', [
  (2, 'time.sleep(60)\n', -signal.SIGTERM), (1, 'time.sleep(60)\n', 128 + signal.SIGTERM),
  (1, BUSY, 128 + signal.SIGTERM)], ids=['another', 'Python', 'C'])
def test_a_second_signal_ends_the_first_process_of_a_container_too(pid, ended, doing):
  """Of which the kernel keeps away what it does not handle: it must not be left to the default."""
  status, _ = _end('pid = os.getpid()\n'
                   f'os.getpid = lambda: {pid}\n'
                   'with preemption.Preemption() as stop:\n'
                   '  stop.armed = True\n'
                   '  for after in (.2, .6):\n'
                   '    threading.Timer(after, os.kill, (pid, signal.SIGTERM)).start()\n'
                   f'  {doing}')
  assert status == ended


@pytest.mark.parametrize('doing', ['time.sleep(60)\n', BUSY], ids=['Python', 'C'])
def test_before_the_first_update_a_signal_ends_the_process_at_once(doing):
  """Also while threads work, as TFDS's do (SystemExit would wait for them), or it compiles."""
  status, said = _end('with preemption.Preemption():\n'
                      '  threading.Thread(target=time.sleep, args=(60,)).start()\n'
                      f'  kill(.2, signal.SIGTERM)\n  {doing}')
  assert status == preemption.EXIT_STATUS
  assert said == 'stopped; there was nothing new to save\n'


@pytest.mark.parametrize('setting', [
  "sys.stderr = open('/dev/full', 'w')\n", 'sys.stderr = None\n',
  "ear, mouth = os.pipe(); os.close(ear); sys.stderr = os.fdopen(mouth, 'w')\n",
  "ear, mouth = os.pipe(); sys.stderr = os.fdopen(mouth, 'w')\n"
  "os.set_blocking(mouth, False)\n"
  "try:\n  while True: os.write(mouth, b'.' * 4096)\n"
  "except BlockingIOError: os.set_blocking(mouth, True)\n"],
  ids=['full', 'none', 'no reader', 'a reader who waits'])
def test_a_signal_ends_a_process_that_cannot_say_so(setting):
  """Its log is on a full disk, or is read no more."""
  status, _ = _end(f'{setting}with preemption.Preemption():\n'
                   f'  kill(.2, signal.SIGTERM)\n  {BUSY}')
  assert status == preemption.EXIT_STATUS


def test_a_request_that_came_before_the_processes_have_met_is_told_when_they_have():
  status, said = _end('preemption._LINGER = 1.\n'
                      'with preemption.Preemption() as stop:\n'
                      '  stop.among(True, False)\n'
                      '  os.kill(os.getpid(), signal.SIGTERM)\n'
                      '  time.sleep(.3)\n'   # it is heard by then
                      "  stop.share(lambda: print('told', file=sys.stderr), lambda: False)\n"
                      f'  {BUSY}')
  assert (status, said) == (75, 'told\nstopped; there was nothing new to save\n')


def test_a_signal_to_one_of_several_processes_is_told_to_the_others():
  status, said = _end('preemption._LINGER = .5\n'
                      'with preemption.Preemption() as stop:\n'
                      '  stop.among(True, False)\n'
                      "  stop.share(lambda: print('told', file=sys.stderr), lambda: False)\n"
                      f'  kill(.2, signal.SIGTERM)\n  {BUSY}')
  assert (status, said) == (75, 'told\nstopped; there was nothing new to save\n')


@pytest.mark.parametrize('armed, wanted', [
  (False, (75, 'stopped; there was nothing new to save\n')), (True, (0, 'True\n'))])
def test_a_process_takes_the_request_of_another_one_for_its_own(armed, wanted):
  """And its own signal, which comes later, for no second one."""
  found = _end('preemption._LINGER = .5\n'
               'with preemption.Preemption() as stop:\n'
               '  stop.among(True, False)\n'
               f'  stop.armed = {armed}\n'
               '  stop.share(lambda: None, lambda: True)\n'
               '  kill(.8, signal.SIGTERM)\n'
               '  time.sleep(2.5)\n'
               '  print(stop.requested, file=sys.stderr)\n')
  assert found == wanted


@pytest.mark.parametrize('first', [False, True])
def test_one_of_several_goes_on_until_the_others_have_heard_their_signals(first):
  """The first as long again: JAX's runtime aborts the others when it is gone."""
  status, said = _end('preemption._LINGER = .5\n'
                      'with preemption.Preemption() as stop:\n'
                      f'  stop.among(True, {first})\n'
                      '  begun = time.monotonic()\n'
                      '  os.kill(os.getpid(), signal.SIGTERM)\n'
                      f'  while time.monotonic() < begun + {.9 if first else .4}: pass\n'
                      '  print("here", file=sys.stderr)\n'
                      f'  {BUSY}')
  assert (status, said) == (75, 'here\nstopped; there was nothing new to save\n')


@pytest.mark.parametrize('asked, error, wanted', [
  (True, 'RuntimeError', 75), (True, 'SystemExit(2)', 75), (True, 'SystemExit(0)', 0),
  (False, 'RuntimeError', 1)])
def test_what_fails_of_one_that_is_about_to_leave_does_so_since_others_have(asked, error, wanted):
  status, _ = _end('preemption._LINGER = .5\n'
                   'with preemption.Preemption() as stop:\n'
                   '  stop.among(True, False)\n'
                   f'  if {asked}: os.kill(os.getpid(), signal.SIGTERM)\n'
                   '  time.sleep(.2)\n'
                   f'  raise {error}\n')
  assert status == wanted


def test_a_process_that_others_depend_on_ends_in_order():
  """Armed or not: the worker of a pool that ends on the spot takes the others with it."""
  status, said = _end('with preemption.Preemption(at_once=False) as stop:\n'
                      '  kill(.2, signal.SIGTERM)\n'
                      "  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**6)\n"
                      '  sys.exit(7 if stop.requested else 8)\n')
  assert (status, said) == (7, '')


@pytest.mark.parametrize('numbers', [(signal.SIGTERM, signal.SIGTERM),
                                     (signal.SIGINT, signal.SIGINT),
                                     (signal.SIGTERM, signal.SIGINT)], ids=str)
def test_a_second_signal_ends_the_process_while_it_is_in_c(numbers):
  first, second = map(int, numbers)
  status, _ = _end('with preemption.Preemption() as stop:\n  stop.armed = True\n'
                   f'  kill(.2, {first})\n  kill(.6, {second})\n  {BUSY}')
  assert status == 128 + second


def test_signals_that_whoever_started_the_process_ignores_stay_ignored_after_the_first():
  """Workers of a grid are sent one until they have saved."""
  status, said = _end('signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
                      'with preemption.Preemption() as stop:\n  stop.armed = True\n'
                      '  for after in (.1, .3, .5):\n    kill(after, signal.SIGTERM)\n'
                      "  hashlib.pbkdf2_hmac('sha256', b'', b'', 4 * 10**6)\n"
                      '  time.sleep(1)\n  print(stop.requested, file=sys.stderr)\n')
  assert (status, said) == (0, 'True\n')


def test_first_signal_asks_second_acts():
  old, wakeup = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(wakeup)
  with preemption.Preemption() as stop:
    assert not stop.requested
    stop.armed = True
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGTERM) is old
  assert signal.set_wakeup_fd(wakeup) == wakeup


def _run(**changes):
  return tiny.run(eval__best_metric='log_likelihood', mollify__fraction=0., eval__sample_every=4,
                  **changes)


def _signalled(fn, wait=0.):
  """`fn` that has a signal sent in its first call; where it waits, the signal cuts that short."""
  calls = []

  def call(*args, **kwargs):
    calls.append(1)
    if len(calls) == 1:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(wait)
    return fn(*args, **kwargs)
  return call


def _files(folder):
  return sorted(str(p.relative_to(folder)) for kind in ('best', 'checkpoints', 'samples')
                for p in (folder / kind).iterdir())


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """(folder, run, final state) of a run that nothing happened to."""
  folder, run = tmp_path_factory.mktemp('straight'), _run()
  with jax.debug_key_reuse(False):
    return folder, run, loop.train(run, folder).state


@pytest.mark.parametrize('done', [4, 8])
def test_a_signal_cuts_an_evaluation_short_and_the_next_run_makes_up_for_it(
    straight, tmp_path, done):
  """State, rows, best and pictures are those of the straight run; also at the very end."""
  folder, run, state = straight
  slow = _signalled(run.evaluate, wait=60)
  calls = []

  def evaluate(state):
    calls.append(int(state.step))
    return slow(state) if calls[-1] == done else run.evaluate(state)

  cut, begun = loop.dataclasses.replace(run, evaluate=evaluate), time.monotonic()
  with preemption.Preemption() as stop:
    outcome = loop.train(cut, tmp_path, stop=stop)
  assert time.monotonic() - begun < 50
  assert (outcome.reason, int(outcome.state.step)) == ('preempted', done)
  assert tiny.rows(tmp_path)[-1] == {k: v for k, v in tiny.rows(folder)[done - 1].items()
                                 if not k.startswith(('valid/', 'sample/'))}
  resumed = loop.train(run, tmp_path)
  assert resumed.reason == 'finished'
  jax.tree.map(np.testing.assert_array_equal, resumed.state, state)
  assert tiny.rows(tmp_path) == tiny.rows(folder)
  assert _files(tmp_path) == _files(folder)


@pytest.mark.parametrize('what, seconds, rest', [
  ('evaluate', preemption._PATIENCE, {'valid', 'sample'}), ('sample', 0., {'sample'})])
def test_a_signal_ends_the_process_while_what_is_due_is_compiled(
    straight, tmp_path, what, seconds, rest):
  """The state is on disk before, though no save is due; the next run makes up for the rest."""
  folder, run, state = straight
  begun = tmp_path / 'begun'
  status, said = _end(
    'import dataclasses, pathlib\n'
    'from tests import conftest\n'   # the bits are compared
    'from mollification.training import loop\n'
    'from tests.training import test_preemption\n'
    'def busy(state):\n'
    f'  pathlib.Path({str(begun)!r}).touch()\n'
    '  kill(.1, signal.SIGTERM)\n'
    f'  {BUSY}'
    f'run = dataclasses.replace(test_preemption._run(), save_every=0, {what}=busy)\n'
    'with preemption.Preemption() as stop:\n'
    f'  loop.train(run, {str(tmp_path)!r}, stop=stop)\n')
  waited = time.time() - begun.stat().st_mtime
  assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['4']
  assert status == preemption.EXIT_STATUS, said
  assert said.endswith('stopped; there was nothing new to save\n')
  assert seconds < waited < seconds + preemption._PATIENCE
  found, whole = (tiny.rows(place)[:4] for place in (tmp_path, folder))
  assert len(found) == 4
  assert whole[3].keys() - found[3].keys() == {
    name for name in whole[3] if name.split('/')[0] in rest}
  resumed = loop.train(run, tmp_path)
  assert (resumed.reason, int(resumed.state.step)) == ('finished', 8)
  jax.tree.map(np.testing.assert_array_equal, resumed.state, state)
  assert tiny.rows(tmp_path) == tiny.rows(folder)
  assert _files(tmp_path) == _files(folder)


@pytest.mark.parametrize('where, done', [('save_best', 4), ('grids', 4), ('replace_row', 8)])
def test_whoever_dies_while_it_makes_up_for_an_evaluation_does_it_again(
    straight, tmp_path, monkeypatch, where, done):
  """Nothing is lost wherever that is; the row is whole once the rest is on disk."""
  folder, run, state = straight

  def fail(*args):
    raise OSError('here')

  def cut(state):
    raise preemption.Interrupted

  owing = loop.dataclasses.replace(
    run, evaluate=lambda state: cut(state) if int(state.step) == done else run.evaluate(state))
  assert loop.train(owing, tmp_path).reason == 'preempted'
  with monkeypatch.context() as patch:
    patch.setattr(Outputs, where, fail)
    with pytest.raises(OSError, match='here'):
      loop.train(run, tmp_path)
  replace, on_disk = Outputs.replace_row, []
  monkeypatch.setattr(Outputs, 'replace_row', lambda self, *row: (
    on_disk.append([(tmp_path / name).exists() for name in (
      f'best/{done}', f'samples/{done:08d}.png')]), replace(self, *row)))
  resumed = loop.train(run, tmp_path)
  # An evaluation is in the row before the pictures are drawn: where they failed, they alone lack.
  assert on_disk[0] == [True, where == 'grids']
  assert [True, True] in on_disk[:2]
  assert resumed.reason == 'finished'
  jax.tree.map(np.testing.assert_array_equal, resumed.state, state)
  assert tiny.rows(tmp_path) == tiny.rows(folder)
  assert _files(tmp_path) == _files(folder)


@pytest.mark.parametrize('where', ['grids', 'replace_row'])
def test_pictures_that_a_checkpoint_lacks_after_a_crash_are_drawn_by_the_next_start(
    straight, tmp_path, monkeypatch, where):
  """They come after it, since a signal may have asked for it; their figures come after them."""
  folder, run, _ = straight

  def fail(*args):
    raise OSError('here')

  with monkeypatch.context() as patch:
    patch.setattr(Outputs, where, fail)
    with pytest.raises(OSError, match='here'):
      loop.train(run, tmp_path)
  assert (tmp_path / 'checkpoints' / '4').is_dir()
  assert 'sample/nonfinite_share' not in tiny.rows(tmp_path)[-1]
  loop.train(run, tmp_path)
  assert _files(tmp_path) == _files(folder)
  assert tiny.rows(tmp_path) == tiny.rows(folder)
  loop.train(loop.dataclasses.replace(run, sample=fail), tmp_path)   # none is drawn twice


@pytest.mark.parametrize('asked, cut, then', [(4, [], [4, 8]), (8, [4, 8], [])])
def test_pictures_are_left_to_the_run_that_goes_on(straight, tmp_path, asked, cut, then):
  """To compile what draws them may take all the time that is left; at the end nothing goes on."""
  folder, run, _ = straight
  stop, drawn = preemption.Stop(), []

  def batch(first, count):
    stop.requested = first + count == asked
    return run.batch(first, count)

  shown = loop.dataclasses.replace(
    run, eval_every=0, best_metric='', batch=batch,
    sample=lambda state, draw=run.sample: (drawn.append(int(state.step)), draw(state))[1])
  outcome = loop.train(shown, tmp_path, stop=stop)
  assert (outcome.reason, drawn) == ('finished' if asked == 8 else 'preempted', cut)
  drawn.clear()
  for _ in range(2):   # once is enough
    assert loop.train(shown, tmp_path).reason == 'finished'
  assert drawn == then
  assert sorted((tmp_path / 'samples').iterdir()) == [
    tmp_path / 'samples' / path.name for path in sorted((folder / 'samples').iterdir())]


def test_a_signal_while_a_checkpoint_is_saved_needs_no_other_one(straight, tmp_path, monkeypatch):
  _, run, _ = straight
  saved = []
  save = _signalled(checkpoint.save)
  monkeypatch.setattr(checkpoint, 'save', lambda manager, step, state: (
    saved.append(step), save(manager, step, state)))
  with preemption.Preemption() as stop:
    outcome = loop.train(loop.dataclasses.replace(run, best_metric=''), tmp_path, stop=stop)
  assert (outcome.reason, saved) == ('preempted', [4])
  assert (tmp_path / 'checkpoints' / '4').is_dir()


def test_nothing_is_to_be_saved_before_the_first_update_is_done(straight, tmp_path):
  """The stop is armed once it is: until then a signal ends the process."""
  _, run, _ = straight
  stop, armed = preemption.Stop(), []
  batch = lambda first, count: (armed.append(stop.armed), run.batch(first, count))[1]
  loop.train(loop.dataclasses.replace(run, batch=batch), tmp_path, stop=stop)
  assert armed == [False] + [True] * 7


def test_without_jaxs_preemption_service_processes_agree_by_themselves(monkeypatch):
  """jax_enable_preemption_service may be off; JAX then answers its question with an error."""
  from jax._src import distributed
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(parallel, '_all_devices', jax.devices)
  monkeypatch.setattr(distributed.global_state, 'client', object())
  with pytest.raises(RuntimeError, match='jax_enable_preemption_service'):
    jax.experimental.multihost_utils.reached_preemption_sync_point(1)
  stop = preemption.Stop()
  agreed = agreement.Agreement(stop)
  assert not agreed.after(1, 1)
  stop.requested = True
  assert [agreed.after(step, 1) for step in (2, 3)] == [False, True]
