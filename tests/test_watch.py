"""Every checkpoint as it appears: what is skipped, what stops a watch, and that it goes on."""
import os
import signal
import subprocess
import sys

import pytest

from mollification import measure, watch
from mollification.evaluation import sources
from mollification.training import loop, workdir
from tests import several
from tests.test_score import binary
from tests.training import tiny


def test_watch_measures_each_checkpoint_once_and_skips_deleted_ones(tmp_path, monkeypatch, capsys):
  # One look per poll, and one more where a checkpoint was not there any more.
  (tmp_path / 'config.json').write_text('{"total_steps": 8}')
  looks = iter([[], [2], [2, 4], [2, 6], [2, 6, 8], [6, 8]])
  training = iter([True, True, True, False, False])
  monkeypatch.setattr(measure, 'steps', lambda folder: next(looks))
  monkeypatch.setattr(watch.workdir, 'in_use', lambda folder: next(training))
  seen = []

  def measure_step(step):
    if step == 4:
      raise ValueError('NOT_FOUND: Error opening "zarr" driver')   # what Orbax makes of it
    seen.append(step)

  assert watch.checkpoints(tmp_path, measure_step, poll_seconds=0.) == []
  assert seen == [2, 6, 8]
  assert 'step 4 is gone, skipped (NOT_FOUND' in capsys.readouterr().out


def test_a_run_that_was_pre_empted_is_waited_for(tmp_path, monkeypatch, capsys):
  """Until it is requeued, which takes a scheduler minutes; each time one line says so."""
  (tmp_path / 'config.json').write_text('{"total_steps": 6}')
  looks = iter([[2], [2], [2], [2, 4], [2, 4], [4, 6], [4, 6]])
  training = iter([True, False, False, True, False, True, False])
  monkeypatch.setattr(measure, 'steps', lambda folder: next(looks))
  monkeypatch.setattr(watch.workdir, 'in_use', lambda folder: next(training))
  seen = []
  assert watch.checkpoints(tmp_path, seen.append, poll_seconds=0.) == []
  assert seen == [2, 4, 6]
  assert capsys.readouterr().out.count('not over: waiting for it to go on') == 2


@pytest.mark.parametrize('steps', [[], [2, 4]])
def test_a_run_that_is_over_before_its_last_update_is_not_waited_for(tmp_path, monkeypatch, steps):
  """It stopped early, or diverged, be it before its first checkpoint."""
  (tmp_path / 'config.json').write_text('{"total_steps": 6}')
  for step in steps:
    (tmp_path / 'checkpoints' / str(step)).mkdir(parents=True)
  workdir.end(tmp_path, 'early')
  pauses = iter(steps[:1])   # one, where there was something to measure
  monkeypatch.setattr(watch.time, 'sleep', lambda seconds: next(pauses))
  seen = []
  assert watch.checkpoints(tmp_path, seen.append) == []
  assert seen == steps


@pytest.fixture
def three(monkeypatch, tmp_path):
  """A folder with checkpoints 2, 4, 6, in which nothing trains, of 6 updates."""
  (tmp_path / 'config.json').write_text('{"total_steps": 6}')
  monkeypatch.setattr(measure, 'steps', lambda folder: [2, 4, 6])
  monkeypatch.setattr(watch.time, 'sleep', lambda seconds: None)
  return tmp_path


def test_a_broken_checkpoint_does_not_end_a_watch(three, capsys):
  """It is named, skipped and counted, and the exit status tells."""
  seen = []

  def measure_step(step):
    if step < 6:
      raise (FloatingPointError('3 of 40 samples are not finite'), KeyError())[step // 4]
    seen.append(step)

  assert watch.until_the_end(three, measure_step) == 4
  assert seen == [6]
  out, err = capsys.readouterr()
  assert 'step 2 cannot be measured, skipped: 3 of 40 samples' in out
  assert 'step 4 cannot be measured, skipped: KeyError' in out
  assert err == 'error: 2 of the checkpoints could not be measured: step 2, step 4.\n'


@pytest.mark.usefixtures('sigint_is_heard')
def test_ctrl_c_stops_a_watch_cleanly(three, capsys):
  seen = []

  def measure_step(step):
    seen.append(step)
    if step == 4:
      os.kill(os.getpid(), signal.SIGINT)
      signal.pause()

  assert watch.until_the_end(three, measure_step) == 130
  assert seen == [2, 4]
  assert capsys.readouterr() == ('stopped; the same command goes on\n', '')


# The binary, of a folder that has no more of a run than it looks at.
WATCHING = """
from mollification import evaluate, measure
measure.open_run = measure.checked = lambda *args: None
evaluate.run()
"""


def test_a_watch_of_a_run_that_never_comes_back_ends_by_sigterm(tmp_path):
  (tmp_path / 'config.json').write_text('{"total_steps": 6}')
  with several.running(['-c', WATCHING, f'--workdir={tmp_path}', '--watch'], 1) as started:
    several.wait_for(lambda: 'waiting' in several.said(started[0])[0], started)
    started[0].send_signal(signal.SIGTERM)
    ended, = several.ended(started)
  assert ended == (75, f'nothing trains in {tmp_path}, whose run is not over: waiting for it to go '
                   'on\n', 'stopped; the same command goes on\n')


def test_a_watch_of_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match='nothing trains there; check --workdir'):
    watch.checkpoints(tmp_path, None)


def test_a_mistake_that_every_checkpoint_would_repeat_ends_a_watch(three):
  seen, calls = [], []

  def check():
    calls.append(len(seen))
    raise ValueError('sfid is made of the Inception network alone')

  with pytest.raises(ValueError, match='sfid is made of'):
    watch.until_the_end(three, seen.append, check)
  assert (seen, calls) == ([], [0])
  assert watch.until_the_end(three, seen.append, lambda: calls.append(len(seen))) == 0
  assert (seen, calls) == ([2, 4, 6], [0, 0])   # once, before the first


# Both binaries define --workdir, so this one has a process to itself: one for all of its mistakes.
MANY = """
import shlex, sys
from absl import flags
from absl.testing import flagsaver
from mollification import cli, evaluate
from mollification.training import preemption
for line in sys.stdin.read().splitlines():
  with flagsaver.flagsaver():
    try:
      evaluate.main(cli.parse_flags(['evaluate', *shlex.split(line)]), preemption.Stop())
      sys.stderr.write('none\\n')
    except SystemExit:
      pass
"""


def refused(commands, **environment):
  """What each of the commands says on stderr, lines; all of them must end in one line."""
  done = subprocess.run([sys.executable, '-c', MANY], input='\n'.join(commands), text=True,
                        capture_output=True, env=os.environ | environment)
  assert done.returncode == 0, done.stderr
  lines = done.stderr.splitlines()
  assert len(lines) == len(commands), done.stderr
  return lines


def test_options_without_effect_are_refused(tmp_path):
  (tmp_path / 'a.npz').touch()
  a, of_network = tmp_path / 'a.npz', 'it is for Inception features; name them with --features'
  out = tmp_path / 'out'   # nothing is written
  of_samples = 'it is for samples of a workdir, and none of them is one'
  mistakes = {
    f'score {a} digits --workdir={tmp_path}': 'it is of --workdir',
    f'score {a} digits --watch': 'it is of --workdir',
    f'score {a} digits --smoke': 'it is of --workdir',
    f'stats {a} --out={out} --smoke': 'it is of --workdir',
    f'stats {a} --out={out} --metrics=fid': 'it is of --workdir and score',
    f'convert-weights {a} --split=test': 'it is of --workdir and score and stats',
    **{f'score {a} digits --{option}': of_samples for option in (
      'step=4', 'num_samples=10', 'params=ema', 'quantize=round', 'allow_nonfinite')},
    f'stats digits --out={out} --step=4': of_samples,
    f'score {a} {a} --split=train': 'it is for names of data sets, and none of them is one',
    f'stats digits --out={out} --features=digits_cnn_8x8 --weights=x': of_network,
    f'stats digits --out={out} --features=digits_cnn_8x8 --precision=float64': of_network,
    f'--workdir={tmp_path} --metrics=fid --weights=x': of_network,
    f'--workdir={tmp_path} --precision=float64': 'it is of score and stats',
    **{f'--workdir={tmp_path} --metrics=nll,latents --{option}':
       'none of --metrics=nll,latents needs it' for option in (
         'num_samples=10', 'quantize=round', 'allow_nonfinite', 'weights=x',
         'features=digits_cnn_8x8')},
    f'--workdir={tmp_path} --metrics=mmd --features=x': 'none of --metrics=mmd needs it',
    f'--workdir={tmp_path} --out={out}': 'it is of score and stats and convert-weights',
    f'--workdir={tmp_path} --data_dir=x': 'it is of score and stats'}
  splits = [f'--workdir={tmp_path}/none --split={split}' for split in sources.SPLITS]
  found = refused([*mistakes, *splits])
  assert all('holds no run' in line for line in found[len(mistakes):])
  for (command, reason), line in zip(mistakes.items(), found):
    option = command.rsplit('--', 1)[1]
    assert line.startswith(f'error: --{option} has no effect on '), line
    assert line.endswith(f': {reason}; leave it out.'), line
  assert [path.name for path in tmp_path.iterdir()] == ['a.npz']


def test_every_command_takes_the_switches_of_deterministic_first(tmp_path):
  """Before there is anything that could start a device; another value of the user's shows it."""
  commands = [f'--workdir={tmp_path}', f'score {tmp_path} digits', f'stats digits --out={tmp_path}']
  for line in refused([f'{command} --deterministic' for command in commands],
                      XLA_FLAGS='--xla_gpu_deterministic_ops=false'):
    assert line.startswith('error: --deterministic wants --xla_gpu_deterministic_ops=true')


def test_a_watch_is_of_one_process(tmp_path):
  """Several would find checkpoints at different times."""
  several = ['--distributed=auto', '--coordinator=localhost:1 --num_processes=2 --process_id=0']
  for line in refused([f'--workdir={tmp_path} --watch {flags}' for flags in several]):
    assert line == ('error: checkpoints are watched for by one process; leave out --distributed, '
                    '--coordinator, --num_processes, --process_id.')


@pytest.mark.slow
def test_a_watch_that_was_stopped_goes_on_where_it_was(tmp_path):
  """Three checkpoints, the second damaged; SIGTERM after the first; then the rest, and no more."""
  folder = tmp_path / 'run'
  config = tiny.config(checkpoint__every=4, total_steps=12)
  with workdir.lock(folder):
    workdir.claim(folder, config.to_dict(), {})
    loop.train(tiny.build.build(config), folder)
  for path in sorted((folder / 'checkpoints' / '8').rglob('*')):
    if path.is_file() and path.stat().st_size > 2000:
      path.write_bytes(path.read_bytes()[:100])
  mistaken = binary(f'--workdir={folder}', '--watch', '--metrics=psnr')   # once, for none of them
  assert (mistaken.returncode, mistaken.stdout) == (2, '')
  assert mistaken.stderr.startswith("error: unknown metric 'psnr'")
  command = f'--workdir={folder}', '--watch', '--metrics=nll,frechet'
  process = subprocess.Popen([sys.executable, '-m', 'mollification.evaluate', *command],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  first = process.stdout.readline()
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate()
  assert (process.returncode, 'the same command goes on' in err) == (75, True), err
  assert first.startswith('step 4 ')
  kept = {p.name: p.stat().st_mtime_ns for p in (folder / 'records').iterdir()}
  assert kept
  rest = binary(*command)
  assert rest.returncode == 4, rest.stderr
  assert 'step 8 cannot be measured, skipped: checkpoint 8' in rest.stdout
  assert rest.stderr.endswith('error: 1 of the checkpoints could not be measured: step 8.\n')
  found = {p.name: p.stat().st_mtime_ns for p in (folder / 'records').iterdir()}
  assert {name.rsplit('-', 1)[1] for name in found} == {'000000004.json', '000000012.json'}
  again = binary(*command)
  assert again.stdout.count('is measured already') == 2
  assert {p.name: p.stat().st_mtime_ns for p in (folder / 'records').iterdir()} == found
