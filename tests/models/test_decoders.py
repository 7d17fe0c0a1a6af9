"""Observation models against SciPy."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mollification.models import decoders, gaussian


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
