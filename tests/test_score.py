"""The binary without a workdir: stats, score and convert-weights, on features that are at hand."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mollification import data, score
from mollification.evaluation import features, frechet, moments, scoring, statistics_file
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
    statistics_file.check(out, meta, other)
  assert '17 grey levels' in capsys.readouterr().err
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
  for meta in ('{}', '[]', '{"features": {"net": "x"}}', 'no'):
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
    flat = x.reshape(len(x), -1).astype('float32') / 16
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


def test_weights_that_nobody_knows_give_no_fid(digits):
  result = score.score('digits', 'digits', ['fid', 'kid'], Toy.extractor(verified=False))
  assert [f['metric'] for f in result['figures']] == ['frechet', 'kernel_distance']


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
