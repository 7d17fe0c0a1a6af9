"""What `experiments.mechanism` measures and says: sharpness, arms, columns, verdicts."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mechanism, mechanism_table, sharpness
from mollification import build, check
from tests.experiments import grid_records


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


@pytest.fixture
def root(tmp_path):
  """One density, three seeds, four evaluations; an arm's figures are as `_run` says."""
  for arm in mechanism.ARMS:
    for seed in range(3):
      grid_records.write(tmp_path / 'two_gaussians' / arm / str(seed), seed,
                         **_run(arm, 1 + .1 * (seed - 1)))
  return tmp_path


def _run(arm, by):
  """Gradients halve in the mollified phase, sharpness is a tenth; the abrupt arm ends worst."""
  early = {'mollified': .5}.get(arm, 1.) * by
  return {'test': [-3., -2., -2., {'abrupt': -2.}.get(arm, -1.) * by],
          'validation': [-3., -2., -2., -1.], 'mmd2': [.1, .1, .1, {'vanilla': .2}.get(arm, .1)],
          'score_error_low': [1., 1., 1., {'rising': .1, 'mollified': 10.}.get(arm, 10.)],
          'share_far': .1, 'gradient_on': [early, early, by, by],
          'gradient_low': [2 * early, 2 * early, by, by], 'sharpness': [
            .1 if arm == 'mollified' else 1., .1 if arm == 'mollified' else 1., 1., 1.],
          'sharpness_quarter': 1., 'sharpness_noise': 1.}


def test_sentences_give_ratios_their_interval_and_say_what_is_remembered(root):
  ratios, memory, count, _ = mechanism_table.sentences(root, ['two_gaussians'])
  assert ratios.startswith('Question 6, gradient and landscape, two_gaussians: mollified over')
  assert ('norm of the score on data 0.50 (log10 -0.301 ± 0.000, decided) and 1.00 (log10 +0.000 ± '
          '0.000);') in ratios
  assert 'sharpness on clean data 0.10 (log10 -1.000 ± 0.000, decided) and 1.00' in ratios
  assert memory == (
    'two_gaussians: falling levels at the end: in test log-likelihood (nats) it is better than '
    'abrupt, better than fresh start; in log10 error of the score, rare it is worse than rising, '
    'worse than fresh start; in MMD² it is better than vanilla.')
  stars = mechanism_table.markdown(root, ['two_gaussians']).count('*')
  assert count == (f'Of all 45 comparisons of the table with mollified training {stars} are '
                   'decided, of which chance alone would decide 2.2.')


def test_ratios_are_medians_over_the_phase_and_their_intervals_are_students():
  curve = lambda *values: np.array(values)
  found = {'sharpness': {
    'vanilla': {seed: curve(1., 1., 1.) for seed in range(3)},
    'mollified': {0: curve(.1, 5., .1), 1: curve(.01, .01, 9.), 2: curve(.001, 7., .001)}}}
  row = mechanism_table.ratio(found, 'sharpness', slice(0, 3))
  assert row.difference.mean == pytest.approx(-2.)
  assert row.interval == pytest.approx(4.302653 / 3**.5)
  assert not mechanism_table.decided(row)


def test_errors_of_the_score_are_compared_by_their_log10():
  arms = {arm: {0: np.array([1., 100., 5., 1000.])} for arm in mechanism.ARMS}
  found = mechanism_table.ends('score_error_low', arms)
  assert found['mollified'] == {0: pytest.approx(3.)}
  assert found['fresh start'] == {0: pytest.approx(2.)}
  assert mechanism_table.ends('gradient_low', arms)['vanilla'] == {0: 1000.}
