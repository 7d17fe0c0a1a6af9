"""Observations in the plane, and what is chosen and compared from their records."""
import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import grid, plane, sensitivity, sensitivity_table


class _Flow:
  """A model whose score is `scale` times the exact one, and whose samples are the data."""

  def __init__(self, name, scale):
    self._name, self._scale = name, scale

  def apply(self, variables, x, *, method):
    law, on = plane.density(self._name), plane.points(self._name)[0]
    if method == 'sample':
      return jnp.asarray(on)[:len(x)]
    if method == 'score':
      return jnp.asarray(self._scale * law.score(np.asarray(x)), jnp.float32)
    return jnp.asarray(law.log_prob(np.asarray(x)), jnp.float32)


@pytest.mark.parametrize(('scale', 'error'), [(1., 0.), (0., 1.), (.5, .25)])
def test_the_error_of_a_score_is_relative_to_its_size(scale, error):
  found = plane.observe('two_gaussians', True, _Flow('two_gaussians', scale), None)
  for kind in ('score_error', 'score_error_low'):
    assert float(found[kind]) == pytest.approx(error, abs=1e-6)
  assert found['samples'].shape == (plane.POINTS, 2)
  assert found['field'].shape == (plane.FIELD**2,)
  assert found['arrows'].shape == (plane.ARROWS**2, 2)
  assert set(plane.observe('two_gaussians', False, _Flow('two_gaussians', scale), None)) == {
    'gradient_on', 'gradient_low', 'score_error', 'score_error_low', 'samples'}


@pytest.mark.parametrize('name', plane.DENSITIES)
def test_far_is_where_data_are_rare(name):
  on, low = plane.points(name)
  assert plane.is_far(name, on).mean() < .02
  assert plane.is_far(name, low).all()
  assert len(low) == plane.POINTS
  assert (np.abs(low) <= plane.SIDE).all()


def test_samples_that_are_the_data_are_not_far_and_lost_ones_are():
  on, low = plane.points('eight_gaussians')
  lost = on.copy()
  lost[:250] = np.nan
  found = plane.derive('eight_gaussians', {'samples': np.stack([on, low, lost])})
  np.testing.assert_allclose(found['share_far'], [.01, 1., .2575], atol=.01)
  assert abs(found['mmd2'][0]) < .002
  assert found['mmd2'][1] > .02
  assert np.isnan(found['mmd2'][2])


def test_a_curve_has_no_score():
  assert set(plane.units('von_mises_circle')) == {'share_far', 'mmd2'}
  assert set(plane.units('two_gaussians')) == set(plane.UNITS)


def _run(validation):
  record = types.SimpleNamespace(extra={'curves': {'validation': validation}})
  return {'last': record}


def test_the_best_schedule_is_that_of_the_best_evaluation_and_never_vanilla():
  runs = {('vanilla', 0): _run([9., 9.]), ('linear', 0): _run([3., 1.]),
          ('cosine', 0): _run([2., 2.]), ('by_epoch', 0): _run([float('nan'), None])}
  assert sensitivity.chosen(runs) == 'linear'
  runs['linear', 1], runs['cosine', 1] = _run([0., 0.]), _run([2., 2.])
  assert sensitivity.chosen(runs) == 'cosine'


def test_gains_are_paired_by_seed():
  found = {'vanilla': {0: 1., 1: 10.}, 'linear': {1: 11., 0: 3.}}
  (mean, sem), = sensitivity_table.gains(found).values()
  assert (mean, sem) == (1.5, .5)


def test_variants_are_one_sweep_and_differ():
  from mollification import check
  configs = [sensitivity.config_of('eight_gaussians', variant, 0)
             for variant in sensitivity.VARIANTS]
  check.check_sweep(configs)
  assert len({str(config.mollify) for config in configs}) == len(configs)


@pytest.mark.parametrize('selection', grid.SELECTIONS)
def test_selections_ignore_what_else_was_observed(selection):
  curves = {'test': np.array([1., 3., 2.]), 'validation': np.array([5., np.nan, 1.]),
            'samples': np.zeros((3, 4, 2))}
  assert grid.chosen(curves)[selection] == {'last': 2, 'validation': 0, 'oracle': 1}[selection]


def test_a_cell_that_is_refused_leaves_nothing(tmp_path):
  """Else the next try would count as one that had been begun, and have no time.json."""
  config = sensitivity.config_of('eight_gaussians', 'vanilla', 0, smoke=True)
  config.eval.every = 27
  cell = plane.cell('eight_gaussians', tmp_path / 'cell', {('vanilla', 0): config})
  with pytest.raises(ValueError, match=r'multiple of'):
    grid.train(cell)
  assert not (tmp_path / 'cell').exists()
