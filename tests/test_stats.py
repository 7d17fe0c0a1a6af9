"""Statistics as the binary writes and reads them: what they say, killed runs, other programs."""
import json
import pathlib

import numpy as np
import pytest

from mollification import data, score
from mollification.evaluation import (
  features,
  frechet,
  moments,
  neighbours,
  scoring,
  statistics_file,
)
from tests.evaluation.toy import Toy, passes, plain_statistics

GOLDEN = pathlib.Path(__file__).parent / 'evaluation' / 'golden'


@pytest.fixture(scope='module')
def extractor():
  return features.load('digits_cnn_8x8')


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


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
  np.savez(tmp_path / 's.npz', mu=np.zeros(2), sigma=np.eye(2), n=np.inf)
  with pytest.raises(ValueError, match=r's\.npz holds no statistics: .*infinity'):
    statistics_file.read(tmp_path / 's.npz')


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
