"""KL against Monte Carlo and its closed form's edge; ELBO's arithmetic."""
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mollification.models import objectives


def test_gaussian_kl_is_the_monte_carlo_mean_of_the_log_ratio():
  mean, log_var = np.array([[.5, -1.]]), np.array([[-.7, .4]])
  z = np.random.default_rng(0).normal(mean, np.exp(log_var / 2), (200_000, 2))
  ratio = (stats.norm.logpdf(z, mean, np.exp(log_var / 2)) - stats.norm.logpdf(z)).sum(1)
  found = objectives.gaussian_kl(jnp.asarray(mean), jnp.asarray(log_var))
  assert found.shape == (1,)
  assert abs(found[0] - ratio.mean()) < 5 * ratio.std() / len(ratio)**.5


def test_gaussian_kl_is_zero_at_the_prior_and_never_negative():
  assert objectives.gaussian_kl(jnp.zeros((1, 3)), jnp.zeros((1, 3)))[0] == 0.
  log_var = 1e-3 * jax.random.normal(jax.random.key(0), (1000, 1))
  kl = objectives.gaussian_kl(jnp.zeros((1000, 1)), log_var)
  exact = np.asarray(log_var, np.float64)[:, 0]
  exact = .5 * (np.expm1(exact) - exact)
  assert kl.min() >= 0.
  # exp(log_var) - 1 without expm1 is wrong by 6e-8 here.
  np.testing.assert_allclose(kl, exact, atol=2e-9)


def test_elbo_weights_the_kl_alone():
  np.testing.assert_allclose(objectives.elbo(jnp.array([-3.]), jnp.array([2.]), .5), [-4.])


def test_free_bits_have_no_gradient_below_the_floor():
  terms = jnp.array([[.1, .6], [.5, .2]])
  value, gradient = jax.value_and_grad(lambda t: objectives.free_bits(t, .3).sum())(terms)
  np.testing.assert_allclose(value, .3 + .6 + .5 + .3, rtol=1e-6)
  np.testing.assert_array_equal(gradient, [[0., 1.], [1., 0.]])


def test_importance_bound_is_the_log_mean_weight_without_overflow():
  log_w = jnp.array([[0., 500.], [np.log(3.), 500. + np.log(2.)]])
  np.testing.assert_allclose(objectives.importance_bound(log_w), [np.log(2.), 500 + np.log(1.5)],
                             rtol=1e-6)
  np.testing.assert_allclose(objectives.effective_samples(log_w), [1.6, 1.8], rtol=1e-4)


def test_scaled_gradient_leaves_the_value():
  z = jnp.array([[1., 2.], [3., 4.]])
  value, gradient = jax.value_and_grad(
      lambda z: (objectives.scale_gradient(z, jnp.array([[2.], [5.]]))**2).sum())(z)
  assert value == 30.
  np.testing.assert_allclose(gradient, [[4., 8.], [30., 40.]])
