"""What `experiments.sensitivity_table` says of records that are made by hand."""
import numpy as np
import pytest
from scipy import stats

from experiments import grid, sensitivity, sensitivity_table, statistics
from experiments.sensitivity import DEFAULT
from mollification.metrics import Moments
from tests.experiments import grid_records

LONG = 'sigmoid_1.5_1.0'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """One density: three seeds of a few schedules, then four fresh ones of the best and the default.

  A schedule is as much better than vanilla training, and has as many more samples far off, as
  `shift` says, give or take .01 by seed.
  """
  tmp_path = tmp_path_factory.mktemp('sensitivity')
  shift = {'vanilla': 0., DEFAULT: -.5, LONG: -1., 'linear': .5}
  for folder, variants, seeds in (('eight_gaussians', shift, range(3)),
                                  ('eight_gaussians_fresh', ('vanilla', DEFAULT, 'linear'),
                                   range(100, 104))):
    for variant in variants:
      for seed in seeds:
        by = shift[variant] + (.01 * (-1)**seed if variant != 'vanilla' else 0.)
        error = 1. if variant == LONG else 100.
        grid_records.write(tmp_path / folder / variant / str(seed), seed, test=[-3., -2. + by],
                           validation=[-4., -1. + 2 * by], share_far=.2 - .1 * by,
                           score_error_low=error if variant != 'vanilla' else 10.)
  return tmp_path


def test_the_chosen_the_default_and_the_one_against_the_other_on_fresh_seeds(root):
  found = [(variant, other, row.metric, round(row.difference.mean, 4), row.difference.count,
            row.verdict) for variant, other, row in
           sensitivity_table.fresh_rows(root, 'eight_gaussians')]
  assert [line[:2] for line in found[:3]] == [
    ('linear', 'vanilla'), (DEFAULT, 'vanilla'), ('linear', DEFAULT)]
  likelihood, far = ('log_likelihood_by_validation', 'share_far')
  assert (DEFAULT, 'vanilla', likelihood, -.5, 4, 'worse') in found
  assert ('linear', 'vanilla', likelihood, .5, 4, 'better') in found
  assert ('linear', DEFAULT, likelihood, 1., 4, 'better') in found
  assert ('linear', DEFAULT, far, -.1, 4, 'better') in found
  assert len(found) == 3 * len(sensitivity_table.METRICS)
  table = sensitivity_table.markdown(root, ['eight_gaussians']).splitlines()
  assert len(table) == 2 + len(found)
  assert f'| linear | {DEFAULT} | log-likelihood ↑ | 4 | -2.5' in '\n'.join(table)


def test_sentences_answer_the_questions_of_the_paper(root):
  stopped, corrected, rare, sensitive, time = sensitivity_table.sentences(root, ['eight_gaussians'])
  assert stopped.startswith('eight_gaussians: selected on validation, 1 of 3 schedules are ahead')
  assert f'linear +0.500 ± 0.018 nats (better); {DEFAULT} -0.500 ± 0.018 nats (worse).' in stopped
  assert time == '0 of 2 sweeps, those that were timed in one go, took 0 minutes of a core.'
  assert 'these are 2 tests on fresh seeds' in corrected
  assert f'eight_gaussians, {DEFAULT} (worse): p = 0.000, times 2 = 0.000, worse' in corrected
  assert rare.startswith('Question 1, ')
  assert f'on 3 seeds more do under {DEFAULT} +0.050 ± 0.003, {LONG} +0.100 ± 0.003' in rare
  assert 'fewer under linear -0.050 ± 0.003 (95 %), and 0 of 3 schedules are undecided;' in rare
  assert f'under {LONG}, which has the most such samples, its log10 differs by -1.00 ± 0.00' in rare
  assert 'below it in the mean under 1 of 3 schedules' in rare
  assert sensitive.startswith('Question 4, ')
  assert f'the 2 sigmoids differ from vanilla training by -0.997 ± 0.029 ({LONG}) to' in sensitive
  assert 'linear, was ahead of the default by 2.0000 nats on validation data' in sensitive
  assert 'on fresh seeds +1.000 ± 0.000 (better) on test data' in sensitive


def test_what_is_decided_alone_is_undecided_among_many(root, monkeypatch):
  monkeypatch.setattr(sensitivity_table.statistics, 't_test', lambda moments: .04)
  corrected = list(sensitivity_table.sentences(root, ['eight_gaussians']))[1]
  assert 'linear (better): p = 0.040, times 2 = 0.080, undecided' in corrected


def test_p_is_students():
  values = [1., 1.2, -.1, .4, .9]
  assert statistics.t_test(Moments.of(values)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
  assert statistics.t_test(Moments.of([0., 0.])) == 1.
  assert statistics.t_test(Moments.of([2., 2.])) == 0.


def test_scores_are_of_the_best_evaluation_and_what_is_not_finite_counts_as_the_worst(root):
  scores = sensitivity.scores(grid.read(root / 'eight_gaussians'))
  assert scores['linear'] == pytest.approx(np.mean([.02, -.02, .02]), abs=1e-5)
  assert sensitivity.chosen(grid.read(root / 'eight_gaussians')) == 'linear'


def test_the_figure_has_a_panel_for_the_share_of_samples():
  assert set(sensitivity_table.TITLES) == {*sensitivity_table.SELECTED, *sensitivity_table.OBSERVED}
