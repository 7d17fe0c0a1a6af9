"""What `experiments.mechanism` measures and says: sharpness, arms, columns, verdicts."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mechanism, mechanism_table, sharpness
from mollification import build, check


def _symmetric(eigenvalues, seed=0):
  rng = np.random.default_rng(seed)
  q = np.linalg.qr(rng.normal(size=(len(eigenvalues),) * 2))[0]
  return jnp.asarray(q * np.asarray(eigenvalues) @ q.T, jnp.float32)


@pytest.mark.parametrize('eigenvalues', [
  np.linspace(-9, 4, 40),                   # the largest is not the one of largest size
  [7.] * 3 + [1.] * 30,                     # two different ones: exhausted after two steps
  [-3.] * 4 + [-5.] * 20,                   # and what is left of the space must not read as 0
  [-3., -2., -5., -4., -6., -7., -8., -9., -1.5, -2.5, -3.5, -4.5, -5.5, -6.5, -7.5, -8.5, -1.]])
def test_largest_eigenvalue_is_that_of_a_dense_solver(eigenvalues):
  matrix = _symmetric(eigenvalues)
  start = jnp.asarray(np.random.default_rng(1).normal(size=len(matrix)), jnp.float32)
  found = sharpness.largest_eigenvalue(lambda v: matrix @ v, start, len(matrix))
  assert float(found) == pytest.approx(max(eigenvalues), rel=1e-4)
  early = sharpness.largest_eigenvalue(lambda v: matrix @ v, start, 4)
  assert float(early) <= max(eigenvalues) + 1e-4


@pytest.mark.slow
def test_sharpness_of_a_flow_is_the_top_of_its_whole_hessian():
  config = mechanism.config_of('two_gaussians', 'vanilla', 0, smoke=True)
  config.model.num_blocks, config.model.hidden = 1, 3
  net = build.model(config, (2,))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)
  variables = net.init(jax.random.key(0), x, method='log_prob')
  flat, unravel = jax.flatten_util.ravel_pytree(variables['params'])
  flat = flat + .3 * jnp.asarray(np.random.default_rng(1).normal(size=flat.shape), jnp.float32)
  variables = {**variables, 'params': unravel(flat)}
  loss = lambda flat: -net.apply({**variables, 'params': unravel(flat)}, x,
                                 method='log_prob').mean()
  dense = np.linalg.eigvalsh(jax.hessian(loss)(flat))
  found = sharpness.of_flow(net, variables, x, iterations=len(flat))
  assert float(found) == pytest.approx(dense[-1], rel=1e-3)


def test_arms_see_the_same_levels_and_the_same_learning_rate():
  levels = {}
  for arm in mechanism.ARMS:
    config = mechanism.config_of('two_gaussians', arm, 0)
    assert config.optimizer.schedule == 'constant'
    levels[arm] = np.asarray(build.schedule(config, 1)(np.arange(config.total_steps)))
    assert (levels[arm][config.total_steps // 2:] == 0).all()
  phase = {arm: np.sort(level[:2_500]) for arm, level in levels.items()}
  for arm in ('rising', 'shuffled'):
    np.testing.assert_allclose(phase[arm], phase['mollified'], atol=1e-6)
    assert (levels[arm] != levels['mollified']).any()
  assert phase['abrupt'].mean() == pytest.approx(phase['mollified'].mean(), rel=1e-4)
  assert np.ptp(phase['abrupt']) == 0
  assert not phase['vanilla'].any()


def test_the_arms_are_one_sweep():
  check.check_sweep([mechanism.config_of('eight_gaussians', arm, seed)
                     for arm in mechanism.ARMS for seed in range(2)])


def _arms(**shifts):
  """Curves of 4 evaluations and 3 seeds; an arm's last value is its shift plus a little noise."""
  rng = np.random.default_rng(0)
  return {arm: {seed: np.array([9., 5., 2., shift]) + .01 * rng.normal() for seed in range(3)}
          for arm, shift in {**dict.fromkeys(mechanism.ARMS, 0.), **shifts}.items()}


def test_a_fresh_start_is_vanilla_at_half_and_marks_are_of_paired_differences():
  values = mechanism_table.last(_arms(rising=1.))
  assert values['fresh start'] == pytest.approx(dict.fromkeys(range(3), 5.), abs=.05)
  rows = mechanism_table.against_mollified('x', values)
  found = {column: mechanism_table.decided(row) for column, row in rows.items()}
  assert found == {'vanilla': False, 'rising': True, 'shuffled': False, 'abrupt': False,
                   'fresh start': True}
  assert rows['rising'].difference.mean == pytest.approx(-1., abs=.05)
