"""The tables of images: every run once over all shards, from records, and what a run will take."""
import dataclasses
import importlib
import itertools
import json
import types

import jax
import jax.numpy as jnp
import pytest

from experiments import cells, comparison, estimate, image_cells, table1, table1_table
from mollification import build, measure
from mollification.evaluation import records
from mollification.training import workdir
from tests import test_configs
from tests.training import tiny
from tests.updates import config_of

SCALES = sorted(image_cells.SCALES)


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('n', [1, 3, 4])
def test_each_run_is_in_one_shard(scale, n):
  shards = [image_cells.chosen(scale, [], f'{i}/{n}') for i in range(1, n + 1)]
  assert sorted(itertools.chain(*shards)) == sorted(set(image_cells.names(scale)))
  assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_runs_are_chosen_by_the_parts_of_their_names():
  found = image_cells.chosen('digits', ['digits/vae', 'digits/glow/blur/'], '1/1')
  assert {name.rsplit('/', 1)[0] for name in found} == {
    'digits/vae/vanilla', 'digits/vae/gaussian', 'digits/vae/blur', 'digits/glow/blur'}
  with pytest.raises(ValueError, match="no run of the scale 'digits' starts with 'digits/va'"):
    image_cells.chosen('digits', ['digits/va'], '1/1')
  for shard in ('0/2', '3/2', '1', 'a/b', '-1/2'):
    with pytest.raises(ValueError, match=f"must be i/n with i from 1 to n, got '{shard}'"):
      image_cells.chosen('digits', [], shard)


@pytest.mark.parametrize('scale', SCALES)
def test_arms_of_a_seed_differ_in_mollification_alone(scale, tmp_path):
  for dataset, model in itertools.product(*[getattr(image_cells.SCALES[scale], part)
                                            for part in ('datasets', 'models')]):
    found = [image_cells.cell(scale, f'{dataset}/{model}/{arm}/0', tmp_path).config.to_dict()
             for arm in image_cells.SCALES[scale].arms]
    mollify = [config.pop('mollify') for config in found]
    assert all(config == found[0] for config in found)
    assert (mollify[0]['fraction'], mollify[2]['name']) == (0., 'heat_blur')
    assert mollify[1]['fraction'] == mollify[2]['fraction'] > 0


def test_a_run_that_is_done_is_known_without_its_data(tmp_path, monkeypatch):
  config = tiny.config(eval__every=0, checkpoint__every=0)
  cell = cells.Cell(config, tmp_path, ('nll', 'pr'), 'tiny')
  assert cells.state(cell) == 'missing'
  (tmp_path / 'checkpoints' / '4').mkdir(parents=True)
  (tmp_path / 'checkpoints' / '9.orbax-checkpoint-tmp').mkdir()
  assert cells.state(cell) == '4 of 8 updates'
  (tmp_path / 'checkpoints' / '8').mkdir()
  assert cells.state(cell) == 'trained, not measured'
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  monkeypatch.setattr(cells, '_measured', lambda cell, step: step == 8)
  assert cells.state(cell) == 'done'
  monkeypatch.setattr(build, 'build', None)
  assert cells.train_and_measure(cell) is None
  other = cells.Cell(tiny.config(seed=5), tmp_path, ('nll',), 'tiny')
  assert not cells.is_done(other)


def test_a_row_for_each_arm_of_seeds_that_both_have(monkeypatch, tmp_path):
  values = {('vanilla', 0): 5., ('vanilla', 1): 6., ('gaussian', 0): 4., ('gaussian', 1): 4.,
            ('blur', 1): 9.}
  found = [(comparison.Cell('vae', arm, seed, 'frechet', value), types.SimpleNamespace(extra={}))
           for (arm, seed), value in values.items()]
  monkeypatch.setattr(comparison, 'read', lambda root: found)
  rows = {row.model: row for row in table1_table.rows(tmp_path, 'digits')}
  assert rows['vae, gaussian'].difference.mean == -1.5
  assert (rows['vae, blur'].difference.mean, rows['vae, blur'].vanilla.count) == (3., 1)
  assert not list(table1_table.nonfinite(tmp_path, 'digits'))
  found[2][1].extra['nonfinite_samples'] = 3
  assert list(table1_table.nonfinite(tmp_path, 'digits')) == [
    'digits, vae, gaussian: 3 samples of 1 runs are not finite and count as the images that they '
    'become.']


def test_the_page_shows_vanilla_means_and_marks_what_is_decided(monkeypatch, tmp_path):
  values = {'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)}
  found = [(comparison.Cell('vae', arm, seed, 'frechet', value), None)
           for arm, own in values.items() for seed, value in enumerate(own)]
  found += [(comparison.Cell('vae', arm, 0, 'recall', .5), None) for arm in ('vanilla', 'blur')]
  monkeypatch.setattr(comparison, 'read', lambda root: found)
  assert table1_table.markdown(tmp_path, 'digits').splitlines() == [
    '| model | arm | frechet ↓ | recall ↑ |', '| --- | --- | --- | --- |',
    '| vae | vanilla | 6.00 ± 0.58 | 0.500 ± nan |',
    '|  | blur | ~~+1.00 ± 0.25~~ | +0.000 ± inf |', '|  | gaussian | **-1.00 ± 0.25** |  |']


RECORDED = sorted(table1.RESULTS.glob('*/*/*/*/*'))


def test_committed_records_are_of_todays_configs(tmp_path):
  """Another config would be another run: its figures may not stand in a docstring or the README."""
  assert len(RECORDED) >= 63
  for place in RECORDED:
    scale, *name = place.relative_to(table1.RESULTS).parts
    cell = image_cells.cell(scale, '/'.join(name), tmp_path)
    wanted = workdir.identity(json.loads(json.dumps(cell.config.to_dict())))
    found = records.read_all(place / 'records')
    assert {record.config_sha256 for record in found} == {wanted}, place
    assert workdir.identity(workdir.read_config(place)) == wanted
    assert cells._measured(dataclasses.replace(cell, folder=place), cell.config.total_steps), place


def test_figures_in_docstrings_are_those_of_the_records():
  found = [cell for cell, _ in comparison.read(table1.RESULTS / 'digits' / 'digits')]
  quoted = 0
  for model in image_cells.SCALES['digits'].models:
    text = ' '.join(importlib.import_module(f'configs.digits_{model}').__doc__.split())
    if 'results/table1' not in text:
      continue
    for metric, arm in itertools.product(('log_likelihood', 'frechet'), image_cells.ARMS):
      own = [c.value for c in found if c.model.split(' (')[0] == model
             and (c.metric, c.arm) == (metric, arm)]
      assert comparison.shown(comparison.Moments.of(own)) in text, (model, metric, arm)
      assert f'{len(own)} seeds' in text
    quoted += 1
  assert quoted >= 5


def test_a_listing_adds_up(monkeypatch, tmp_path):
  monkeypatch.setattr(estimate, 'of_config', lambda config: estimate.Cost(10**6, 3e12, 9e10, 2_000))
  monkeypatch.setattr(table1, 'FLAGS', types.SimpleNamespace(accelerator='v100', utilisation=.5))
  todo = [image_cells.cell('paper', f'cifar10/vae/{arm}/0', tmp_path) for arm in image_cells.ARMS]
  (todo[0].folder / 'checkpoints' / '500').mkdir(parents=True)
  *lines, total = table1.listing(todo)
  hours = 3e12 * 2_000 / 15.7e12 / .5 / 3600
  assert lines[0] == (f'cifar10/vae/vanilla/0: 500 of 100,000 updates; 1.0 M parameters, 3e+03 '
                      f'GFLOP an update, 90 GB, does not fit, {hours:.2g} h')
  assert total.startswith(f'3 runs, {2.75 * hours:.2g} h left on one v100 (15.7 TFLOP/s at 50%)')


def test_flops_of_a_network_without_loops_are_those_that_xla_counts():
  config = config_of('digits_vae')
  found = estimate.of_config(config)
  lowered = jax.jit(lambda a, b: jax.lax.conv_general_dilated(
    a, b, (1, 1), [(1, 1)] * 2, lhs_dilation=(2, 2), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    @ jnp.ones((5, 7))).trace(jnp.ones((2, 8, 8, 3)), jnp.ones((4, 4, 3, 5)))
  counted = estimate.matmul_flops(lowered.jaxpr)
  assert counted == pytest.approx(lowered.lower().cost_analysis()['flops'], rel=.15)   # the border
  state = jax.eval_shape(lambda: build.create_state(config, jnp.zeros((128, 8, 8, 1), jnp.uint8),
                                                    17, 1.))
  assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))
  weights = sum(leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2)
  # Forward, and by inputs and by weights backward, but that nobody needs the first layer's inputs.
  assert found.flops == pytest.approx(6 * 128 * weights - 2 * 128 * 64 * 256, rel=1e-6)


def test_loops_count_as_often_as_they_run():
  few, many = (estimate.of_config(config_of('digits_glow', f'model.steps={n}')) for n in (2, 4))
  assert many.flops == pytest.approx(2 * few.flops, rel=.02)
  assert many.memory > few.memory


@pytest.mark.slow
@pytest.mark.parametrize('model', image_cells.MODELS)
@pytest.mark.parametrize('dataset', image_cells.SCALES['paper'].datasets)
def test_blurred_cells_of_the_paper_lower_for_accelerators(dataset, model):
  """Those of the other arms are the programs of the configs, which test_configs lowers."""
  traced, _ = test_configs.traced(image_cells.config_of(dataset, model, 'blur', 0))
  for platform in ('tpu', 'cuda'):
    assert 'stablehlo' in traced.lower(lowering_platforms=(platform,)).as_text()[:20_000]


def test_a_run_of_the_table_is_trained_measured_and_recorded(tmp_path):
  cell = image_cells.cell('digits', 'digits/vae/blur/0', tmp_path / 'runs', smoke=True)
  cell.config.eval.sample_every = 0
  with jax.debug_key_reuse(False):
    assert cells.train_and_measure(cell) > 0
  place = tmp_path / 'results' / 'digits' / 'digits' / 'vae' / 'blur' / '0'
  table1.record(cell, place)
  found = {record.metric for c, record in comparison.read(tmp_path / 'results/digits/digits')}
  assert {'frechet', 'kernel_distance', 'mmd2', 'log_likelihood', 'recall', 'coverage'} <= found
  assert sorted(path.name for path in place.iterdir()) == ['config.json', 'records', 'seconds.json']
  assert measure.open_run(cell.folder).config.mollify.heat_blur.sigma_max == 5.
