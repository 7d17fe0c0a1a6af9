"""The training binary under signals: it saves and leaves, and goes on; a second one stops it."""
import signal
import time

import pytest

from mollification import metrics
from tests import disk, several

pytestmark = pytest.mark.usefixtures('sigint_is_heard')

PHASES = ['compiling', 'stepping', 'saving', 'evaluating']
GRACE = 15   # seconds from a signal to the end: what GKE gives a Spot node
# A heavy import lasts: jax's, and flax's by the file of a config, come before those of the binary.
_COLD_DISK = ('import pathlib, sys, time\n'
              'class Cold:\n'
              '  def find_spec(self, name, path, target=None):\n'
              "    if name == {!r}:\n"
              '      pathlib.Path({!r}).touch()\n'
              '      time.sleep(100)\n'
              'sys.meta_path.insert(0, Cold())\n')
_EVALUATE = 'from mollification import evaluate\nevaluate.run()\n'
# What follows a long lowering is XLA's work, which nothing cuts short; each leaves a mark.
_COMPILING = ('import pathlib, jax\n'
              "jax.config.update('jax_enable_compilation_cache', False)\n"
              'def hear(event, seconds, **_):\n'
              "  for mark, name in (('begun', 'to_mlir_module'), ('ended', 'backend_compile')):\n"
              '    if name in event and seconds > .2:\n'
              '      folder = pathlib.Path({!r})\n'
              "      (folder / 'ended').unlink(missing_ok=True)   # of a program before\n"
              '      (folder / mark).touch()\n'
              'jax.monitoring.register_event_duration_secs_listener(hear)\n'
              f'{disk.TRAIN}')


def test_sigterm_saves_and_the_same_command_resumes(tmp_path):
  train = ['-m', 'mollification.main', f'--workdir={tmp_path}',
           '--config=configs/digits_vae.py:total_steps=1500,steps_per_call=1,batch_size=16',
           '--config.log.every=10', '--config.model.widths=(8,)', '--config.eval.every=0']
  with several.running(train, 1) as started:
    several.wait_for_rows(started, tmp_path, 1)
    started[0].send_signal(signal.SIGTERM)
    ((status, out, errors),) = several.ended(started)
  assert status == 75, errors
  assert 'preempted after' in out
  ((status, out, errors),) = several.run(train, 1)
  assert status == 0, errors
  assert 'finished after 1,500 updates' in out
  steps = [row['step'] for row in metrics.read_rows(tmp_path / 'metrics.jsonl')]
  assert steps == list(range(10, 1501, 10))


@pytest.mark.parametrize('number, module', [
  (signal.SIGTERM, 'jax'), (signal.SIGINT, 'jax'), (signal.SIGTERM, 'flax'),
  (signal.SIGTERM, 'mollification.build')])
def test_a_signal_is_heard_while_the_binary_imports(number, module, tmp_path):
  """From a cold disk that takes a minute; SLURM requeues by the status."""
  command = ['-c', _COLD_DISK.format(module, str(tmp_path / 'begun')) + disk.TRAIN,
             *several.long_run(tmp_path)[2:]]
  with several.running(command, 1) as started:
    several.wait_for((tmp_path / 'begun').exists, started)
    started[0].send_signal(number)
    ((status, _, errors),) = several.ended(started)
  assert (status, errors) == (75, 'stopped; there was nothing new to save\n')
  assert not (tmp_path / 'lock').exists()


@pytest.mark.parametrize('module, options', [
  ('jax', ['--watch']), ('mollification.measurements', ['--metrics=mmd', '--num_samples=10'])])
def test_sigterm_is_heard_while_the_evaluation_imports(module, options, tmp_path):
  """Also what only a look at its flags takes."""
  command = ['-c', _COLD_DISK.format(module, str(tmp_path / 'begun')) + _EVALUATE,
             f'--workdir={tmp_path}', *options]
  with several.running(command, 1) as started:
    several.wait_for((tmp_path / 'begun').exists, started)
    started[0].send_signal(signal.SIGTERM)
    ((status, _, errors),) = several.ended(started)
  assert (status, errors) == (75, 'stopped; the same command goes on\n')


def test_a_signal_while_there_is_nothing_to_save_ends_the_process(tmp_path):
  """Building may take minutes (a data set is prepared): the first signal is enough."""
  with several.running(several.long_run(tmp_path), 1) as started:
    several.wait_for((tmp_path / 'lock').exists, started)   # held from before the build on
    started[0].send_signal(signal.SIGTERM)
    ((status, out, errors),) = several.ended(started)
  assert status == 75, errors
  assert out == ''
  assert not list(tmp_path.glob('checkpoints'))


def _saved(folder):
  """Steps of the checkpoints that are whole, as text."""
  return [path.name for path in (folder / 'checkpoints').iterdir() if path.name.isdecimal()]


def _begun(folder):
  """Folders of checkpoints whose digest is to be written next, or was when their run ended."""
  return set((folder / 'checkpoints').glob('*-tmp*/sha256*'))


def _interrupted(folder):
  """Steps that are saved by a run that goes on in `folder` for a while, and is sent a Ctrl-C."""
  before = len(metrics.read_rows(folder / 'metrics.jsonl'))
  with several.running(several.long_run(folder, '--config.checkpoint.every=0'), 1) as started:
    several.wait_for_rows(started, folder, before + 3)
    started[0].send_signal(signal.SIGINT)
    ((status, out, errors),) = several.ended(started)
  assert status == 75, errors
  steps = [row['step'] for row in metrics.read_rows(folder / 'metrics.jsonl')]
  assert steps == list(range(1, len(steps) + 1))
  assert f'preempted after {len(steps):,} updates' in out
  return _saved(folder)


@pytest.mark.slow
def test_ctrl_c_saves_and_a_second_signal_does_not_wait_for_that(tmp_path):
  """Whatever the disk does; what was saved before is there, and the same command goes on."""
  saved = _interrupted(tmp_path)
  assert len(saved) == 1
  command = ['-c', disk.HANGING, *several.long_run(tmp_path, '--config.checkpoint.every=0')[2:]]
  for number, ended in ((signal.SIGINT, 128 + signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)):
    before, begun = len(metrics.read_rows(tmp_path / 'metrics.jsonl')), _begun(tmp_path)
    with several.running(command, 1) as started:
      several.wait_for_rows(started, tmp_path, before + 3)
      started[0].send_signal(number)
      several.wait_for(lambda begun=begun: _begun(tmp_path) - begun, started)
      started[0].send_signal(number)
      ((status, _, errors),) = several.ended(started)
    assert status == ended, errors
    assert _saved(tmp_path) == saved
  assert set(_interrupted(tmp_path)) > set(saved)


@pytest.mark.slow
@pytest.mark.parametrize('number, phase', [
  *((signal.SIGTERM, phase) for phase in PHASES), *((signal.SIGINT, phase) for phase in PHASES)],
  ids=[*PHASES, 'compiling, Ctrl-C', 'stepping, Ctrl-C', 'saving, Ctrl-C', 'evaluating, Ctrl-C'])
def test_a_signal_is_followed_within_the_grace_of_schedulers(tmp_path, record_property, number,
                                                             phase):
  """A net this small takes a fraction of it on any machine, and what compiles is left alone."""
  command = several.long_run(
    tmp_path, f'--config.checkpoint.every={int(phase == "saving")}',
    *(['--config.eval.every=1', '--config.eval.batch_size=1'] if phase == 'evaluating' else ()))
  if phase == 'compiling':   # a program that takes seconds
    command = ['-c', _COMPILING.format(str(tmp_path)), f'--workdir={tmp_path}',
               '--config=configs/digits_glow.py']
  with several.running(command, 1) as started:
    if phase == 'compiling':
      several.wait_for((tmp_path / 'begun').exists, started)
      assert not (tmp_path / 'ended').exists()
    else:
      several.wait_for_rows(started, tmp_path)
    if phase == 'saving':
      several.wait_for(lambda: _begun(tmp_path), started)
    started[0].send_signal(number)
    begun = time.monotonic()
    ((status, _, errors),) = several.ended(started)
    seconds = time.monotonic() - begun
  assert status == 75, errors
  if phase == 'compiling':   # it was not waited for
    assert not (tmp_path / 'ended').exists()
    assert not list(tmp_path.glob('checkpoints/[0-9]*'))
  else:
    assert _saved(tmp_path)
  if phase == 'evaluating':   # one is due after each update, and the last is owed
    *_, before, last = metrics.read_rows(tmp_path / 'metrics.jsonl')
    valid = [any(name.startswith('valid/') for name in row) for row in (before, last)]
    assert valid == [True, False]
  record_property('seconds from signal to exit', f'{seconds:.1f}')
  assert seconds < GRACE
