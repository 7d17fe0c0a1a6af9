"""Tables: paired by seed, honest either way."""
import dataclasses
import math

import numpy as np
import pytest

from experiments import comparison
from experiments.comparison import Cell
from mollification.evaluation import records


def _cells(vanilla, mollified, metric='log_likelihood'):
  return [Cell('M', arm, seed, metric, value)
          for arm, values in (('vanilla', vanilla), ('mollified', mollified))
          for seed, value in enumerate(values)]


def test_differences_are_paired():
  """Seeds that differ by far more than the arms do: only the pairing shows the gain."""
  row, = comparison.compare(_cells([0., 100., 200.], [1., 101.1, 200.9])[::-1])
  assert row.difference.mean == pytest.approx(1.)
  assert row.difference.sem == pytest.approx(np.std([1., 1.1, .9], ddof=1) / math.sqrt(3))
  assert row.interval == pytest.approx(4.302653 * row.difference.sem)
  assert row.verdict == 'better'


def test_verdicts_know_which_way_is_better():
  verdict = lambda shift, metric: comparison.compare(
    _cells([0., 1., 2.], [shift, 1.01 + shift, 2. + shift], metric))[0].verdict
  assert verdict(-1., 'log_likelihood') == 'worse'
  assert verdict(-1., 'frechet') == 'better'
  assert verdict(1., 'mmd2') == 'worse'
  assert verdict(0., 'mmd2') == 'undecided'


def _record(folder, seed=0, **changes):
  fields = {'metric': 'mmd2', 'value': 1., 'standard_error': .1, 'n': 360, 'unit': '1',
            'reference': {'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'},
            'params': 'raw', 'step': 800, 'seed': seed, 'config_sha256': 'c', 'seconds': 1.}
  place = folder / 'M' / 'vanilla' / str(seed) / 'records'
  records.write(records.Record(**fields | changes), place)


def test_a_table_is_of_the_last_update_on_test_data_and_of_one_record_a_figure(tmp_path):
  _record(tmp_path)
  _record(tmp_path, step=400, value=2.)
  _record(tmp_path, params='ema', value=3.)
  _record(tmp_path, value=4., reference={'dataset': 'digits', 'split': 'validation', 'n': 180,
                                         'sha256': 'b'})
  _record(tmp_path, params='ema', value=5., seed=1)   # of this run alone
  assert [cell.value for cell, _ in comparison.read(tmp_path)] == [1., 5.]
  _record(tmp_path, n=40, value=5.)
  with pytest.raises(ValueError, match=r'more than one record of mmd2 at update 800; move all but'):
    comparison.read(tmp_path)


def test_figures_in_other_features_are_told_apart_and_may_be_against_any_split(tmp_path):
  in_net = lambda net: {'net': net, 'sha256': 'f', 'input_mode': 'uint8', 'quantisation': 'floor'}
  train = {'dataset': 'digits', 'split': 'full_train', 'n': 1437, 'sha256': 'b'}
  _record(tmp_path, metric='frechet', value=1., features=in_net('digits_cnn_8x8'))
  _record(tmp_path, metric='frechet', value=2., features=in_net('net_96'))
  _record(tmp_path, metric='fid', value=3., features=in_net('inception_clean'), reference=train)
  _record(tmp_path, metric='recall', value=4., features=in_net('digits_cnn_8x8'), reference=train)
  found = {cell.metric: cell.value for cell, _ in comparison.read(tmp_path)}
  assert found == {'frechet': 1., 'frechet@net_96': 2., 'fid@inception_clean': 3.}
  assert comparison.arrow('frechet@net_96') == '↓'
  assert comparison.arrow('recall@net_96') == '↑'
  with pytest.raises(KeyError):
    comparison.arrow('unheard@net_96')


def test_a_row_says_what_data_dependent_layers_started_from(tmp_path):
  _record(tmp_path, extra={'init_on': 'clean'})
  (cell, _), = comparison.read(tmp_path)
  assert cell.model == 'M (init_on clean)'
  assert next(comparison.lines(comparison.compare([cell, dataclasses.replace(
    cell, arm='mollified')])))[0] == 'M (init_on clean)'


def test_one_seed_or_a_nan_decides_nothing():
  assert comparison.compare(_cells([0.], [9.]))[0].verdict == 'undecided'
  assert comparison.compare(_cells([0., 1.], [9., math.nan]))[0].verdict == 'undecided'


def test_arms_need_the_same_seeds():
  with pytest.raises(ValueError, match=r'same seeds, got vanilla \[0, 1\] and mollified \[0\]'):
    comparison.compare(_cells([0., 1.], [0.]))


def test_tables_show_mean_sem_and_verdict():
  rows = comparison.compare(_cells([1., 2., 3.], [2., 3.1, 3.9]))
  text, page = comparison.text_table(rows), comparison.markdown_table(rows)
  for table, name in ((text, 'log_likelihood'), (page, 'log-likelihood')):
    assert f'{name} ↑' in table
    assert '2.000 ± 0.577' in table
    assert 'better' in table
  assert 'better in 1, worse in 0' in comparison.sentence(rows)
