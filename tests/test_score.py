"""The binary without a workdir: stats, score and convert-weights, on features that are at hand."""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mollification import data, files, score
from mollification.evaluation import (
  features,
  frechet,
  moments,
  neighbours,
  scoring,
  statistics_file,
)
from tests import several

GOLDEN = pathlib.Path(__file__).parent / 'evaluation' / 'golden'


@pytest.fixture(scope='module')
def extractor():
  return features.load('digits_cnn_8x8')


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


def plain_statistics(extractor, images):
  return moments.of(features.extract(extractor, images)).statistics()


def test_statistics_as_pytorch_fid_reads_and_writes_them(tmp_path, extractor, digits):
  score.stats('digits', tmp_path / 'ours.npz', extractor)
  expected = plain_statistics(extractor, digits.test.x)
  with np.load(tmp_path / 'ours.npz') as archive:   # what pytorch-fid reads
    np.testing.assert_array_equal(archive['mu'][:], expected.mean)
    np.testing.assert_array_equal(archive['sigma'][:], expected.cov)
  np.savez(tmp_path / 'theirs.npz', mu=expected.mean, sigma=expected.cov)
  found, meta = statistics_file.read(tmp_path / 'theirs.npz')
  assert (found.n, meta) == (None, None)
  assert frechet.frechet_distance(found, expected) < 1e-9


def test_files_of_pytorch_fid_and_its_distance_between_them(extractor):
  """Written by it: experiments/bench/pytorch_fid_golden.py; so is the number."""
  paths = [str(GOLDEN / f'pytorch_fid_{name}.npz') for name in 'ab']
  assert all(map(statistics_file.is_statistics, paths))
  found = score.score(*paths, ['fid'], extractor)['figures'][0]['value']
  assert found == pytest.approx(0.556965120801658, rel=1e-9)


def test_pytorch_fid_itself_reads_our_statistics_and_we_its_own(tmp_path, extractor, digits):
  theirs = pytest.importorskip('pytorch_fid.fid_score', reason='of the extra bench')
  score.stats('digits', tmp_path / 'ours.npz', extractor)
  mean, cov = theirs.compute_statistics_of_path(str(tmp_path / 'ours.npz'), None, 1, 64, 'cpu')
  expected = plain_statistics(extractor, digits.test.x)
  np.testing.assert_array_equal(mean, expected.mean)
  np.testing.assert_array_equal(cov, expected.cov)
  other = plain_statistics(extractor, digits.validation.x)
  np.savez_compressed(tmp_path / 'theirs.npz', mu=other.mean, sigma=other.cov)   # as it saves them
  paths = [str(tmp_path / name) for name in ('ours.npz', 'theirs.npz')]
  found = score.score(*paths, ['fid'], extractor)['figures'][0]['value']
  assert found == pytest.approx(
    theirs.calculate_frechet_distance(mean, cov, other.mean, other.cov), rel=1e-6)


def test_a_stats_file_says_what_it_is_of(tmp_path, extractor, digits, capsys, monkeypatch):
  out = tmp_path / 'deep' / 'stats.npz'
  assert '360 images, digits_cnn_8x8' in score.stats('digits', out, extractor)
  _, meta = statistics_file.read(out)
  assert (meta['name'], meta['split'], meta['n']) == ('digits', 'test', 360)
  assert meta['features'] == {'net': 'digits_cnn_8x8', 'sha256': extractor.sha256,
                              'input_mode': 'uint8'}
  content = out.read_bytes()
  assert 'is there already' in score.stats('digits', out, extractor)
  with pytest.raises(ValueError, match="must hold statistics of split 'train', got 'test'"):
    score.stats('digits', out, extractor, split='train')
  assert out.read_bytes() == content
  assert [p.name for p in out.parent.iterdir()] == ['stats.npz']
  other = {**scoring.identity(extractor), 'input_mode': 'tf1'}
  with pytest.raises(ValueError, match="with input_mode 'tf1', got 'uint8'"):
    statistics_file.check(out, meta, other, 'float32')
  assert 'grey levels' not in capsys.readouterr().err   # its own network knows them
  done = passes(monkeypatch)
  with pytest.raises(ValueError, match="with net 'inception_pytorch', got 'digits_cnn_8x8'"):
    score.score('digits', out, ['fid'], Toy.extractor())
  assert not done   # before the other side is begun


def _cut_stats(where, out, extractor, monkeypatch):
  """Begin `stats`, which is killed at its second piece; returns the images done at each."""
  monkeypatch.setattr(scoring, 'SAVE_SECONDS', 0)
  calls = []

  def killed(self, done):
    calls.append(done)
    if len(calls) == 2:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(scoring.Progress, 'show', killed)
    with pytest.raises(KeyboardInterrupt):
      score.stats(where, out, extractor)
  return calls


def test_stats_that_were_killed_go_on(tmp_path, extractor, digits, monkeypatch):
  out = tmp_path / 'stats.npz'
  calls = _cut_stats('digits', out, extractor, monkeypatch)
  assert not out.exists()
  resumed = []
  monkeypatch.setattr(scoring.Progress, 'show', lambda self, done: resumed.append(done))
  with pytest.raises(ValueError, match=r"must be the state of .*train.*got .*test"):
    score.stats('digits', out, extractor, split='train')
  score.stats('digits', out, extractor)
  assert resumed[0] == calls[0] + features.piece_size()   # what was done is not done again
  straight = tmp_path / 'straight.npz'
  score.stats('digits', straight, extractor)
  with np.load(out) as a, np.load(straight) as b:
    np.testing.assert_array_equal(a['mu'], b['mu'])
    np.testing.assert_array_equal(a['sigma'], b['sigma'])
    first, second = (json.loads(str(archive['meta'])) for archive in (a, b))
  assert first['images_sha256'] == second['images_sha256']
  assert sorted(p.name for p in tmp_path.iterdir()) == ['stats.npz', 'straight.npz']


def test_what_was_done_is_kept_until_the_statistics_are_written(
    tmp_path, extractor, digits, monkeypatch):
  out = tmp_path / 'stats.npz'
  monkeypatch.setattr(scoring, 'SAVE_SECONDS', 0)

  def full(*args):
    raise OSError('no space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(statistics_file, 'write', full)
    with pytest.raises(OSError, match='no space'):
      score.stats('digits', out, extractor)
  assert [path.name for path in tmp_path.iterdir()] == ['.stats.npz.state']
  resumed = []
  monkeypatch.setattr(scoring.Progress, 'show', lambda self, done: resumed.append(done))
  score.stats('digits', out, extractor)
  assert not resumed
  assert [path.name for path in tmp_path.iterdir()] == ['stats.npz']
  with pytest.raises(ValueError, match=r"called \*\.npz, got 'stats'"):
    score.stats('digits', 'stats', extractor)


def test_spatial_statistics_of_a_reference_give_sfid(tmp_path, digits):
  """As guided-diffusion's references hold them, with images that are for other metrics."""
  toy = Toy.extractor()
  found = [{name: moments.of(out[name]).statistics() for name in ('features', 'spatial')}
           for out in map(Toy.outputs, (digits.test.x, digits.validation.x))]
  np.savez(tmp_path / 'b.npz', mu=found[1]['features'].mean, sigma=found[1]['features'].cov,
           mu_s=found[1]['spatial'].mean, sigma_s=found[1]['spatial'].cov, arr_0=digits.train.x)
  result = score.score('digits', str(tmp_path / 'b.npz'), ['fid', 'sfid'], toy)
  for figure, name in zip(result['figures'], ('features', 'spatial'), strict=True):
    expected = frechet.frechet_distance(found[0][name], found[1][name])
    assert figure['value'] == pytest.approx(expected, rel=1e-6)
  np.savez(tmp_path / 'c.npz', mu=found[1]['features'].mean, sigma=found[1]['features'].cov)
  with pytest.raises(ValueError, match='sfid needs the images of the reference'):
    score.score('digits', str(tmp_path / 'c.npz'), ['sfid'], toy)
  # What needs images is of those, and the distances of the statistics beside them.
  result = score.score('digits', str(tmp_path / 'b.npz'), ['fid', 'pr'], toy)
  theirs = neighbours.manifolds(*(np.asarray(Toy.outputs(x)['features']) for x in (
    digits.test.x, digits.train.x)))
  values = {figure['metric']: figure['value'] for figure in result['figures']}
  assert values['recall'] == theirs.recall
  assert values['fid'] == pytest.approx(
    frechet.frechet_distance(found[0]['features'], found[1]['features']), rel=1e-6)
  np.savez(tmp_path / 'c.npz', mu=np.zeros(2), sigma=np.eye(2), mu_s=np.zeros(3), sigma_s=np.eye(4))
  with pytest.raises(ValueError, match=r'c\.npz holds no spatial statistics: .*leave sfid out'):
    score.score('digits', str(tmp_path / 'c.npz'), ['sfid'], toy)


def test_other_images_under_the_same_name_are_not_taken_for_those_of_before(
    tmp_path, extractor, digits, monkeypatch):
  """Neither where the statistics are there, nor where a run was cut."""
  images, out = tmp_path / 'x.npy', tmp_path / 'stats.npz'
  np.save(images, digits.test.x)
  score.stats(str(images), out, extractor)
  np.save(images, digits.test.x[::-1])
  with pytest.raises(ValueError, match='write to another file'):
    score.stats(str(images), out, extractor)
  out.unlink()
  _cut_stats(str(images), out, extractor, monkeypatch)
  np.save(images, digits.test.x)
  with pytest.raises(ValueError, match='must be the state of'):
    score.stats(str(images), out, extractor)
  state, = tmp_path.glob('.*.state*')
  state.write_bytes(b'no')
  with pytest.raises(ValueError, match=f'{state.name} is no state of a run that was cut'):
    score.stats(str(images), out, extractor)


def test_statistics_whose_meta_says_nothing_are_refused(tmp_path):
  features_alone = '{"features": {"net": "x", "sha256": "y", "input_mode": "z"}}'
  for meta in ('{}', '[]', '{"features": {"net": "x"}}', features_alone, 'no'):
    np.savez(tmp_path / 's.npz', mu=np.zeros(2), sigma=np.eye(2), meta=meta)
    with pytest.raises(ValueError, match=r's\.npz holds no statistics: '):
      statistics_file.read(tmp_path / 's.npz')


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
from mollification.evaluation import scoring
from tests.test_score import Toy
_, images, folder = flags.FLAGS(sys.argv)
processes.join()
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
  assert 'process 1 of 2 failed, and so the others stop; its own output says why' in said[0]
  assert not list(tmp_path.glob('.*state*'))


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2, 8])
def test_any_number_of_devices_gives_the_same_bits(tmp_path, extractor, digits, count):
  """Over 32 x 8 images and a rest, in one's own process."""
  names = [str(tmp_path / name) for name in ('images.npz', 'theirs.npz', 'ours.npz')]
  np.savez(names[0], arr_0=digits.test.x[:300])
  env = {**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}'}
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


def test_score_of_images_and_of_statistics(tmp_path, extractor, digits, monkeypatch):
  np.save(tmp_path / 'a.npy', digits.test.x)
  np.save(tmp_path / 'b.npy', digits.validation.x)
  images = [str(tmp_path / name) for name in ('a.npy', 'b.npy')]
  result = score.score(*images, ['fid', 'kid', 'pr'], extractor)
  names = [f['metric'] for f in result['figures']]
  assert names == ['frechet', 'kernel_distance', 'precision', 'recall', 'density', 'coverage']
  a, b = (plain_statistics(extractor, x) for x in (digits.test.x, digits.validation.x))
  expected = frechet.frechet_distance(a, b)
  assert result['figures'][0]['value'] == expected
  assert result['figures'][0]['standard_error'] > 0
  assert result['figures'][0]['bias_corrected'] < expected
  assert result['set']['images_sha256'] != result['reference']['images_sha256']
  *shown, last = score.lines(result)
  assert len(shown) == 6
  assert last.startswith(f'in digits_cnn_8x8, input uint8, weights {extractor.sha256}; reference ')
  assert f'(n={len(digits.validation.x)})' in last
  for name in ('a', 'b'):
    score.stats(str(tmp_path / f'{name}.npy'), tmp_path / f'{name}.npz', extractor)
  stats = [str(tmp_path / name) for name in ('a.npz', 'b.npz')]
  for pair in (stats, [images[0], stats[1]], [stats[0], images[1]]):
    found = score.score(*pair, ['fid'], extractor)['figures'][0]
    assert found['metric'] == 'frechet'
    assert found['value'] == pytest.approx(expected, rel=1e-12)
  assert score.score(images[0], images[0], ['fid'], extractor)['figures'][0]['value'] < 1e-9
  done = passes(monkeypatch)
  with pytest.raises(ValueError, match=r'a\.npz holds statistics, .*the Fréchet distance alone'):
    score.score(stats[0], images[1], ['fid', 'kid'], extractor)
  with pytest.raises(ValueError, match='kid needs the images of the reference'):
    score.score(images[0], stats[1], ['kid'], extractor)
  with pytest.raises(FileNotFoundError, match='nowhere'):
    score.score(images[0], 'nowhere', ['fid'], extractor)
  assert not done   # all of it before hours are spent on the other side


def test_features_of_another_precision_are_not_taken_for_those_of_before(
    tmp_path, monkeypatch):
  single, double = (Toy.extractor(precision=name) for name in ('float32', 'float64'))
  score.stats('digits', tmp_path / 'a.npz', double)
  assert statistics_file.read(tmp_path / 'a.npz')[1]['precision'] == 'float64'
  with pytest.raises(ValueError, match="of precision 'float32', got 'float64'"):
    score.stats('digits', tmp_path / 'a.npz', single)
  _cut_stats('digits', tmp_path / 'b.npz', single, monkeypatch)
  with pytest.raises(ValueError, match='must be the state of'):
    score.stats('digits', tmp_path / 'b.npz', double)


ASKED = """
import sys
from mollification import cli, evaluate
from mollification.evaluation import features
features.load = lambda name, **options: sys.exit(f'{name} {options}')
evaluate.main(cli.parse_flags(['evaluate', *sys.argv[1:]]))
"""


def test_the_options_of_a_network_reach_it(tmp_path):
  """In a process of its own: both binaries define --workdir."""
  done = subprocess.run(
    [sys.executable, '-c', ASKED, 'stats', 'digits', f'--out={tmp_path}/x.npz', '--weights=w.npz',
     '--features=inception_tf1', '--precision=float64', '--allow_unverified_weights'],
    capture_output=True, text=True)
  options = {'path': 'w.npz', 'allow_unverified': True, 'precision': 'float64'}
  assert done.stderr.splitlines()[-1] == f'inception_tf1 {options}'


def test_a_split_is_of_the_side_that_is_a_data_set(tmp_path, digits, extractor):
  np.save(tmp_path / 'a.npy', digits.train.x[:80])
  result = score.score(str(tmp_path / 'a.npy'), 'digits', ['fid'], extractor, split='train')
  assert (result['set']['split'], result['reference']['split']) == ('all', 'train')


def test_too_few_images_are_said_before_a_network_runs(tmp_path, digits, monkeypatch):
  done, toy = passes(monkeypatch), Toy.extractor()
  np.save(tmp_path / 'few.npy', digits.test.x[:5])
  few = str(tmp_path / 'few.npy')
  for a, b, metric, least in ((few, 'digits', 'pr', 6), ('digits', few, 'pr', 6),
                              (few, 'digits', 'is', 10)):
    with pytest.raises(ValueError, match=f'{metric} needs at least {least} images, got 5 of .*few'):
      score.score(a, b, ['fid', metric], toy)
  assert not done
  score.score('digits', few, ['is'], toy)   # of which it needs none


def test_statistics_alone_need_no_network(tmp_path, extractor, digits):
  paths = [str(GOLDEN / f'pytorch_fid_{name}.npz') for name in 'ab']
  out = tmp_path / 'out.json'
  done = subprocess.run(
    [sys.executable, '-m', 'mollification.evaluate', 'score', *paths, f'--out={out}'],
    capture_output=True, text=True, env={'HOME': str(tmp_path), 'PATH': '/usr/bin'})
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('frechet 0.556965')
  assert 'in not said, input not said' in done.stdout
  assert json.loads(out.read_text())['features'] is None
  score.stats('digits', tmp_path / 'ours.npz', extractor)
  other = dataclasses.replace(extractor, input_mode='tf1')
  score.stats('digits', tmp_path / 'other.npz', other)
  with pytest.raises(ValueError, match="with input_mode 'uint8', got 'tf1'"):
    score.score_statistics(tmp_path / 'ours.npz', tmp_path / 'other.npz')


def test_what_is_read_is_not_written_over(tmp_path, extractor):
  np.savez(tmp_path / 'a.npz', arr_0=np.zeros((3, 8, 8), np.uint8))
  (tmp_path / 'f.json').mkdir()
  before = (tmp_path / 'a.npz').read_bytes()
  with pytest.raises(ValueError, match='is read here, and would be written over'):
    score.stats(str(tmp_path / 'a.npz'), tmp_path / 'a.npz', extractor)
  with pytest.raises(ValueError, match='is read here, and would be written over'):
    score.convert_weights(tmp_path / 'a.npz', tmp_path / '.' / 'a.npz')
  for out in ('f.json', 'f.txt'):
    with pytest.raises(ValueError, match=r'must be a file called \*\.json, got .*rename it'):
      files.checked_output(tmp_path / out, '.json')
  with pytest.raises(OSError, match=r'x\.json cannot be written in .*a\.npz; choose another'):
    files.checked_output(tmp_path / 'a.npz' / 'deep' / 'x.json', '.json')
  assert files.checked_output(tmp_path / 'deep' / 'x.json', '.json').name == 'x.json'
  assert not (tmp_path / 'deep').exists()
  assert (tmp_path / 'a.npz').read_bytes() == before
  assert files.checked_output('~/x.json', '.json').parent == pathlib.Path.home()


def test_metrics_that_a_network_does_not_have(extractor):
  for metric in ('is', 'sfid'):
    with pytest.raises(ValueError, match=f'{metric} is made of the Inception network alone'):
      score.score('digits', 'digits', [metric], extractor)
  with pytest.raises(ValueError, match="unknown metric 'psnr'; known: fid"):
    score.score('digits', 'digits', ['psnr'], extractor)


class Toy:
  """Stands for Inception: its outputs, at no cost."""
  name, sha256, input_mode = 'inception_pytorch', 'none', 'pytorch'

  @staticmethod
  def outputs(x):
    flat = x.reshape(len(x), -1).astype(float) / 16   # of the precision that is set
    return {'features': flat[:, :20], 'spatial': flat[:, 20:50], 'logits_unbiased': flat[:, 50:]}

  @staticmethod
  def extractor(**options):
    return features.Extractor(Toy.name, Toy.sha256, (8, 8, 1), {},
                              lambda variables, x: Toy.outputs(x), input_mode='pytorch', **options)


def test_every_metric_of_inception(digits):
  toy = Toy.extractor()
  result = score.score('digits', 'digits', list(scoring.METRICS), toy)
  names = [f['metric'] for f in result['figures']]
  assert names == ['fid', 'inception_score', 'kid', 'precision', 'recall', 'density', 'coverage',
                   'sfid']
  values = {f['metric']: f['value'] for f in result['figures']}
  assert max(values['fid'], values['sfid']) < 1e-9
  assert values['inception_score'] > 1


def test_weights_that_nobody_knows_give_no_fid(digits, capsys):
  result = score.score('digits', 'digits', ['fid', 'kid', 'sfid', 'is'],
                       Toy.extractor(verified=False))
  assert [f['metric'] for f in result['figures']] == ['frechet', 'kernel_distance',
                                                      'spatial_frechet', 'class_score']
  assert capsys.readouterr().err.count('17 grey levels') == 1   # of both sides


def passes(monkeypatch):
  """The names of the sets that the network is run over from now on."""
  names, run = [], scoring.run
  monkeypatch.setattr(scoring, 'run', lambda extractor, source, *args, **options: (
    names.append((source.name, source.split)), run(extractor, source, *args, **options))[1])
  return names


def test_inception_score_needs_no_reference(digits, monkeypatch, tmp_path):
  names, toy = passes(monkeypatch), Toy.extractor()
  result = score.score('digits', 'digits', ['is'], toy)
  assert names == [('digits', 'test')]
  assert [f['metric'] for f in result['figures']] == ['inception_score']
  assert (result['reference']['name'], result['reference']['n']) == ('digits', 360)
  with pytest.raises(FileNotFoundError, match='nowhere is no folder'):   # still looked for
    score.score('digits', 'nowhere', ['is'], toy)


def test_error_bars_that_take_long_show_how_far_they_are(digits, monkeypatch, capsys, extractor):
  arguments = 'digits', 'digits', ['fid'], extractor
  score.score(*arguments)
  assert 'error bar' not in capsys.readouterr().err
  monkeypatch.setattr(scoring, 'QUICK_SECONDS', -1.)
  score.score(*arguments)
  assert 'error bar of frechet 1/35' in capsys.readouterr().err


def test_a_folder_of_grey_files_suits_a_network_of_grey_images(tmp_path, digits, extractor):
  for i, image in enumerate(digits.test.x[:80]):
    Image.fromarray(image[..., 0]).save(tmp_path / f'{i:03}.png')
  score.stats(str(tmp_path), tmp_path / 'out.npz', extractor)
  found, _ = statistics_file.read(tmp_path / 'out.npz')
  np.testing.assert_array_equal(found.cov, plain_statistics(extractor, digits.test.x[:80]).cov)


def test_compressed_images_against_others_are_noted(tmp_path, digits, extractor, capsys):
  """Of images and of statistics of them; the precision is noted as well."""
  (tmp_path / 'a').mkdir()
  for i, image in enumerate(digits.test.x[:80]):
    Image.fromarray(image[..., 0]).save(tmp_path / 'a' / f'{i:03}.jpg')
  a, out = str(tmp_path / 'a'), str(tmp_path / 'out.npz')
  result = score.score(a, 'digits', ['fid'], extractor)
  note = f'{a} holds images of JPEG and digits of array: compression alone moves the features'
  assert result['notes'] == [note]
  assert (result['set']['formats'], result['set']['sizes']) == ({'JPEG': 80}, {'8x8': 80})
  assert result['precision'] == 'float32'
  score.stats('digits', out, extractor)
  capsys.readouterr()
  score.score(a, out, ['fid'], extractor)
  assert f'note: {note}' in capsys.readouterr().err
  _, meta = statistics_file.read(out)
  assert meta['precision'] == 'float32'
  assert statistics_file.check(out, meta, scoring.identity(extractor), 'float64') == [
    f'{out} is of float32 features, the others are float64']


def binary(*args):
  return subprocess.run([sys.executable, '-m', 'mollification.evaluate', *args],
                        capture_output=True, text=True)


def test_mistakes_end_in_one_line_and_write_nothing(tmp_path):
  for i in range(2):
    Image.fromarray(np.full((8, 8), 100 * i, np.uint8)).save(tmp_path / f'{i}.png')
  env_home = tmp_path / 'home'
  env_home.mkdir()
  out = tmp_path / 'out.npz'
  done = subprocess.run(
    [sys.executable, '-m', 'mollification.evaluate', 'stats', str(tmp_path), f'--out={out}'],
    capture_output=True, text=True, env={'HOME': str(env_home), 'PATH': '/usr/bin'})
  assert done.returncode == 2
  for part in ('6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2', 'https://',
               str(env_home)):
    assert part in done.stderr
  assert done.stderr.count('\n') == 1
  assert not out.exists()
  assert not list(env_home.iterdir())
  done = binary('stats', 'digits', '--features=digits_cnn_8x8')
  assert (done.returncode, done.stderr) == (2, 'error: --out=FILE.npz is wanted: the file to '
                                            'write.\n')
