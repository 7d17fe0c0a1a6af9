"""Two steps: latents as a table, samples decoded from it, and what they are held against."""
import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from experiments import (
  cell_records,
  cells,
  dry_run,
  image_cells,
  image_table,
  table_two_step,
  two_step,
)
from mollification import build
from mollification.evaluation import records
from tests import test_configs
from tests.training import tiny


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  """A finished cell: a small VAE, and a density on its latents."""
  root = tmp_path_factory.mktemp('two_step')
  first = cells.Cell(tiny.config(eval__every=0, checkpoint__every=0), root / 'vae', ('mmd',), 'vae',
                     kept=root / 'data')
  config = build.smoke(two_step.density_config(3, image_cells.ARMS['gaussian']))
  config.model.hidden, config.model.num_blocks = 8, 1
  cell = two_step.Cell(first, config, root / 'two_step', 'both',
                       (cell_records.InFeatures(('frechet', 'pr'), '', 80),))
  with jax.debug_key_reuse(False):   # it slows every eager operation of a checkpoint
    with pytest.raises(ValueError, match='vae must be trained and measured first'):
      cells.train_and_measure(cell)
    assert cells.train_and_measure(first).seconds > 0
    assert cells.train_and_measure(cell).seconds > 0
  return cell


def test_a_density_waits_for_an_autoencoder_that_another_process_is_at(monkeypatch, capsys):
  first = [types.SimpleNamespace(label=label, is_done=lambda done=done: done)
           for label, done in (('ours', True), ('theirs', False), ('broken', False))]
  todo = [types.SimpleNamespace(label=f'density on {own.label}', autoencoder=own) for own in first]
  asked = []
  monkeypatch.setattr(table_two_step.command, 'run_all', lambda todo, root: (
    asked.append([own.label for own in todo]) or (
      table_two_step.command.Ended({'broken': 'ValueError'}, ['theirs']) if len(asked) == 1 else
      table_two_step.command.Ended({}, ['density on ours']))))
  assert table_two_step._train(first, todo, None) == (
    {'broken': 'ValueError'}, ['theirs', 'density on theirs', 'density on ours'])
  assert asked == [['ours', 'theirs', 'broken'], ['density on ours']]
  assert capsys.readouterr().out == (
    'density on theirs waits for theirs, which another process is at; give the same command once '
    'that is done\n')


def test_latents_are_the_standardised_means_of_the_encoder(done):
  with jax.debug_key_reuse(False):
    first = two_step.Autoencoder.open(done.autoencoder.folder)
  table, images = first.latents(), first.opened.evaluation.dataset
  assert table.levels is None
  assert {name: getattr(table, name).num_examples for name in ('train', 'validation', 'test')} == {
    name: getattr(images, name).num_examples for name in ('train', 'validation', 'test')}
  np.testing.assert_allclose(table.train.x.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(table.train.x.std(0), 1, atol=1e-4)
  row = 7   # of the test split, by itself
  mean, _ = first.opened.evaluation.model.apply(
    first.variables, first.opened.evaluation.prepare(
      np.asarray(images.test.x[row:row + 1]),
      two_step.rng.range_keys(two_step.rng.purpose_key(0, 'evaluate'), row, 1)), method='encode')
  np.testing.assert_allclose(table.test.x[row] * first.std + first.mean, mean[0], atol=1e-5)


def test_samples_are_decoded_at_what_the_density_draws(done):
  with jax.debug_key_reuse(False):
    first = two_step.Autoencoder.open(done.autoencoder.folder)
  own = types.SimpleNamespace(apply=lambda variables, keys, temperature, method: (
    temperature * jax.numpy.tile(variables['z'], (len(keys), 1))))
  z = np.asarray(first.latents().train.x[5])
  found = first.sampler(own)({'z': z}, jax.random.key(0), 3)
  evaluation = first.opened.evaluation
  wanted = evaluation.prepare.invert(evaluation.model.apply(
    first.variables, (z * first.std + first.mean)[None], method='decode'),
    quantize=first.opened.config.eval.quantize)
  assert found.x.dtype == np.uint8
  np.testing.assert_array_equal(found.x, np.repeat(wanted, 3, axis=0))


def test_a_cell_is_measured_against_the_images_and_done_once(done):
  found = records.read_all(done.folder / 'records')
  assert {r.metric for r in found} == {'frechet', 'precision', 'recall', 'density', 'coverage'}
  assert {(r.seed, r.n, r.reference['dataset'], r.reference['n'], r.features['net'])
          for r in found} == {(3, 80, 'digits', 360, 'digits_cnn_8x8')}
  assert list((done.folder / 'samples').glob('*.png'))
  assert json.loads((done.folder / 'config.json').read_text())['mollify']['fraction'] == .5
  assert done.is_done()
  assert cells.train_and_measure(done) is None
  assert found[0].settings['temperature'] == 1.
  assert json.loads((done.folder / 'seconds.json').read_text())['measuring'] > 0
  retrained = done.autoencoder.config.copy_and_resolve_references()
  retrained.optimizer.learning_rate *= 2
  assert not dataclasses.replace(done, autoencoder=dataclasses.replace(
    done.autoencoder, config=retrained)).is_done()


def test_a_cell_that_was_cut_while_it_was_measured_measures_what_is_missing(done, tmp_path):
  own = dataclasses.replace(done, folder=tmp_path / 'copy', wanted=tuple(
    cell_records.InFeatures((metric,), '', 80) for metric in ('frechet', 'pr')))
  shutil.copytree(done.folder, own.folder)
  written = {path: path.stat().st_mtime_ns for path in own.folder.glob('records/*')}
  lost = next(path for path in written if path.name.startswith('precision'))
  lost.unlink()   # of its metric it is written last
  shutil.rmtree(own.folder / 'samples')
  with jax.debug_key_reuse(False):
    assert cells.train_and_measure(own) is None
  assert own.is_done()
  assert list((own.folder / 'samples').glob('*.png'))
  kept = [path for path in written if path.stat().st_mtime_ns == written[path]]
  assert [path.name.split('-')[0] for path in kept] == ['frechet']


def test_records_of_another_config_are_refused(done, tmp_path):
  other = dataclasses.replace(done, folder=tmp_path / 'copy')
  shutil.copytree(done.folder, other.folder)
  for path in (other.folder / 'records').glob('*.json'):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {'config_sha256': 'f' * 64}))
  with pytest.raises(ValueError, match=r'of another config \(ffffffff, that of config.json is '):
    other.is_done()


def test_rows_hold_every_way_against_the_vanilla_vae(monkeypatch):
  values = {('vae', 'vanilla'): 5., ('vae', 'gaussian'): 4., ('vae', 'blur'): 1.,
            ('two_step', 'vanilla'): 3., ('two_step', 'gaussian'): 6., ('glow', 'vanilla'): 9.}
  own = [(table_two_step.comparison.Cell(model, arm, seed, metric, value + .01 * seed), None)
         for (model, arm), value in values.items() for seed in (0, 1)
         for metric in ('frechet', *(('log_likelihood',) if model == 'vae' else ()))]
  monkeypatch.setattr(table_two_step.comparison, 'read', lambda root: own)
  rows = table_two_step.rows('', 'digits', 'digits')
  assert [(row.model, row.arm, row.metric, round(row.difference.mean, 6)) for row in rows] == [
    ('vae', 'mollified', 'frechet', -1.), ('vae', 'two steps', 'frechet', -2.),
    ('vae', 'two steps, mollified flow', 'frechet', 1.)]
  assert [line[:2] for line in image_table.table_lines(rows)[2:]] == [
    ('VAE', 'vanilla'), ('', 'mollified'), ('', 'two steps'), ('', 'two steps, mollified flow')]
  assert 'missing' not in table_two_step.text('', 'digits')
  own[:] = [(cell, None) for cell, _ in own if (cell.model, cell.arm) != ('vae', 'gaussian')]
  assert table_two_step.text('', 'digits').endswith(
    'python -m experiments.table1 --scale=digits --cells=digits/vae/gaussian, with the other flags '
    'of this command, trains its runs.')


def test_measuring_is_held_against_the_training_of_both_steps_of_its_seed(tmp_path):
  times = {'vae/vanilla/0': (300., 50.), 'vae/vanilla/1': (100., 50.), 'vae/gaussian/0': (9., 9.),
           'two_step/vanilla/0': (100., 40.), 'two_step/gaussian/1': (100., 50.),
           'two_step/gaussian/2': (1., 50.)}   # whose first step nobody timed
  assert table_two_step._taken(tmp_path) == ''
  for name, (training, measuring) in times.items():
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'config.json').write_text('{"total_steps": 10}')
    (tmp_path / name / 'seconds.json').write_text(json.dumps(
      {'update': .1, 'training': training, 'measuring': measuring}))
  assert table_two_step._taken(tmp_path).strip() == (
    '- time: measuring takes 10% to 25% of the training of both steps (40% to 50% of the second '
    'alone), in 2 runs.')


def test_what_a_second_step_will_take_is_that_of_its_flow_on_the_latents(tmp_path, monkeypatch):
  """A flow of 16 latents, small, counted once for its arms; samples are of the decoder."""
  of_sample = []
  monkeypatch.setattr(table_two_step.estimate, 'of_sample', lambda config, network, passes: (
    of_sample.append((config.data.name, network)) or 3e9))
  first = image_cells.cell('table1', 'cpu', 'fashion_mnist/vae/vanilla/0', tmp_path)
  first.config.model.latent_dim = 16
  config = two_step.density_config(0, {})
  config.model.hidden = 128
  todo = [two_step.Cell(first, config, tmp_path / arm, f'digits/two_step/{arm}/0', first.more)
          for arm in table_two_step.ARMS]
  device = dry_run.Device('core', .5)
  programs = {}
  own, other = table_two_step.listing(todo, device, programs)
  assert programs['digits/two_step']['updates'] == 14_000
  assert own.replace('/vanilla/', '/gaussian/') == other
  cost = table_two_step.estimate.of_config(config, spec=((16,), np.float32, None))
  assert own == dry_run.line('digits/two_step/vanilla/0', 'missing', cost,
                             2_000 * 3e9 / .05e12 / 3600, device)
  assert of_sample == [('fashion_mnist', image_cells.EFFICIENTNET)]


@pytest.mark.slow
@pytest.mark.parametrize('arm', table_two_step.ARMS)
@pytest.mark.parametrize('dataset', table_two_step._grids('paper'))
def test_densities_of_the_paper_lower_for_accelerators(dataset, arm, tmp_path):
  """On latents of the size that the autoencoders of its scale have."""
  first = image_cells.cell('table1', 'paper', f'{dataset}/vae/vanilla/0', tmp_path)
  spec = (first.config.model.latent_dim,), np.float32, None
  traced, _ = test_configs.traced(two_step.density_config(0, image_cells.ARMS[arm]), spec)
  for platform in ('tpu', 'cuda'):
    assert 'stablehlo' in traced.lower(lowering_platforms=(platform,)).as_text()[:20_000]
