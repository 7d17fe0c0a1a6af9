"""Every checkpoint as it appears: what is skipped, what stops a watch, and that it goes on."""
import os
import signal
import subprocess
import sys

import pytest

from mollification import measure, watch
from mollification.training import loop, workdir
from tests.test_score import binary
from tests.training import tiny


def test_watch_measures_each_checkpoint_once_and_skips_deleted_ones(tmp_path, monkeypatch, capsys):
  # One look per poll, and one more where a checkpoint was not there any more.
  (tmp_path / 'config.json').write_text('{}')
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


@pytest.fixture
def three(monkeypatch, tmp_path):
  """A folder with checkpoints 2, 4, 6, in which nothing trains."""
  (tmp_path / 'config.json').write_text('{}')
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


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_a_watch_cleanly(three, capsys, number, status):
  seen, before = [], signal.getsignal(signal.SIGTERM)

  def measure_step(step):
    seen.append(step)
    if step == 4:
      os.kill(os.getpid(), number)
      signal.pause()

  assert watch.until_the_end(three, measure_step) == status
  assert seen == [2, 4]
  assert capsys.readouterr() == ('stopped; the same command goes on\n', '')
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_watch_of_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match='nothing trains there; check --workdir'):
    watch.checkpoints(tmp_path, None)


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
  out, err = process.communicate()
  assert (process.returncode, 'the same command goes on' in out) == (75, True), err
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
