"""Observation models against SciPy."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mollification.models import decoders, gaussian
from tests.models.support import jit


def _images(count):
  return [jax.random.normal(k, (3, 4, 4, 2)) for k in jax.random.split(jax.random.key(0), count)]


def test_gaussian_log_prob_is_scipys_for_a_scalar_and_per_pixel_variance():
  x, mean, log_var = _images(3)
  for lv in (jnp.asarray(.3), log_var):
    expected = stats.norm.logpdf(x, mean, np.exp(np.asarray(lv) / 2)).sum((1, 2, 3))
    np.testing.assert_allclose(decoders.gaussian_log_prob(x, mean, lv), expected, rtol=1e-5)


def test_variance_one_half_is_the_squared_error_plus_a_constant():
  x, mean = _images(2)
  found = decoders.gaussian_log_prob(x, mean, np.log(.5))
  np.testing.assert_allclose(found, -((x - mean)**2).sum((1, 2, 3)) - 16 * np.log(np.pi), rtol=1e-5)


def _observation(likelihood, event=(3,), **options):
  """(observation, its variables, random network outputs [1, *net_shape])."""
  observation = decoders.Observation(event, likelihood, **options)
  out = jax.random.normal(jax.random.key(1), (1, *observation.net_shape))
  return observation, {}, out        # a fixed variance is no parameter


def _log_prob(observation, variables, x, out):
  out = jnp.broadcast_to(out, (len(x), *out.shape[1:]))
  return _compiled(observation, 'log_prob')(variables, x, out)


@functools.cache
def _compiled(observation, method):
  return jit(lambda *args: observation.apply(*args, method=method))


@pytest.mark.parametrize('likelihood', decoders.DISCRETIZED)
def test_bins_of_discretised_logistics_sum_to_one(likelihood):
  observation, variables, out = _observation(likelihood, (1,), levels=7, mixtures=2)
  out = 2. * out - 1.                             # scales that leave mass outside [-1, 1]
  centres = (jnp.arange(7.)[:, None] + .5) * 2 / 7 - 1.
  density = jnp.exp(_log_prob(observation, variables, centres, out))
  np.testing.assert_allclose(density.sum() * 2 / 7, 1., rtol=1e-5)
  # Constant within a bin, and what lies outside counts as the bin next to it.
  for shift in (-.13, .13):
    moved = jnp.exp(_log_prob(observation, variables, centres + shift, out))
    np.testing.assert_allclose(moved, density, rtol=1e-5)
  outside = jnp.exp(_log_prob(observation, variables, jnp.array([[-2.], [3.]]), out))
  np.testing.assert_allclose(outside, density[jnp.array([0, -1])], rtol=1e-5)
  # The grid 0, ..., 6 mapped onto [-1, 1] hits each bin once.
  grid = jnp.linspace(-1., 1., 7)[:, None]
  np.testing.assert_allclose(jnp.exp(_log_prob(observation, variables, grid, out)), density,
                             rtol=1e-5)


def test_a_mixture_is_scipys_and_its_mean_the_weighted_one():
  observation, variables, out = _observation('logistic_mixture', (2,), levels=9, mixtures=2)
  logits, means, log_scales = np.moveaxis(np.asarray(out).reshape(2, 3, 2), 0, -1)
  share = np.exp(logits) / np.exp(logits).sum(0)
  edges = np.linspace(-1., 1., 10)[:, None, None]
  edges[0], edges[-1] = -np.inf, np.inf
  mass = (share * np.diff(stats.logistic.cdf(edges, means, np.exp(log_scales)), axis=0)).sum(1)
  x = jnp.array([[-.95, .3]])                     # bins 0 and 5
  expected = np.log(mass[0, 0]) + np.log(mass[5, 1]) - 2 * np.log(2 / 9)
  np.testing.assert_allclose(_log_prob(observation, variables, x, out), [expected], rtol=1e-5)
  np.testing.assert_allclose(observation.apply(variables, out, method='mean')[0],
                             (share * means).sum(0), rtol=1e-5)


def test_narrow_logistics_far_away_stay_finite_with_gradients():
  args = [jnp.full((1, 1, 1), v) for v in (0., .9, -7.)]
  f = lambda *args: decoders.logistic_mixture_log_prob(jnp.full((1, 1), -.5), *args, 256)[0]
  value, gradient = jit(jax.value_and_grad(f, (0, 1, 2)))(*args)
  assert value < -100.
  assert all(jnp.isfinite(g).all() for g in (value, *gradient))


@pytest.mark.parametrize('likelihood', ['gaussian', 'pixel_gaussian', 'sigmoid_gaussian'])
def test_gaussians_integrate_to_one_about_their_mean(likelihood):
  observation, variables, out = _observation(likelihood, (1,), variance=.2)
  x = jnp.linspace(-12., 12., 4801)[:, None]
  density = np.exp(_log_prob(observation, variables, x, out))
  np.testing.assert_allclose(density.sum() * .005, 1., rtol=1e-4)
  mean = observation.apply(variables, out, method='mean')
  np.testing.assert_allclose((density * x[:, 0]).sum() * .005, mean[0, 0], atol=1e-4)
  assert mean.shape == (1, 1)


def test_pixel_variance_starts_at_the_given_one():
  observation, variables, out = _observation('pixel_gaussian', (2,), variance=.2)
  out = jnp.array([[1., 0., -1., 0.]])            # mean and log-variance, number by number
  expected = stats.norm.logpdf(0., [1., -1.], .2**.5).sum()
  np.testing.assert_allclose(_log_prob(observation, variables, jnp.zeros((1, 2)), out), [expected],
                             rtol=1e-5)


def test_bernoulli_probabilities_sum_to_one_also_at_extreme_logits():
  observation, variables, _ = _observation('bernoulli', (2,))
  x = jnp.array([[0., 0.], [0., 1.], [1., 0.], [1., 1.]])
  for logits in ([.3, -2.], [200., -200.]):
    log_prob = _log_prob(observation, variables, x, jnp.array([logits]))
    assert jnp.isfinite(log_prob).all()
    np.testing.assert_allclose(jnp.exp(log_prob).sum(), 1., rtol=1e-5)


def test_bernoulli_of_grey_levels_integrates_to_at_most_a_half():
  """So a bound made of it stays one."""
  x = np.linspace(0., 1., 2001)[:, None]
  for logit in (-9., -1., 0., 3.):
    density = np.exp(decoders.bernoulli_log_prob(x, np.full_like(x, logit)))
    assert np.trapezoid(density, dx=1 / 2000) < .5 + 1e-5


@pytest.mark.parametrize(('mean', 'log_var'), [((3, 4), (4,)), ((4,), ()), ((3, 4), (3, 1))])
def test_shapes_that_would_broadcast_are_errors(mean, log_var):
  with pytest.raises(ValueError, match='broadcast them first'):
    decoders.gaussian_log_prob(jnp.zeros((3, 4)), jnp.zeros(mean), jnp.zeros(log_var))


def test_standard_normal_draws_depend_on_their_own_key_alone():
  keys = jax.random.split(jax.random.key(0), 5)
  draws = gaussian.standard_normal(jax.random.clone(keys), (3,))
  np.testing.assert_array_equal(draws[2:4], gaussian.standard_normal(keys[2:4], (3,)))
  z = np.asarray(draws)
  np.testing.assert_allclose(gaussian.standard_normal_log_prob(draws),
                             stats.norm.logpdf(z).sum(1), rtol=1e-5)


@pytest.mark.parametrize('keys', [jax.random.key(0), jax.random.PRNGKey(0)])
def test_one_key_is_not_a_number_of_draws(keys):
  with pytest.raises(ValueError, match='one per draw'):
    gaussian.standard_normal(keys, (3,))
