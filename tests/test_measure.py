"""What is measured of a workdir: each figure once, by its rule, and mistakes before any work."""
import dataclasses
import os
import shutil

import numpy as np
import pytest

from mollification import measure, measurements
from mollification.data.dataset import Split
from mollification.evaluation import features, frechet, records, scoring
from mollification.training import loop, workdir
from tests.training import tiny


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """An Opened run with checkpoints 4 and 8, and the records of the newest."""
  folder = tmp_path_factory.mktemp('watch')
  config = tiny.config(eval__every=0)
  with workdir.lock(folder):
    workdir.claim(folder, config.to_dict(), {})
    loop.train(tiny.build.build(config), folder)
  run = measure.open_run(folder)
  measure.measure(run, MEASURED)
  return run


def with_data(run, **changes):
  dataset = dataclasses.replace(run.evaluation.dataset, **changes)
  return dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, dataset=dataset))


MEASURED = ('nll', 'mmd', 'fid', 'kid', 'pr', 'copies')


def test_a_broken_record_hides_nothing_that_was_measured(tmp_path, trained, capsys):
  folder = tmp_path / 'copy'
  shutil.copytree(trained.folder, folder)
  (folder / 'records' / 'zzz.json').write_text('{}')
  run = dataclasses.replace(trained, folder=folder)
  found, = measure.measure(run, ('mmd',), num_samples=40)
  assert found.n == 40
  assert 'note: no figures over steps: ' in capsys.readouterr().err


def test_too_few_samples_are_said_before_anything_is_measured(tmp_path, trained):
  folder = tmp_path / 'copy'
  shutil.copytree(trained.folder, folder)
  shutil.rmtree(folder / 'records')
  run = dataclasses.replace(trained, folder=folder)
  with pytest.raises(ValueError, match='pr needs at least 6 images, got 4 of the samples'):
    measure.measure(run, ('nll', 'pr'), num_samples=4)
  assert not (folder / 'records').exists()


def test_another_network_than_the_datas_own_is_told_of_dark_images(trained, monkeypatch, capsys):
  monkeypatch.setitem(features.DATASETS, 'digits', 'another')
  measure.measure(trained, ('fid',), num_samples=80, write=False,
                  extractor=features.load('digits_cnn_8x8'))
  assert capsys.readouterr().err.count('17 grey levels') == 1


def test_what_is_there_is_not_measured_anew(trained):
  """Every record counts, and it must be of the same figure."""
  assert measure.measured(trained, MEASURED, step=8)
  assert measure.measured(trained, ('frechet', 'nll'), step=8)
  files = sorted((trained.folder / 'records').glob('*.json'))
  assert len(files) == 11   # log_likelihood and bits/dim, four of pr, two of copies, three more
  for path in files:
    content = path.read_bytes()
    path.unlink()
    assert not measure.measured(trained, MEASURED, step=8), path.name
    path.write_bytes(content)
  for other in ({'step': 4}, {'step': 8, 'num_samples': 40}, {'step': 8, 'split': 'validation'},
                {'step': 8, 'extractor': features.load('efficientnet_lite0_96')}):
    assert not measure.measured(trained, ('fid',), **other)
  own = features.load('digits_cnn_8x8')
  for change in ({'sha256': 'e' * 64}, {'input_mode': 'clean'}):
    (name,) = change
    with pytest.raises(ValueError, match=f'another features.{name}: .*move the old one away'):
      measure.measured(trained, ('fid',), step=8, extractor=dataclasses.replace(own, **change))


def test_samples_are_quantised_as_the_flag_says(trained, tmp_path):
  """A rule other than the config's is in the record, and never takes the place of the other's."""
  rounded = measure.open_run(trained.folder, quantize='round')
  assert rounded.identity == trained.identity
  found = measure.measure(rounded, ('frechet', 'mmd'), write=False)
  assert [record.settings['quantize'] for record in found] == ['round', 'round']
  by_name = {record.metric: record for record in found}
  assert by_name['frechet'].features['quantisation'] == 'round'
  before = records.read(trained.folder / 'records' / by_name['frechet'].file_name)
  assert before.features['quantisation'] == before.settings['quantize'] == 'floor'
  assert measure.measured(rounded, ('nll',), step=8)   # of no samples
  with pytest.raises(ValueError, match=r"another settings.quantize: 'floor', new 'round'"):
    measure.measured(rounded, ('mmd',), step=8)
  # Uniform dequantisation is undone alike by both; on the grid itself they differ.
  shutil.copytree(trained.folder / 'checkpoints', tmp_path / 'checkpoints')
  config = trained.config.copy_and_resolve_references()
  config.prepare.dequantize = 'none'
  (tmp_path / 'config.json').write_text(config.to_json())
  down, nearest = (measure.open_run(tmp_path, quantize=rule) for rule in ('floor', 'round'))
  (value,), (other,) = (measure.measure(run, ('mmd',), write=False) for run in (down, nearest))
  assert value.value != other.value
  with pytest.raises(ValueError, match='pixels that are not dequantised have none'):
    measure.measure(down, ('nll',))


def test_the_whole_training_set_is_a_split(trained):
  data = trained.evaluation.dataset
  whole = np.concatenate([data.train.x, data.validation.x])
  trained = with_data(trained, carved_from=Split('full_train', whole))
  with pytest.warns(frechet.FewSamples):
    nll, bits, distance = measure.measure(trained, ('nll', 'frechet'), split='full_train',
                                          num_samples=40, step=8)
  same = with_data(trained, test=Split('test', whole))
  assert nll.value == measure.measure(same, ('nll',), step=8, write=False)[0].value
  assert nll.n == len(whole)
  assert {r.reference['split'] for r in (nll, bits, distance)} == {'full_train'}
  assert distance.reference['sha256'] == same.evaluation.dataset.test.sha256
  assert measure.measured(trained, ('nll', 'frechet'), step=8, split='full_train', num_samples=40)
  with pytest.raises(ValueError, match='must be test or validation, got full_train'):
    measure.check_names(('copies',), 'full_train')


def test_what_was_measured_before_a_cut_is_there(trained, monkeypatch):
  """Each metric's records, and the picture of the samples before any record that is of them."""
  def cut(*args, **options):
    raise KeyboardInterrupt

  monkeypatch.setattr(scoring, 'copies', cut)
  with pytest.raises(KeyboardInterrupt):
    measure.measure(trained, ('nll', 'fid', 'copies'), step=4)
  assert measure.measured(trained, ('nll', 'fid'), step=4)
  assert not measure.measured(trained, ('copies',), step=4)
  with monkeypatch.context() as patch:
    written = []
    patch.setattr(records, 'write', lambda record, folder: written.append(record.metric))
    measure.measure(trained, ('nll',), step=8)
  assert written == ['bits_per_dim', 'log_likelihood']   # the one that tells of both is last
  (trained.folder / 'figures' / 'log_likelihood-test-raw-n360.png').unlink()
  picture = trained.folder / 'samples' / 'measured-raw-00000004.png'
  picture.unlink()
  monkeypatch.setattr(scoring, 'run', cut)
  with pytest.raises(KeyboardInterrupt):
    measure.measure(trained, ('kid',), step=4)
  assert picture.exists()
  name = 'log_likelihood-test-raw-n360'
  curve = trained.folder / 'figures' / f'{name}.png'
  assert not curve.exists()   # two steps are there, and the cut came before the curve
  measure.draw_curves(trained)
  drawn = curve.stat().st_mtime_ns
  measure.draw_curves(trained)
  assert curve.stat().st_mtime_ns == drawn
  record = trained.folder / 'records' / f'{name}-000000004.json'
  os.utime(record, ns=(drawn + 1, drawn + 1))
  measure.draw_curves(trained)
  assert curve.stat().st_mtime_ns > drawn


def test_mistakes_are_found_before_anything_is_measured(trained, monkeypatch):
  def nothing(*args):
    raise AssertionError('a checkpoint was read')

  monkeypatch.setattr(measure, 'restore', nothing)
  with pytest.raises(ValueError, match='sfid is made of the Inception network alone'):
    measure.measure(trained, ('nll', 'sfid'))
  with pytest.raises(ValueError, match=r'takes uint8 images .*28.*choose other --features'):
    measure.measure(trained, ('nll', 'fid'), extractor=features.load('fashion_mnist_cnn_28x28'))
  other = with_data(trained, name='cifar10')
  with pytest.raises(ValueError, match="no features for data set 'cifar10'"):
    measure.measure(other, ('nll', 'fid'))


def test_a_figure_in_the_way_is_found_before_anything_is_measured(trained, monkeypatch):
  monkeypatch.setattr(trained.config.eval, 'quantize', 'round')
  monkeypatch.setitem(measurements.MEASURES, 'nll', None)   # would be called
  with pytest.raises(ValueError, match='holds a record with another'):
    measure.measure(trained, ('nll', 'mmd'), step=8)
