"""`stats`, `score` and workdirs over several processes and devices: the same bits, together."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mollification import data, measure, score
from mollification.evaluation import features, records, scoring, statistics_file
from mollification.training import loop, preemption, workdir
from tests import several
from tests.evaluation.toy import Toy
from tests.flags import xla_flags
from tests.test_joining import SLURM
from tests.training import tiny


@pytest.fixture(scope='module')
def extractor():
  return features.load('digits_cnn_8x8')


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


def test_processes_share_the_work_and_give_the_same_bits(tmp_path, extractor, digits):
  np.savez(tmp_path / 'images.npz', arr_0=digits.test.x[:150])   # five batches for two processes
  names = [str(tmp_path / name) for name in ('images.npz', 'two.npz', 'one.npz')]
  command = ['-m', 'mollification.evaluate', 'stats', names[0], f'--out={names[1]}',
             '--features=digits_cnn_8x8']
  for status, _, errors in several.run(command, 2):
    assert status == 0, errors
  score.stats(names[0], names[2], extractor)
  with np.load(names[1]) as two, np.load(names[2]) as one:
    np.testing.assert_array_equal(two['mu'], one['mu'])
    np.testing.assert_array_equal(two['sigma'], one['sigma'])
    first, second = (json.loads(str(archive['meta'])) for archive in (two, one))
  assert first['images_sha256'] == second['images_sha256']
  assert first['device'].endswith('x 2')   # both had part in it


# Every metric, float64 features too, then statistics that are killed after two batches and go on.
IN_TWO = """
import sys
from absl import flags
import jax
from jax.experimental import multihost_utils
from mollification import processes, score
from mollification.evaluation import scoring, statistics_file
from mollification.training import preemption
from tests.evaluation.toy import Toy
_, images, folder = flags.FLAGS(sys.argv)
processes.join(preemption.Stop())
for precision in ('float32', 'float64'):
  result = score.score(images, 'digits', list(scoring.METRICS), Toy.extractor(precision=precision))
  score.write_json(result, f'{folder}/{precision}-{jax.process_index()}.json')
scoring.SAVE_SECONDS, done, show = 0, [], scoring.Progress.show

def killed(self, count):
  done.append(count)
  if len(done) == 2:
    raise KeyboardInterrupt

scoring.Progress.show = killed
try:
  score.stats(images, f'{folder}/stats.npz', Toy.extractor())
except KeyboardInterrupt:
  multihost_utils.sync_global_devices('both are dead')
scoring.Progress.show = lambda self, count: done.append(count)
score.stats(images, f'{folder}/stats.npz', Toy.extractor())
print(done, file=sys.stderr)
for where in (f'{folder}/truncated', images if jax.process_index() else 'digits', 'nowhere'):
  try:
    score.stats(where, f'{folder}/none.npz', Toy.extractor())
  except (ValueError, RuntimeError, FileNotFoundError) as error:
    print(error, file=sys.stderr)
for what in ('held-out', 'unreadable'):   # by the first alone: the second sees no trouble there
  if jax.process_index():
    score._check_holds = lambda *args: None
  try:
    score.stats(images, f'{folder}/{what}.npz', Toy.extractor())
  except (ValueError, RuntimeError) as error:
    print('in the way:', error, file=sys.stderr)
def full(*args):
  raise OSError(28, 'No space left on device')

write, statistics_file.write = statistics_file.write, full   # which the first alone calls
try:
  score.stats(images, f'{folder}/full.npz', Toy.extractor())
except (OSError, RuntimeError) as error:
  print('of a full disk:', error, file=sys.stderr)
statistics_file.write = write
if jax.process_index():   # as if it did not see the folder
  scoring._restored = lambda *args, old=scoring._restored: (old(*args)[0], 7, '')
try:
  score.stats(images, f'{folder}/other.npz', Toy.extractor())
except ValueError as error:
  print(error, file=sys.stderr)
"""


def test_processes_agree_on_every_metric_and_go_on_together(tmp_path, digits):
  images = str(tmp_path / 'images.npz')
  np.savez(images, arr_0=digits.test.x[:150])
  (tmp_path / 'truncated').mkdir()
  for i, image in enumerate(digits.test.x[:40]):
    Image.fromarray(image[..., 0]).save(tmp_path / f'truncated/{i:02}.png')
  np.savez(tmp_path / 'all.npz', arr_0=digits.test.x)
  score.stats(str(tmp_path / 'all.npz'), tmp_path / 'held-out.npz', Toy.extractor())
  (tmp_path / 'unreadable.npz').write_bytes((tmp_path / 'held-out.npz').read_bytes()[:99])
  cut = tmp_path / 'truncated' / '35.png'   # in the second process's share
  cut.write_bytes(cut.read_bytes()[:60])
  done = several.run(['-c', IN_TWO, images, str(tmp_path)], 2)
  said = [errors for *_, errors in done]
  assert [status for status, *_ in done] == [0, 0], said
  for precision in ('float32', 'float64'):
    alone = score.score(images, 'digits', list(scoring.METRICS), Toy.extractor(precision=precision))
    for index in range(2):
      found = json.loads((tmp_path / f'{precision}-{index}.json').read_text())
      assert found['figures'] == json.loads(json.dumps(alone['figures']))
      assert found['set']['images_sha256'] == alone['set']['images_sha256']
  score.stats(images, tmp_path / 'alone.npz', Toy.extractor())
  with np.load(tmp_path / 'stats.npz') as two, np.load(tmp_path / 'alone.npz') as one:
    np.testing.assert_array_equal(two['sigma'], one['sigma'])
  for lines in said:   # killed after the second batch, and the third is next
    assert '[32, 64, 64, 96, 128, 150]' in lines, lines
    assert 'must go on from one image, got [0, 7]: ' in lines
    assert 'all processes must have the same images, network and metrics' in lines
    assert 'nowhere is no folder' in lines   # where all are wrong each says so
  assert '1 of 40 images cannot be read: 35.png' in said[1]
  # What is in the way for one is for all, and neither file is touched.
  assert [lines.count('in the way: ') for lines in said] == [2, 2], said
  assert 'held-out.npz must hold statistics of ' in said[0]
  assert said[1].count('in the way: process 0 of 2 failed') == 2
  assert 'process 1 of 2 failed, and so the others stop; its own output says why' in said[0]
  assert 'of a full disk: [Errno 28] No space left' in said[0]
  assert 'of a full disk: process 0 of 2 failed, and so the others stop' in said[1]
  # What was computed stays for the run that goes on from it, and nothing else.
  assert [path.name for path in tmp_path.glob('.*state*')] == ['.full.npz.state']


# The binary, and then statistics of samples; how many rows each process takes is said.
OF_A_WORKDIR = """
import sys
from mollification import cli, evaluate, score
from mollification.evaluation import batching, features, records
from mollification.training import preemption
map_rows, write = batching.map_rows, records.write

def told(mapped, context, count, *args, **options):
  print('rows', count, file=sys.stderr)
  return map_rows(mapped, context, count, *args, **options)

batching.map_rows = told
records.write = lambda *args: (print('a record', file=sys.stderr), write(*args))[1]
evaluate.main(cli.parse_flags(sys.argv), preemption.Stop())
folder = evaluate._WORKDIR.value
score.stats(folder, f'{folder}/samples.npz', features.load('digits_cnn_8x8'), num_samples=75)
"""
# Records of some metrics, and how many there are.
MEASURED = [pytest.param('nll,fid', 3, id='some'),
            pytest.param('nll,latents,mmd,fid,kid,pr,copies', 12, id='all',
                         marks=pytest.mark.slow)]


@pytest.fixture
def trained(tmp_path):
  """Two copies of a workdir with one checkpoint."""
  config, folder = tiny.config(eval__every=0, checkpoint__every=8), tmp_path / 'one'
  with workdir.lock(folder):
    workdir.claim(folder, config.to_dict(), {})
    loop.train(tiny.build.build(config), folder)
  return folder, shutil.copytree(folder, tmp_path / 'two')


@pytest.mark.parametrize('metrics, count', MEASURED)
def test_processes_measure_a_checkpoint_as_one_does(trained, metrics, count):
  alone, folder = trained
  found = several.run(['-c', OF_A_WORKDIR, f'--workdir={folder}', '--num_samples=75',
                       f'--metrics={metrics}'], 2, devices=4)
  assert [status for status, *_ in found] == [0, 0], found
  measure.measure(measure.open_run(alone), metrics.split(','), num_samples=75)
  wanted, values = ({r.file_name: (r.value, r.standard_error, r.n, r.extra) for r in
                     records.read_all(where / 'records')} for where in trained)
  assert len(wanted) == count
  assert values == wanted
  (_, out, errors), (_, nothing, others) = found
  assert out.count('step 8  ') == count
  assert 'step 8  ' not in nothing
  assert (errors.count('a record'), others.count('a record')) == (count, 0)
  for said in (errors, others):   # of 360 rows, of 75 samples, and of those of `stats`
    assert [line for line in said.splitlines() if line.startswith('rows')] == [
      'rows 180', 'rows 38', 'rows 38']
  score.stats(alone, alone / 'samples.npz', features.load('digits_cnn_8x8'), num_samples=75)
  trees = [sorted(str(path.relative_to(where)) for path in where.rglob('*')) for where in trained]
  assert trees[0] == trees[1]
  one, two = (statistics_file.read(where / 'samples.npz') for where in trained)
  np.testing.assert_array_equal(one[0].cov, two[0].cov)
  assert one[1]['images_sha256'] == two[1]['images_sha256']


BROKEN_IN_ONE = """
import sys
import jax
from mollification import cli, evaluate, measurements
from mollification.training import preemption

def broken(*args):
  if jax.process_index() == 1:
    raise MemoryError('no memory left')
  return measure(*args)

measure, measurements.MEASURES['latents'] = measurements.MEASURES['latents'], broken
evaluate.main(cli.parse_flags(sys.argv), preemption.Stop())
"""


@pytest.mark.slow
def test_an_error_in_the_midst_of_what_one_process_does_ends_all(trained):
  """The other one waits for it in a collective, and Python's way out would wait for the other."""
  (status, _, _), (own, _, errors) = several.run(
    ['-c', BROKEN_IN_ONE, f'--workdir={trained[0]}', '--metrics=latents,nll'], 2)
  assert own == 2
  assert 'error: no memory left' in errors
  assert status not in (0, -signal.SIGABRT)   # which is what ends a process that hangs
  both = several.run(['-m', 'mollification.evaluate', f'--workdir={trained[0]}', '--step=5'], 2)
  assert [status for status, *_ in both] == [2, 2]
  assert all('error: no checkpoint of step 5' in errors for *_, errors in both)


@contextlib.contextmanager
def _under_slurm(command, monkeypatch):
  """Two processes that are told of each other by SLURM's variables alone."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    monkeypatch.setenv('JAX_COORDINATOR_PORT', str(free.getsockname()[1]))
  for name, value in SLURM.items():
    monkeypatch.setenv(name, value)
  with contextlib.ExitStack() as running:
    started = []
    for i in range(2):
      for name in ('SLURM_PROCID', 'SLURM_LOCALID'):
        monkeypatch.setenv(name, str(i))
      started += running.enter_context(several.running([*command, '--distributed=auto'], 1))
    yield started


@pytest.mark.slow
@pytest.mark.parametrize('pause, by', [(0., 'flags'), (1., 'flags'), (1., 'SLURM')])
def test_sigterm_ends_all_that_it_is_sent_to(trained, pause, by, monkeypatch):
  """JAX's pre-emption service would swallow it, for hours; they may come one after another.

  The first goes last, also where nothing but the cluster says which of them that is.
  """
  command = ['-m', 'mollification.evaluate', f'--workdir={trained[0]}', '--metrics=importance']
  with (several.running(command, 2) if by == 'flags' else
        _under_slurm(command, monkeypatch)) as started:
    for process in started:   # they have met
      several.wait_for(lambda process=process: 'Gloo' in several.said(process)[0], started)
    for process in started:
      process.send_signal(signal.SIGTERM)
      time.sleep(pause)
    begun = time.monotonic()
    ended = several.ended(started)
  assert time.monotonic() - begun < 20
  for status, _, errors in ended:
    assert status == preemption.EXIT_STATUS, errors
    assert errors.endswith('stopped; the same command goes on\n')
  assert not list(trained[0].glob('records/*'))


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2, 8])
def test_any_number_of_devices_gives_the_same_bits(tmp_path, extractor, digits, count):
  """Over 32 x 8 images and a rest, in one's own process."""
  names = [str(tmp_path / name) for name in ('images.npz', 'theirs.npz', 'ours.npz')]
  np.savez(names[0], arr_0=digits.test.x[:300])
  env = {**os.environ, 'XLA_FLAGS': xla_flags(count)}
  done = subprocess.run(
    [sys.executable, '-m', 'mollification.evaluate', 'stats', names[0], f'--out={names[1]}',
     '--features=digits_cnn_8x8'], env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  score.stats(names[0], names[2], extractor)
  (theirs, meta), (ours, other) = map(statistics_file.read, names[1:])
  assert meta['device'].endswith(f'x {count}')
  assert other['device'].endswith('x 4')
  np.testing.assert_array_equal(theirs.mean, ours.mean)
  np.testing.assert_array_equal(theirs.cov, ours.cov)
  assert meta['images_sha256'] == other['images_sha256']
