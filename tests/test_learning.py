"""Slow tier: the whole path learns what can be known exactly."""
import dataclasses
import importlib

import jax
import numpy as np
import pytest

from configs import synthetic_realnvp
from mollification import build, build_sweep
from mollification.training import loop, sweep


def _gap(config, state):
  """Nats between the exact log-density and the flow's, mean over the test points, and its error."""
  evaluation = build.build_evaluation(config)
  x, variables = evaluation.dataset.test.x, evaluation.variables(state)
  found = evaluation.model.apply(variables, x, None, method='log_likelihood')
  gaps = np.asarray(evaluation.dataset.density.log_prob(x), np.float64) - np.asarray(found)
  return gaps.mean(), gaps.std() / np.sqrt(len(gaps))


@pytest.mark.slow
def test_realnvp_comes_near_the_mixture():
  """Two seeds of either arm, with three times the rate and twice the updates of the recorded runs.

  At those the gaps are .033 to .054 nats, five of eight below .05: training is not at its end.
  """
  configs = [synthetic_realnvp.get_config(
    f'seed={seed},mollify.fraction={fraction},optimizer.learning_rate=3e-3,total_steps=10000,'
    'eval.every=10000,checkpoint.every=10000') for fraction in (0., .5) for seed in (0, 1)]
  states, _ = sweep.train(build_sweep.build_sweep(configs))
  gaps = [_gap(config, jax.tree.map(lambda a, i=i: a[i], states))
          for i, config in enumerate(configs)]
  print(', '.join(f'{gap:.4f} ± {sem:.4f}' for gap, sem in gaps))
  # No density beats the true one by more than the error of the mean.
  assert all(-5 * sem < gap < .05 for gap, sem in gaps), gaps


@pytest.mark.slow
@pytest.mark.parametrize('name', ['two_gaussians', 'eight_gaussians'])
@pytest.mark.parametrize('fraction', [0., .5])
def test_gaps_that_are_reported(tmp_path, name, fraction, record_property):
  """Of the recorded runs, not bounded: a ring's modes are islands that a flow joins by bridges."""
  config = synthetic_realnvp.get_config(f'data.name={name},mollify.fraction={fraction}')
  gap, sem = _gap(config, loop.train(build.build(config), tmp_path).state)
  record_property('gap_nats', float(gap))   # pytest-xdist cannot send NumPy's
  print(f'{name}, fraction {fraction}: {gap:.3f} ± {sem:.3f} nats from the exact density')
  assert gap > -5 * sem


# Deviations of the decoder that are learned per pixel: many pixels of digits are always blank, and
# the Gaussian that is to be beaten knows which. The bound is that of beta = 1, which training with
# a small beta leaves behind.
PIXELS = 'model.likelihood=pixel_gaussian,model.decoder_variance=.01,'
BOUNDS = {
  'vae': PIXELS, 'beta_vae': PIXELS + 'model.beta=.5,', 'iwae': PIXELS, 'vae_iaf': PIXELS,
  'hvae': PIXELS,
  # Its mixtures of logistics learn scales per pixel; an update takes longer than of the others.
  'nvae': 'total_steps=300,',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', BOUNDS)
def test_overfits_64_digits_beyond_a_diagonal_gaussian(name, tmp_path):
  config = importlib.import_module(f'configs.digits_{name}').get_config(
    f'batch_size=64,total_steps=1500,steps_per_call=1,mollify.fraction=0.,{BOUNDS[name]}'
    "optimizer.warmup_steps=0,log.every=100,eval.every=0,eval.sample_every=0,eval.best_metric='',"
    'checkpoint.every=0,eval.params=raw')
  dataset = build.load_data(config)
  train = dataclasses.replace(dataset.train, x=dataset.train.x[:64], labels=None)
  dataset = dataclasses.replace(dataset, train=train)
  outcome = loop.train(build.build(config, dataset), tmp_path)
  evaluation = build.build_evaluation(config, dataset)
  found = evaluation.log_likelihood(evaluation.variables(outcome.state), dataset.train)
  # Of dequantised grey levels: the variance of the uniform noise is added, in its own units.
  x = train.x.reshape(64, -1).astype(float) + .5
  var = x.var(0) + 1 / 12
  gaussian = -.5 * np.sum(np.log(2 * np.pi * var) + 1.)
  assert found.mean > gaussian + 20., (found.mean, gaussian)
