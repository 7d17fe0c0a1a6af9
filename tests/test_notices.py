"""What is said to people ends nothing, whoever reads it or not."""
import io
import os
import pathlib
import subprocess
import sys

import pytest

from mollification import metrics, notices


def _closed():
  stream = io.StringIO()
  stream.close()
  return stream


def _without_reader():
  ear, mouth = os.pipe()
  os.close(ear)
  return os.fdopen(mouth, 'w')


def _full():
  return pathlib.Path('/dev/full').open('w')


@pytest.mark.parametrize('stream', [_closed, _without_reader, _full],
                         ids=['closed', 'pipe', 'full'])
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')   # as it is closed
def test_what_cannot_be_written_is_left(stream):
  stream = stream()
  with pytest.raises((OSError, ValueError)):
    print('nobody hears', file=stream, flush=True)
  notices.say('nobody hears', stream)
  progress = metrics.Progress(10, stream=stream)
  progress.show(1, force=True)
  progress.close()


def test_a_process_may_have_no_streams(monkeypatch, capfd):
  """Python's are None where it was started with descriptors 1 and 2 closed."""
  monkeypatch.setattr(sys, 'stderr', None)
  monkeypatch.setattr(sys, 'stdout', None)
  notices.say('nobody hears')
  progress = metrics.Progress(10)
  progress.show(1, force=True)
  progress.print('row')
  progress.close()
  notices.let_go()
  assert capfd.readouterr() == ('', '')


def test_letters_that_a_stream_lacks_are_spelt(tmp_path):
  with (tmp_path / 'log').open('w', encoding='ascii') as stream:
    notices.say('a folder müll', stream)
  assert (tmp_path / 'log').read_text() == 'a folder m\\xfcll\n'


def test_what_is_said_is_there_at_once(tmp_path):
  with (tmp_path / 'log').open('w') as stream:
    notices.say('now', stream)
    assert (tmp_path / 'log').read_text() == 'now\n'


@pytest.mark.parametrize('letting_go, status', [(True, 7), (False, 120)])
def test_the_status_of_a_process_is_its_own(letting_go, status):
  """Python's is 120 where it cannot write what is left to say."""
  code = ('import atexit, sys\nfrom mollification import notices\n'
          + 'atexit.register(notices.let_go)\n' * letting_go +
          'notices.say("nobody hears", sys.stdout)\nsys.exit(7)\n')
  buffered = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
  with _full() as full:
    assert subprocess.run([sys.executable, '-c', code], stdout=full, check=False, env=buffered,
                          stderr=subprocess.DEVNULL).returncode == status


@pytest.mark.slow
def test_a_run_goes_on_where_nobody_reads_what_it_says(tmp_path):
  """As through `| head`, or when the terminal that started it is gone."""
  ear, mouth = os.pipe()
  os.close(ear)
  command = [sys.executable, '-m', 'mollification.main', f'--workdir={tmp_path}',
             '--config=configs/digits_vae.py:total_steps=40,batch_size=16,steps_per_call=10',
             '--config.log.every=10', '--config.log.stdout=True', '--config.eval.every=0',
             '--config.model.widths=(8,)']
  assert subprocess.run(command, stdout=mouth, stderr=mouth, check=False).returncode == 0
  os.close(mouth)
  assert [row['step'] for row in metrics.read_rows(tmp_path / 'metrics.jsonl')] == [10, 20, 30, 40]
