"""The training binary under signals: it saves and leaves, and the same command goes on."""
import signal

from mollification import metrics
from tests import several

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


def test_a_signal_while_there_is_nothing_to_save_ends_the_process(tmp_path):
  """Building may take minutes (a data set is prepared): the first signal is enough."""
  with several.running(several.long_run(tmp_path), 1) as started:
    several.wait_for((tmp_path / 'lock').exists, started)   # held from before the build on
    started[0].send_signal(signal.SIGTERM)
    ((status, out, errors),) = several.ended(started)
  assert status == 75, errors
  assert out == ''
  assert not list(tmp_path.glob('checkpoints'))
