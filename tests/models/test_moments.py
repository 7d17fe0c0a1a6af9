"""Running statistics: what moves them, and what a part without any row leaves alone."""
import jax.numpy as jnp
import numpy as np
import pytest

from mollification.models.moments import RunningMoments

X = jnp.asarray(np.random.default_rng(0).normal(3., 2., (6, 4)), jnp.float32)
RUNNING = {'batch_stats': {'mean': jnp.full(4, 5.), 'var': jnp.full(4, 7.)}}


def _train(kept):
  mask = jnp.arange(6) < kept
  (mean, var), moved = RunningMoments(momentum=.9).apply(RUNNING, X, train=True, mask=mask,
                                                         mutable=['batch_stats'])
  return mean, var, moved['batch_stats']


@pytest.mark.parametrize('kept', [2, 6])
def test_rows_that_are_kept_move_the_running_statistics(kept):
  mean, var, moved = _train(kept)
  np.testing.assert_allclose(mean, X[:kept].mean(0), rtol=1e-5)
  np.testing.assert_allclose(var, X[:kept].var(0) + 1e-5, rtol=1e-5)
  np.testing.assert_allclose(moved['mean'], .9 * 5. + .1 * mean, rtol=1e-6)
  np.testing.assert_allclose(moved['var'], .9 * 7. + .1 * var, rtol=1e-6)


def test_padding_alone_is_normalised_by_the_running_statistics_and_leaves_them():
  """Its own would be 0 and epsilon, by whose root each row would be divided."""
  mean, var, moved = _train(0)
  np.testing.assert_allclose(mean, 5.)
  np.testing.assert_allclose(var, 7.)
  np.testing.assert_allclose(moved['mean'], 5., rtol=1e-6)
  np.testing.assert_allclose(moved['var'], 7., rtol=1e-6)
