"""The binary without a workdir: score and its options, on features that are at hand."""
import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mollification import data, files, score
from mollification.evaluation import features, frechet, scoring, statistics_file
from tests.evaluation.toy import Toy, passes, plain_statistics

GOLDEN = pathlib.Path(__file__).parent / 'evaluation' / 'golden'


@pytest.fixture(scope='module')
def extractor():
  return features.load('digits_cnn_8x8')


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


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


ASKED = """
import sys
from mollification import cli, evaluate
from mollification.evaluation import features
from mollification.training import preemption
features.load = lambda name, **options: sys.exit(f'{name} {options}')
evaluate.main(cli.parse_flags(['evaluate', *sys.argv[1:]]), preemption.Stop())
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
