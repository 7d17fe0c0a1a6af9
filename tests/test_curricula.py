"""Noise that stays: what is drawn, what is undone, and what a config makes of it."""
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import build, build_mollify, build_sweep, curricula
from mollification.training import sweep
from tests.updates import mapped


def _config(arg=''):
  return importlib.import_module('configs.synthetic_realnvp').get_config(
    'model.hidden=8,model.num_blocks=1,batch_size=16,data.num_train=64,data.num_validation=20,'
    'data.num_test=20,total_steps=8,steps_per_call=4,eval.every=4,log.every=4,checkpoint.every=4,'
    f'log.stdout=False,{arg}')


CONSTANT = ("mollify.name='gaussian_ve',mollify.schedule='constant',mollify.fraction=1.,"
            'mollify.constant.value=1.,mollify.gaussian_ve.sigma_max=.5,')
SOFTFLOW = f"{CONSTANT}mollify.spread='uniform',model.level_condition=True,"
TWEEDIE = f'{CONSTANT}mollify.denoise=True,'


def test_spread_levels_have_roots_that_are_uniform_below_that_of_the_level():
  keys = jax.random.split(jax.random.key(0), 4_000)
  roots = np.sort(np.asarray(curricula.condition(curricula.spread(.25, keys)))[:, 0])
  # Kolmogorov and Smirnov's distance of 4,000 draws: .0306 in one of 1,000 cases.
  assert np.abs(roots / .5 - np.arange(1, 4_001) / 4_000).max() < .031
  assert not np.asarray(curricula.spread(0., jax.random.split(jax.random.key(1), 3))).any()


@pytest.mark.parametrize(('scale', 'sigma'), [(1., .5), (.8, .6)])
def test_tweedie_is_the_mean_of_what_the_noise_was_added_to(scale, sigma):
  """Of a normal prior N(m, s²) the posterior mean is known."""
  mean, sd = 1.5, .7
  y = jnp.linspace(-2., 3., 7)[:, None]
  variance = scale**2 * sd**2 + sigma**2
  score = -(y - scale * mean) / variance
  expected = mean + scale * sd**2 / variance * (y - scale * mean)
  np.testing.assert_allclose(curricula.tweedie(y, score, sigma, scale), expected, rtol=1e-5)
  with pytest.raises(ValueError, match=r'of shape \(7, 1\), got \(7,\)'):
    curricula.tweedie(y, score[:, 0], sigma)


def test_an_update_by_example_gives_levels_and_condition_that_belong_together():
  def update(state, batch, data_keys, noise_keys, model_keys, level, cond, mask):
    return (level, cond, noise_keys), {'level': level, 'loss': 0.}

  keys = jax.random.split(jax.random.key(0), 5)
  soft = curricula.by_example(update, spread_by='uniform', conditioned=True)
  (levels, cond, noise_keys), metrics = soft(None, None, None, keys, None, .5)
  assert levels.shape == (5,)
  assert len(np.unique(levels)) == 5
  assert (np.asarray(levels) <= .5).all()
  np.testing.assert_allclose(cond[:, 0]**2, levels, rtol=1e-6)
  assert metrics == {'level': .5, 'loss': 0.}
  # The draw of a strength and that of the noise are two: else a strong one always looks alike.
  assert (jax.random.key_data(noise_keys) != jax.random.key_data(keys)).any(-1).all()
  known = curricula.by_example(update, conditioned=True)
  (levels, cond, _), _ = known(None, None, None, keys, None, .25)
  assert levels == .25
  np.testing.assert_allclose(cond, np.full((5, 1), .5))
  assert curricula.by_example(update) is update
  with pytest.raises(ValueError, match=r"^spread must be one of .*, got 'normal'"):
    curricula.by_example(update, spread_by='normal')


def test_softflow_draws_the_same_on_any_number_of_devices():
  config = _config(f'{SOFTFLOW}optimizer.name=sgd')
  batch = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  state = build.create_state(config, batch, None, 1.)
  found = []
  for devices in (1, 4):
    update = jax.jit(mapped(build.train_step(config, (2,), None), devices))
    after, metrics = update(state, batch, jax.random.key(3), jnp.float32(.5), np.ones(16, bool))
    assert float(metrics['level']) == .5
    found.append(after.params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)
  # Where the condition enters a net: its gradient is 0 where the condition is.
  before, after = (tree['bijector']['bijectors_1']['translate']['Dense_0']['kernel'][-1]
                   for tree in (state.params, found[0]))
  assert np.abs(before - after).max() > 1e-5


@pytest.mark.slow
def test_a_flow_of_levels_learns_each_and_is_asked_for_none():
  """From config to evaluation: noise as strong as the condition says, and clean without one."""
  config = _config(f'{SOFTFLOW}total_steps=1600,steps_per_call=100,eval.every=1600,log.every=1600,'
                   'checkpoint.every=1600,data.num_train=4000,optimizer.learning_rate=3e-3,'
                   'model.num_blocks=3,model.hidden=16,mollify.gaussian_ve.sigma_max=2.')
  (states, curves) = sweep.train(build_sweep.build_sweep([config]))
  state = jax.tree.map(lambda a: a[0], states)
  evaluation = build.build_evaluation(config)
  variables, net = evaluation.variables(state), evaluation.model
  keys = lambda: jax.random.split(jax.random.key(1), 4_000)
  for root in (0., .5, 1.):
    x = net.apply(variables, keys(), cond=jnp.full((4_000, 1), root), method='sample')
    # Two parts .3 wide at (0, ±2): the first coordinate is one normal.
    assert np.asarray(x)[:, 0].std() == pytest.approx((.3**2 + 4 * root**2)**.5, rel=.1)
  clean = net.apply(variables, keys(), method='sample')
  np.testing.assert_array_equal(clean, net.apply(variables, keys(), cond=jnp.zeros((4_000, 1)),
                                                 method='sample'))
  assert curves['test'][0, -1] > -2.   # with noise of 2 it is -4


def test_tweedie_samples_are_those_of_the_model_denoised_and_its_likelihood_is_not():
  config = _config(TWEEDIE)
  state, dataset = build.build(config).create_state(), build.load_data(config)
  evaluation, plain = (build.build_evaluation(c, dataset) for c in (
    config, _config(CONSTANT)))
  variables = evaluation.variables(state)
  y = plain.sample(variables, 6).x
  score = evaluation.model.apply(variables, y, method='score')
  np.testing.assert_allclose(evaluation.sample(variables, 6).x, y + .25 * score, rtol=1e-4)
  assert np.abs(.25 * score).max() > .1
  assert (evaluation.log_likelihood(variables, dataset.test).mean ==
          plain.log_likelihood(variables, dataset.test).mean)


@pytest.mark.parametrize(('arg', 'share'), [(TWEEDIE, 1.), (SOFTFLOW, 1 / 3)])
def test_a_density_of_noisy_data_has_noisy_statistics(arg, share):
  """The first BatchNorm sees x, half of which a coupling leaves as it is."""
  noisy, clean = (_config(a + 'data.num_train=4000') for a in (arg, CONSTANT))
  dataset = build.load_data(noisy)
  found = []
  for config in (clean, noisy):
    state = build.build(config, dataset).create_state()
    stats = build.build_evaluation(config, dataset).variables(state)['batch_stats']
    (var,) = (v for path, v in jax.tree_util.tree_leaves_with_path(stats) if 'var' in str(path))
    found.append(np.asarray(var)[1])
  assert found[0] == pytest.approx(dataset.train.x[:, 1].var(), rel=1e-3)
  # Noise of .5 or, of roots uniform on [0, 1], a third of its variance in the mean.
  assert found[1] - found[0] == pytest.approx(.25 * share, abs=.05)


@pytest.mark.parametrize(('arg', 'message'), [
  ('mollify.denoise=True', r'mollify\.denoise is for noise of one strength in every update; set'),
  (f'{TWEEDIE}mollify.fraction=.5', 'noise of one strength in every update'),
  (f'{TWEEDIE}mollify.constant.value=0.', 'noise of one strength in every update'),
  (f'{SOFTFLOW}mollify.denoise=True', 'mollify.spread=none, and leave model.level_condition out'),
  (f"{TWEEDIE}mollify.name='gaussian'", r"gaussian at a level below 1, got 'gaussian' at 1\.0"),
  (f"{TWEEDIE}mollify.name='identity'", r"needs mollify\.name=gaussian_ve, .* got 'identity'"),
  ("mollify.spread='normal'", r"^mollify\.spread must be one of .*, got 'normal'"),
  ('model.level_condition=True,model.classes=2', r'^model\.level_condition is for flows without'),
  ('model.dropout=1.', r'^model\.dropout must lie in \[0, 1\), got 1\.0; 0 is without')])
def test_what_cannot_be_is_said_before_anything_is_trained(arg, message):
  with pytest.raises(ValueError, match=message):
    build.build(_config(arg))


def test_a_vae_has_no_score_to_denoise_by():
  config = importlib.import_module('configs.digits_vae').get_config(f'{TWEEDIE}')
  with pytest.raises(ValueError, match='needs the score of a flow, got model vae; leave it False'):
    build.build(config)


def test_denoised_runs_of_a_sweep_share_their_noise():
  configs = [_config(TWEEDIE), _config(f'{TWEEDIE}mollify.constant.value=.5')]
  with pytest.raises(ValueError, match=r'got mollify\.constant\.value 1\.0 and 0\.5'):
    build_sweep.build_sweep(configs)
  with pytest.raises(ValueError, match=r'mollify\.denoise is for noise of one strength'):
    build_sweep.build_sweep([_config('mollify.denoise=True')])


def test_the_overview_says_what_samples_and_likelihood_are_of():
  text = {arg: build.build(_config(arg)).overview for arg in (CONSTANT, TWEEDIE, SOFTFLOW)}
  assert 'denoised' not in text[CONSTANT]
  assert 'samples are denoised, likelihood is that of the noisy density' in text[TWEEDIE]
  assert 'its level for each example by uniform spread' in text[SOFTFLOW]


def test_noise_left_is_that_of_the_mollifier():
  net = build.model(_config(TWEEDIE), (2,))
  left = lambda arg: build_mollify.noise_left(_config(TWEEDIE + arg), net)
  assert left('mollify.scale=.25') == (1., .25)
  np.testing.assert_allclose(left("mollify.name='gaussian',mollify.constant.value=.36"),
                             (.8, .6))
  assert build_mollify.noise_left(_config(CONSTANT), net) is None
