"""Flows as configs make them: start, singular weights, options, documented figures."""
import dataclasses
import functools
import importlib
import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from experiments import comparison, quickstart, synthetic
from mollification import build, data, measure, rng
from mollification.evaluation import sampling
from mollification.training import loop, workdir
from tests.updates import config_of, started


def test_one_smoke_step_of_an_image_flow_moves_it_and_keeps_what_is_fixed():
  config = build.smoke(config_of('digits_glow'))
  config.model.levels, config.model.steps, config.model.hidden = 1, 2, 4
  state, batch, update = started(config)
  after, metrics = update(state, batch, rng.purpose_key(0, 'train'), .5, None)
  assert np.isfinite(metrics['loss'])
  assert metrics['inverse_error'] < 1e-4
  assert int(after.skipped) == 0
  jax.tree.map(np.testing.assert_array_equal, after.model_state, state.model_state)
  step, new = (s.params['bijector']['levels_0']['bijectors_1']['bijector'] for s in (state, after))
  moving = lambda tree: [*jax.tree.leaves(tree['bijectors_0']), *jax.tree.leaves(
      tree['bijectors_1']), *jax.tree.leaves(tree['bijectors_2']['net']['Conv_2'])]
  assert all((a != b).any() for a, b in zip(moving(step), moving(new), strict=True))
  # A 1×1 weight that became singular: its log-determinant is no number, and the update is left out.
  singular = _with_log_diag(state, -np.inf)
  after, metrics = update(singular, batch, rng.purpose_key(0, 'train'), .5, None)
  assert metrics['loss'] == np.inf
  assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (1, 1, 1)
  for kind in ('params', 'model_state', 'opt_state'):
    jax.tree.map(np.testing.assert_array_equal, getattr(after, kind), getattr(singular, kind))
  # Singular to float32 alone: the density is finite and is trained, the inverse says what is wrong.
  nearly = _with_log_diag(state, -200.)
  after, metrics = update(nearly, batch, rng.purpose_key(0, 'train'), .5, None)
  assert np.isfinite(metrics['loss'])
  assert (int(after.skipped), float(metrics['inverse_error'])) == (0, np.inf)
  variables = lambda state: {'params': state.params, **state.model_state}
  sample = sampling.make_sampler(
    functools.partial(build.model(config, batch.shape[1:]).apply, method='sample'), batch_size=4)
  assert sample(variables(state), jax.random.key(0), 4).nonfinite == 0
  with pytest.raises(FloatingPointError, match='4 of 4 samples are not finite'):
    sample(variables(nearly), jax.random.key(0), 4)


def _with_log_diag(state, value):
  """The state with the first pivot of every 1×1 weight of the first step set to e^value."""
  flat = traverse_util.flatten_dict(state.params)
  (path,) = (path for path in flat if path[-1] == 'log_diag')
  flat[path] = flat[path].at[0, 0].set(value)
  return dataclasses.replace(state, params=traverse_util.unflatten_dict(flat))


def test_data_dependent_layers_start_from_the_batch_that_init_on_names():
  """ActNorm from the noise of level 1 or from the clean batch; all else from the same keys."""
  def start(init_on, level):
    config = build.smoke(config_of('digits_glow'))
    config.model.levels, config.model.steps, config.model.hidden = 1, 1, 4
    config.mollify.init_on = init_on
    event_shape, dtype, levels = data.spec(config.data.name)
    batch = np.random.default_rng(0).integers(0, levels, (8, *event_shape)).astype(dtype)
    step = build.create_state(config, batch, levels, level).params['bijector']['levels_0']
    parts = step['bijectors_1']['bijector']
    return parts['bijectors_0']['mean'], (parts['bijectors_1'], parts['bijectors_2'])

  clean, noise, vanilla = start('clean', 1.), start('mollified', 1.), start('mollified', 0.)
  np.testing.assert_array_equal(clean[0], vanilla[0])
  assert (clean[0] != noise[0]).all()
  for other in (noise, vanilla):
    jax.tree.map(np.testing.assert_array_equal, clean[1], other[1])


def test_the_overview_says_what_data_dependent_layers_start_from():
  text = lambda name, arg: build.build(config_of(name, arg)).overview
  line = 'layers start from the first batch, {} (mollify.init_on={})'.format
  small = 'model.levels=1,model.steps=1,model.hidden=4,'
  for arg, start, init_on in (('', 'mollified to its level', 'mollified'),
                              ('mollify.init_on=clean', 'clean', 'clean'),
                              ('mollify.fraction=0.', 'clean', 'mollified')):
    assert line(start, init_on) in text('digits_glow', small + arg)
  assert 'start from' not in text('digits_realnvp', '')


@pytest.mark.parametrize('name', ['digits_realnvp', 'synthetic_realnvp'])
def test_figures_in_docstrings_are_those_of_the_records(name):
  module = importlib.import_module(f'configs.{name}')
  text = ' '.join(module.__doc__.split())
  if name == 'digits_realnvp':
    found = comparison.compare([cell for cell, _ in comparison.read(quickstart.RESULTS)
                                if cell.model == 'RealNVP' and cell.metric in (
                                  'log_likelihood', 'bits_per_dim')])
  else:
    found = [row for row in synthetic.table(synthetic.RESULTS)
             if row.metric == 'log_likelihood' and row.model != 'von_mises_circle']
  assert len(found) == 2
  for row, (_, _, seeds, vanilla, mollified, *_) in zip(found, comparison.lines(found)):
    assert vanilla in text
    assert mollified in text
    assert f'{seeds} seeds' in text
    if name == 'synthetic_realnvp':
      dataset = build.load_data(module.get_config(f'data.name={row.model}'))
      exact = np.mean(dataset.density.log_prob(dataset.test.x), dtype=np.float64)
      assert f'{exact:.4f}' in text
      assert f'gaps of {exact - row.vanilla.mean:.3f} and {exact - row.mollified.mean:.3f}' in text


@pytest.mark.parametrize(('name', 'arg', 'message'), [
  ('uci_redwine_maf', 'model.momentum=2.', r'^model\.momentum must lie in \[0, 1\), got 2\.0'),
  ('uci_redwine_realnvp', 'model.inverse_error=-1', r'^model\.inverse_error must not be negative'),
  ('fashion_mnist_realnvp', 'model.gain_penalty=-1.', r'^model\.gain_penalty must not be neg'),
  ('fashion_mnist_realnvp', 'model.memory=invertible', r"^model\.memory 'invertible' is not for"),
  ('digits_glow', 'model.classes=-1', r'^model\.classes must not be negative, got -1; 0 is')])
def test_bad_options_of_flows_name_the_key(name, arg, message):
  config = config_of(name, arg)
  with pytest.raises(ValueError, match=message):
    build.model(config, data.spec(config.data.name)[0])


def test_options_that_came_later_leave_runs_of_before_valid():
  plain = lambda name: json.loads(json.dumps(config_of(name).to_dict()))
  for name, *options in (('uci_redwine_maf', 'inverse_error'), ('digits_realnvp', 'inverse_error'),
                         ('fashion_mnist_realnvp', 'classes', 'memory', 'skips',
                          'double_at_squeeze', 'ordered_split')):
    new = plain(name)
    old = {**new, 'model': {k: v for k, v in new['model'].items() if k not in options}}
    assert set(options) <= set(new['model'])
    assert workdir.identity(old) == workdir.identity(new)
    workdir.check_same_run(old, new, 'w')
    changed = {**new, 'model': {**new['model'], options[0]: 3}}
    assert workdir.identity(old) != workdir.identity(changed)
    with pytest.raises(ValueError, match=rf'model\.{options[0]} was 0, now 3'):
      workdir.check_same_run(old, changed, 'w')
  # `classes` is no newcomer to other models: of theirs it is part of what has been recorded.
  config = plain('uci_redwine_maf')
  without = {**config, 'model': {k: v for k, v in config['model'].items() if k != 'classes'}}
  assert workdir.identity(without) != workdir.identity(config)


@pytest.mark.slow
def test_records_say_what_data_dependent_layers_started_from(tmp_path):
  for name, small, extra in (
      ('digits_glow', 'model.levels=1,model.steps=1,model.hidden=4', {'init_on': 'clean'}),
      ('digits_realnvp', 'model.num_blocks=1,model.hidden=8', {})):
    config = config_of(name, f'{small},mollify.init_on=clean,batch_size=16,steps_per_call=1,'
                       'total_steps=2,log.every=2,eval.every=2,eval.sample_every=0,'
                       'checkpoint.every=2,eval.refresh_examples=64')
    folder = tmp_path / name
    run = build.build(config)
    with workdir.lock(folder):
      workdir.claim(folder, config.to_dict(), run.data)
      loop.train(run, folder)
    for record in measure.measure(measure.open_run(folder), ('nll', 'mmd'), num_samples=8):
      assert {k: v for k, v in record.extra.items() if k == 'init_on'} == extra
