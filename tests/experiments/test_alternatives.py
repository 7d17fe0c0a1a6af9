"""What `experiments.alternatives` trains, how it chooses settings, and what it concludes."""
import math

import numpy as np
import pytest

from experiments import alternatives, alternatives_table, plane
from mollification import build, check
from mollification.evaluation import mmd


@pytest.mark.parametrize('name', alternatives.DATA)
def test_every_setting_is_a_sweep_that_can_be_built_and_no_two_are_alike(name):
  arms = [arm for listed in alternatives.programs(name).values() for arm in listed]
  assert sorted(arms) == sorted(alternatives.variants(name))
  seen = set()
  for listed in alternatives.programs(name).values():
    configs = [alternatives.config_of(name, arm, seed) for arm in listed for seed in (0, 1)]
    check.check_sweep(configs)
    for config in configs[::2]:
      check.check(config, build.mollified_steps(config))
      check.check_examples(config, 1_000)
      build.train_step(config, (11,) if name == 'redwine' else (2,), None)
      seen.add(str(config))
  assert len(seen) == len(arms)


def test_arms_share_their_budget_and_only_those_with_noise_see_it():
  configs = {arm: alternatives.config_of('redwine', arm, 0)
             for arm in alternatives.variants('redwine')}
  shared = ('total_steps', 'batch_size', 'seed', 'optimizer.learning_rate', 'eval.every')
  first = configs['vanilla']
  for arm, config in configs.items():
    flat, vanilla = check._flat(config), check._flat(first)
    assert [flat[key] for key in shared] == [vanilla[key] for key in shared]
    noisy = arm.startswith(('mollified', 'noise', 'tweedie', 'softflow'))
    assert (build.mollified_steps(config) > 0) == noisy, arm
  level = build.schedule(configs['tweedie_sigma_0.3'], 13)
  assert {float(level(step)) for step in (0, 700, 1_299)} == {1.}


def test_a_sample_that_is_not_finite_is_far_from_everything_and_counted():
  on = plane.points('two_gaussians')[0][:alternatives.SAMPLES]
  lost = on.copy()
  lost[::2] = np.nan
  lost[1] = 1e30
  config = alternatives.config_of('two_gaussians', 'vanilla', 0)
  found = alternatives.derive(config, {'samples': np.stack([on, lost, np.full_like(on, np.inf)])})
  assert found['lost'].tolist() == [0, 250, 500]
  assert found['share_far'][1] == pytest.approx(.5, abs=.02)
  assert abs(found['mmd2'][0]) < .005
  # No kernel joins them to anything: of all samples only the reference's own part is left.
  reference = mmd.reference(alternatives._held_out('two_gaussians', '')['mmd2'])
  n = len(reference.x)
  assert found['mmd2'][2] == pytest.approx(reference.row_sums.sum() / (n * (n - 1)))
  assert found['mmd2'][0] < found['mmd2'][1] < found['mmd2'][2]


def _curves(test, validation, mmd2=(0., 0.), mmd2_validation=(0., 0.)):
  named = {'test': test, 'validation': validation, 'mmd2': mmd2,
           'mmd2_validation': mmd2_validation}
  return {0: {name: np.array(curve, float) for name, curve in named.items()}}


def test_settings_and_evaluations_are_chosen_on_validation_data_alone():
  last, selected, distance = alternatives_table.FIGURES[:3]
  found = {'dropout_rate_0.1': _curves((1., 9.), (5., 4.), (.3, .4), (.2, .1)),
           'dropout_rate_0.3': _curves((8., 2.), (3., 6.), (.5, .6), (.4, .3))}
  best = lambda figure, found=found: alternatives_table.best('redwine', found, 'dropout', figure)
  assert best(last) == ('rate_0.3', {0: 2.})
  assert best(selected) == ('rate_0.3', {0: 2.})
  assert best(distance) == ('rate_0.1', {0: .3})   # the smaller one, where validation is best
  for arm, other in (('dropout_rate_0.3', 'rate_0.1'), ('dropout_rate_0.1', 'rate_0.3')):
    broken = {**found, arm: _curves((8., 2.), (3., np.nan))}
    assert best(last, broken)[0] == other


def test_gains_are_mollified_minus_the_other_and_paired():
  likelihood, distance = alternatives_table.FIGURES[1:3]
  mollified, other = {0: 1., 1: 3., 2: 2.}, {2: 1., 0: 0., 1: 2.1}
  row = alternatives_table.row('x', likelihood, mollified, other)
  assert row.difference.mean == pytest.approx(.9667, abs=1e-3)
  assert row.verdict == 'better'
  assert alternatives_table.row('x', distance, mollified, other).verdict == 'worse'
  text = alternatives_table._gain('x', 'dropout', likelihood, other, mollified)
  assert text.startswith('+0.967 [+0.9')
  assert text.endswith(']*')
  lost = {**other, 1: -np.inf}
  assert alternatives_table.row('x', likelihood, mollified, lost).difference.count == 2
  assert 'not finite' in alternatives_table._value('rate_0.1', lost)
  assert alternatives_table.row('x', likelihood, mollified, {0: np.nan, 1: 1., 2: np.inf}) is None


def test_sentences_say_against_which_methods_it_is_decided(monkeypatch, tmp_path):
  figure = alternatives_table.FIGURES[0]
  mollified = {0: 1., 1: 2., 2: 3.}
  others = {'vanilla': -1., 'weight_decay': -2., 'ema': 1., 'dropout': None, 'clipping': math.nan}

  def table(root, names):
    for name in names:
      yield name, 'mollified', figure, 'half', mollified, mollified
      for method, shift in others.items():
        own = {s: v + (shift if shift is not None else (-1)**s) + .01 * s
               for s, v in mollified.items()}
        yield name, method, figure, '', own, mollified
  monkeypatch.setattr(alternatives_table, 'table', table)
  folder = tmp_path / 'redwine_base'
  folder.mkdir()
  (folder / 'time.json').write_text('{"seconds": 240, "core_seconds": 180}')
  said, times = alternatives_table.sentences(tmp_path, ['redwine'])
  assert said == (
    'redwine, log-likelihood, last: mollified training is better than vanilla; weight decay, and '
    'worse than EMA, and undecided against dropout; clipping.')
  total = len(alternatives.programs('redwine'))
  assert times == (f'1 of {total} sweeps, those that were timed in one go, took 3 minutes of a '
                   'core.')
  others = dict.fromkeys(('vanilla', 'dropout'), -1.)
  assert next(alternatives_table.sentences(tmp_path, ['redwine'])).endswith(
    'mollified training is better than all.')
