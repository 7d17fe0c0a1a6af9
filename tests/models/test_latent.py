"""Statistics of the aggregated posterior against draws from it."""
import jax.numpy as jnp
import numpy as np
import pytest

from mollification.models import latent


def test_aggregated_moments_are_those_of_draws_and_unused_latents_are_not_active():
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(500, 3)) * [2., .5, .05] + [1., 0., 0.]
  log_var = np.broadcast_to([-1., -.5, 0.], mean.shape)
  found = latent.aggregate((jnp.asarray(mean[rows]), jnp.asarray(log_var[rows]))
                           for rows in (slice(150), slice(150, 151), slice(151, 500)))
  draws = rng.normal(mean, np.exp(log_var / 2), (400, *mean.shape)).reshape(-1, 3)
  np.testing.assert_allclose(found.mean, draws.mean(0), atol=.02)
  np.testing.assert_allclose(found.var, draws.var(0), rtol=.02)
  np.testing.assert_array_equal(found.active, [True, True, False])
  assert found.active_units == 2
  assert found.kl[2] < .01 < found.kl[1]


def test_draws_of_any_family_give_the_same_moments():
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(20_000, 3)) * [2., .5, .03] + [1., 0., 0.]
  log_var = np.broadcast_to([-1., -.5, 0.], mean.shape)
  pairs = rng.normal(mean, np.exp(log_var / 2), (2, *mean.shape))
  found = latent.aggregate_draws(tuple(map(jnp.asarray, pairs[:, rows]))
                                 for rows in (slice(7000), slice(7000, 20_000)))
  wanted = latent.aggregate([(jnp.asarray(mean), jnp.asarray(log_var))])
  np.testing.assert_allclose(found.mean, wanted.mean, atol=.02)
  np.testing.assert_allclose(found.var, wanted.var, rtol=.03)
  np.testing.assert_array_equal(found.active, wanted.active)
  assert np.isnan(found.kl).all()
  with pytest.raises(ValueError, match=r'at least two examples, got 0'):
    latent.aggregate_draws([])
  with pytest.raises(ValueError, match=r'of one shape \[n, Z\], got \(4, 3\) and \(4, 2\)'):
    latent.aggregate_draws([(jnp.zeros((4, 3)), jnp.zeros((4, 2)))])


def test_other_shapes_and_too_few_examples_are_errors():
  for parts in ([], [(jnp.zeros((1, 3)), jnp.zeros((1, 3)))]):
    with pytest.raises(ValueError, match=f'at least two examples, got {len(parts)}'):
      latent.aggregate(parts)
  with pytest.raises(ValueError, match=r'of one shape \[n, Z\], got \(4, 3\) and \(4, 2\)'):
    latent.aggregate([(jnp.zeros((4, 3)), jnp.zeros((4, 2)))])
