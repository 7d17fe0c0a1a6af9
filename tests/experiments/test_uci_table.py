"""The UCI table: what is not finite is counted and said, and one lost row is found out."""
import math
import types

import pytest

from experiments import grid, uci_table


def _found(vanilla, mollified, sem=.3, n=489):
  """The records of one cell, of the same value at every selection."""
  record = lambda value: types.SimpleNamespace(
    value=value, standard_error=sem if value > -20 else -value - 10, n=n,
    extra={'curves': {'test': [-20., value], 'updates_between': 200}, 'evaluation': 1})
  runs = {(arm, seed): {selection: record(value) for selection in grid.SELECTIONS}
          for arm, values in (('vanilla', vanilla), ('mollified', mollified))
          for seed, value in enumerate(values)}
  return {('whitewine', 'maf'): runs}


def test_seeds_that_are_not_finite_are_left_out_and_counted():
  found = _found([-math.inf, -12., -13., -14.], [-11., -11., -11., -math.nan])
  line = dict(zip(uci_table.HEADER, next(uci_table.lines(found))))
  assert line['vanilla'] == '-13.00 ± 1.00 (1 of 4 not finite)'
  assert line['mollified'] == '-11.00 ± 0.00 (1 of 4 not finite)'
  assert line['difference'] == '+1.50 (1 of 4 +inf) (1 of 4 not finite)'
  assert line['bootstrap'] == '[+1.00, +2.00]'
  # Two finite differences, 1 and 2: t of one degree of freedom at 97.5 % is 12.706.
  assert (line['95 %'], line['mollified is']) == (f'± {12.706 * .5:.2f}', 'undecided')
  assert line['sign test'] == '0.250'   # the infinite difference has a sign
  rows = list(uci_table.csv_rows(found))
  assert rows[0] == ('whitewine', 'maf', 'vanilla', 'last', 4, -13., 1., 1)


def test_no_seed_that_is_finite():
  found = _found([-math.inf] * 4, [-11.] * 4)
  line = dict(zip(uci_table.HEADER, next(uci_table.lines(found))))
  assert (line['vanilla'], line['difference']) == ('(4 of 4 not finite)', '(4 of 4 +inf)')
  assert (line['bootstrap'], line['95 %'], line['mollified is']) == ('', '', 'undecided')
  assert 'undecided in 1 cells with early stopping' in uci_table.sentence(found)


@pytest.mark.parametrize('mollified, verdict', [
  ((-11., -11.2, -10.9, -11.1), 'better in 1, worse in 0'),
  ((-13., -13.2, -12.9, -13.1), 'better in 0, worse in 1'),
  # The bootstrap interval leaves 0 out, Student's does not: all four differences have one sign.
  ((-11.99, -11.98, -11.97, -10.), 'better in 0, worse in 0'),
  ((-11.,), 'better in 0, worse in 0')])
def test_cells_are_counted_by_the_interval_of_few_seeds(mollified, verdict):
  found = _found([-12.] * len(mollified), mollified)
  assert f'{verdict}, undecided' in uci_table.sentence(found).split(', and ')[1]
  line = dict(zip(uci_table.HEADER, next(uci_table.lines(found))))
  counts = {'better': 'better in 1, worse in 0', 'worse': 'better in 0, worse in 1',
            'undecided': 'better in 0, worse in 0'}
  assert counts[line['mollified is']] == verdict


def test_agreement_is_in_sd_of_our_seeds():
  """MAF on RED-WINE: released -15.19 and -11.73; of all others there is nothing here."""
  found = {('redwine', flow): cell for flow in ('maf', 'realnvp', 'glow')
           for cell in _found([-14.19, -16.19], [-11., -12.46]).values()}
  said = uci_table.agreement(found)
  # sd of the vanilla seeds is 1.414, of the mollified ones 1.032; realnvp vanilla is at -26.27.
  assert 'Of the 6 runs of the released code on RED-WINE (one seed each), 3 lie within' in said
  assert f'realnvp, vanilla: -26.27 against -15.19 ± 1.41, {(26.27 - 15.19) / 2**.5:.1f} sd' in said
  assert f'within {12.706 * 1.5**.5:.1f} sd' in said
  assert uci_table.agreement(_found([-12., -13.], [-11., -11.])) == ''


def test_all_seeds_finite_say_nothing_of_it():
  assert 'finite' not in uci_table.markdown(_found([-12., -13.], [-11., -11.]))


@pytest.mark.filterwarnings('error')
def test_the_figure_takes_curves_that_are_not_finite(tmp_path):
  uci_table.draw(_found([-math.inf, -12.], [-11., -11.]), tmp_path / 'curves.png')
  assert (tmp_path / 'curves.png').stat().st_size > 1000


def test_one_row_that_takes_a_run_down_is_named_and_many_are_not():
  found = _found([-10.] * 4, [-10., -10., -28.7, -10.])
  assert list(uci_table.outliers(found)) == [
    'whitewine, maf, mollified, seed 2: 18.7 nats below the median of the seeds, at a standard '
    'error of 18.7: one test row of 489 that gets some 9,144 nats too little.']
  # Four rows: half the standard error.
  run = found['whitewine', 'maf']['mollified', 2]['validation']
  run.standard_error = 9.35
  assert not list(uci_table.outliers(found))
  run.value, run.standard_error = -math.inf, math.nan   # nobody knows of how many rows
  assert not list(uci_table.outliers(found))


def _redwine(vanilla, mollified):
  return {('redwine', flow): cell for flow in ('maf', 'realnvp', 'glow')
          for cell in _found(vanilla, mollified).values()}


def test_agreement_of_many_seeds_and_of_arms_without_an_sd():
  many = uci_table.agreement(_redwine([-14. - i for i in range(12)], [-11. - i for i in range(12)]))
  assert f'One more run of 12 would be within {2.2 * (1 + 1 / 12)**.5:.1f} sd' in many
  assert 'Left out' not in many
  for vanilla in ([math.nan, -math.inf, math.nan], [math.nan, -14., -math.inf]):
    found = _redwine(vanilla, [-11., -12., -13.])
    said = uci_table.agreement(found)
    assert said.startswith('Of the 3 runs of the released code')
    assert said.endswith('Left out, as fewer than two of our seeds are finite: maf, vanilla; '
                         'realnvp, vanilla; glow, vanilla.')
    assert 'nan' not in said
    last = dict(zip(uci_table.HEADER, next(uci_table.lines(found))))
    assert last['released, in our sd'] == 'no sd, +0.3'
  none = uci_table.agreement(_redwine([math.nan] * 2, [math.nan] * 2))
  assert none.startswith('Left out, as fewer than two')


def test_where_validation_is_best_and_whom_few_looks_favour():
  found = _found([-10., -10.], [-11., -11.])
  for (arm, seed), records in found['whitewine', 'maf'].items():
    at = {'vanilla': [0, 1], 'mollified': [4, 5]}[arm][seed]
    curve = [-9. - (2. if arm == 'vanilla' else .5) * abs(i - at) for i in range(6)]
    records['validation'].extra = {'evaluation': at}
    records['last'].extra = {'curves': {'test': curve, 'validation': curve}}
  assert uci_table.peaks(found).splitlines()[-1] == '| whitewine | maf | 1, 2 | 5, 6 | 6 |'
  said = uci_table.coarseness(found)
  text = ('{} training is at its best within the first third of the evaluations in {} of 2 runs, '
          'and beside its best one loses {} nats').format
  assert text('vanilla', 2, '2.00') in said
  assert text('mollified', 0, '0.50') in said


def test_the_figure_counts_the_epochs_that_were_trained(monkeypatch):
  """Two evaluations of 200 updates are of 5 and 10 epochs of 40, not of 75 and 150."""
  drawn = []
  axis = types.SimpleNamespace(
    plot=lambda epochs, *args, **options: drawn.append(list(epochs)), set_ylim=lambda *args: None,
    fill_between=lambda *args, **options: None, get_ylim=lambda: (0., 1.),
    legend=lambda **options: None)
  (name, runs), = _found([-10.] * 2, [-11.] * 2).items()
  uci_table._panel(axis, runs, uci_table._epoch(*name))
  assert drawn == [[5., 10.]] * 2


def test_nine_cells_are_also_counted_with_intervals_widened_together():
  """Of three degrees of freedom t is 3.18 at 95 %, 5.84 at 1 - .05 / 5: a mean of 4 errors."""
  one, = _found([-12.] * 4, [-11.6, -11.4, -11.5, -11.5 + .4]).values()
  found = {('redwine', f'flow{i}'): one for i in range(5)}
  row = uci_table._row([.4, .6, .5, .9])
  assert row.interval < row.difference.mean < row.interval_at(1 - .05 / 5)
  alone, together = uci_table.sentence(found).split(' With the 5 intervals')
  assert alone.count('better in 5, worse in 0, undecided in 0') == 2
  assert together.count('better in 0, worse in 0, undecided in 5') == 2


def test_early_stopping_alone_is_held_against_the_end_of_mollified_training():
  (runs,) = _found([-12., -12.1, -11.9], [-13., -13., -13.]).values()
  for (arm, _), records in runs.items():   # at the last epoch, unlike on validation data
    if arm == 'vanilla':
      records['last'] = types.SimpleNamespace(value=-20.)
  assert uci_table.stopping({('redwine', 'maf'): runs}) == (
    'Vanilla training with early stopping is ahead of mollified training at its last epoch in the '
    "mean of 1 of 1 cells; by Student's 95 % interval it is better in 1 and worse in 0.")


def test_the_error_of_the_test_rows_is_said_by_table():
  found = _found([-12.] * 3, [-13.] * 3, sem=.4) | {
    ('redwine', flow): runs for flow in ('maf', 'glow')
    for runs in _found([-12.] * 3, [-13.] * 3, sem=.25).values()}
  assert '0.40 on whitewine, 0.25 on redwine (median' in uci_table.row_error(found)


@pytest.mark.parametrize('fall, favoured', [((1., .2), 'mollified'), ((.1, .3), 'vanilla')])
def test_who_loses_less_by_few_looks_is_favoured(monkeypatch, fall, favoured):
  falls = dict(zip(uci_table.ARMS, fall))
  monkeypatch.setattr(uci_table, '_falls', lambda runs, arm: [falls[arm]])
  said = uci_table.coarseness(_found([-12.] * 3, [-13.] * 3))
  assert said.endswith(f'By that it favours {favoured} training, which loses less.')
