"""What `experiments.intrinsic_dimension` trains, derives and concludes."""
import types

import numpy as np
import pytest

from experiments import intrinsic_dimension, intrinsic_dimension_table
from mollification import build


def test_a_cell_is_of_the_data_that_its_name_says():
  for name in ('plane_16', 'curved_4', 'noisy_1'):
    config = intrinsic_dimension.config_of(name, 'half', 3)
    config.data.num_train = config.data.num_validation = config.data.num_test = 8
    law = build.load_data(config).density
    kind, d = name.split('_')
    assert (law.intrinsic, law.ambient) == (int(d), 16)
    assert {'curvature': law.curvature, 'noise': law.noise} == {
      'curvature': 0., 'noise': 0., **intrinsic_dimension.KINDS[kind]}
  fractions = [intrinsic_dimension.config_of('plane_1', arm, 0).mollify.fraction
               for arm in intrinsic_dimension.ARMS]
  assert fractions == [0., .25, .5, 1., .5]


def test_samples_are_judged_by_mmd_and_distance(monkeypatch):
  law, test = intrinsic_dimension.held_out('plane_2')
  good = law.sample(np.random.default_rng(5), len(test))
  normal = law._arrays[0][:, -1].astype(np.float32)
  broken = good.copy()
  broken[0, 0] = np.nan
  found = intrinsic_dimension.derive('plane_2', {'samples': np.stack([
    good, good + .5 * normal, broken])})
  np.testing.assert_allclose(found['off_manifold'], [0., .5, np.nan], atol=1e-5)
  assert abs(found['mmd2'][0]) < 3e-3 < found['mmd2'][1]
  assert np.isnan(found['mmd2'][2])


def test_likelihood_is_judged_where_it_has_a_bound():
  judged = intrinsic_dimension_table.judged
  assert [name for name in intrinsic_dimension.CELLS if judged(name, 'test')] == [
    'noisy_1', 'noisy_2', 'noisy_4', 'noisy_8', 'plane_16']
  assert judged('plane_1', 'mmd2')
  assert judged('curved_2', 'off_manifold')


def test_every_schedule_is_counted_by_dimension(monkeypatch):
  row = lambda verdict: types.SimpleNamespace(verdict=verdict)
  arms = lambda *verdicts: dict(zip(('half', 'quarter', 'all', 'sharp'), map(row, verdicts)))
  monkeypatch.setattr(intrinsic_dimension_table, 'rows', lambda root, names: [
    ('plane_1', 'mmd2', arms('better', 'worse', 'undecided', 'better')),
    ('noisy_1', 'mmd2', arms('better', 'better', 'undecided', 'worse')),
    ('noisy_1', 'test', arms('worse', 'better', 'better', 'better')),
    ('plane_1', 'test', arms('worse', 'worse', 'worse', 'worse')),   # without a bound
    ('plane_16', 'mmd2', arms('undecided', 'better', 'worse', 'better'))])
  half, quarter, *_ = intrinsic_dimension_table.sentences('', ())
  bounded = 'likelihood, where it is bounded: d = 1'
  assert half == ('half (better/worse/undecided), samples: d = 1 2/0/0, d = 16 0/0/1; '
                  f'{bounded} 0/1/0.')
  assert quarter == ('quarter (better/worse/undecided), samples: d = 1 1/1/0, d = 16 1/0/0; '
                     f'{bounded} 1/0/0.')


def test_the_best_schedule_is_best_in_the_direction_of_its_metric():
  seeds = {arm: {s: shift + s for s in range(3)} for arm, shift in
           {'vanilla': 1., 'quarter': .5, 'half': 2., 'all': 1.5, 'sharp': 1.2}.items()}
  for metric, top in (('mmd2', 'quarter'), ('off_manifold', 'quarter'), ('test', 'half')):
    compared = {arm: intrinsic_dimension_table.row('plane_2', metric, seeds, arm)
                for arm in seeds if arm != 'vanilla'}
    assert intrinsic_dimension_table.best(metric, compared) == top
  broken = {arm: seeds[arm] | {0: np.nan} for arm in ('quarter', 'half')}   # first in the order
  compared = {arm: intrinsic_dimension_table.row('plane_2', 'test', seeds | broken, arm)
              for arm in seeds if arm != 'vanilla'}
  assert intrinsic_dimension_table.best('test', compared) == 'all'
  compared = {arm: intrinsic_dimension_table.row('plane_2', 'test', seeds, arm)
              for arm in seeds if arm != 'vanilla'}
  assert compared['half'].difference.mean == pytest.approx(1.)
  assert compared['half'].verdict == 'better'


def test_data_have_a_distance_of_their_own_that_stands_beside_that_of_samples(monkeypatch):
  law, test = intrinsic_dimension.held_out('noisy_4')
  own = intrinsic_dimension_table.data_distance('noisy_4')
  assert own == pytest.approx(np.sqrt(np.mean(law.distance(test)**2)))
  assert .4 < own < .6
  assert intrinsic_dimension_table.data_distance('plane_2') == pytest.approx(0., abs=1e-5)
  found = intrinsic_dimension.derive('noisy_4', {'samples': test[None]})
  assert found['off_manifold'][0] == pytest.approx(own)
  monkeypatch.setattr(intrinsic_dimension_table, 'rows', lambda root, names: [])
  said = next(intrinsic_dimension_table.sentences('', ['plane_2', 'noisy_4']))
  assert f'by d = 4 {own:.3f} (root mean square): less than that' in said
  assert 'upper bound' in said
