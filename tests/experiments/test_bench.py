"""Benches: what their rows say, when they fail, and that pairs are fair. Nothing is timed here."""
import dataclasses
import json
import math
import re

import pytest

from experiments.bench import rows, step

KEYS = ['name', 'value', 'unit', 'reference', 'reference_value', 'ratio', 'bar', 'lower_is_better',
        'run']
ROW = rows.Row('step', 2., 's', 'another library', 3., 1.5, 1., True)


def _main(*table, argv=('--json',)):
  return rows.main({'fake': lambda: list(table)}, 'A bench.', argv)


def test_json_rows_have_these_keys_and_no_other(capsys):
  plain = dataclasses.replace(ROW, name='plain', reference_value=None, ratio=None, bar=None)
  assert _main(ROW, plain) == 0
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [list(line) for line in lines] == [KEYS, KEYS]
  assert lines[0] == {'name': 'step', 'value': 2., 'unit': 's', 'reference': 'another library',
                      'reference_value': 3., 'ratio': 1.5, 'bar': 1., 'lower_is_better': True,
                      'run': rows.run_of()}
  assert re.fullmatch(r'\d{4}-\d\d-\d\d, ([0-9a-f]{7,}(-dirty)?|no commit), jax [\d.]+',
                      lines[0]['run'])
  assert lines[1]['bar'] is None


def test_json_has_no_nan():
  row = dataclasses.replace(ROW, value=math.nan, ratio=math.inf)
  line = json.loads(rows.as_json(row, ''), parse_constant=lambda name: pytest.fail(name))
  assert line['value'] is None
  assert line['ratio'] is None


@pytest.mark.parametrize('ratio, bar, status', [
  (.98, .99, 1), (.99, .99, 0), (1.2, 1., 0), (math.nan, 1., 1), (None, 1., 1),
  (.1, None, 0), (None, None, 0)])
@pytest.mark.parametrize('argv', [(), ('--json',)])
def test_exit_status_is_1_only_if_a_row_misses_its_bar(ratio, bar, status, argv):
  row = dataclasses.replace(ROW, ratio=ratio, bar=bar)
  assert _main(row, argv=argv) == status
  # One missed row is enough, wherever it stands.
  assert _main(row, ROW, argv=argv) == status
  assert _main(ROW, row, argv=argv) == status


def test_smoke_times_one_pair_and_no_bar_counts(capsys):
  calls = []

  def measure():
    timed = rows.interleaved(lambda: calls.append('a'), lambda: calls.append('b'), 9, seconds=60.)
    return [dataclasses.replace(ROW, ratio=.1, value=float(timed.pairs))]
  assert rows.main({'fake': measure}, '', ['--smoke', '--json']) == 0
  assert json.loads(capsys.readouterr().out)['value'] == 1
  assert len(calls) == 4   # one pair, and one before that does not count
  assert _main(dataclasses.replace(ROW, ratio=.1)) == 1   # the next run counts again


def test_the_table_names_rows_and_verdicts(capsys):
  _main(ROW, dataclasses.replace(ROW, name='slow', ratio=.5), argv=())
  header, good, bad = capsys.readouterr().out.splitlines()
  assert header.split() == ['name', 'value', 'unit', 'ratio', 'bar', 'reference']
  assert good.split()[0] == 'step'
  assert ' met ' in good
  assert bad.split()[0] == 'slow'
  assert ' MISSED ' in bad


def test_only_runs_the_named_measures(capsys):
  ran = []
  measures = {name: lambda name=name: ran.append(name) or [] for name in ('one', 'two', 'three')}
  assert rows.main(measures, '', ['--only=three,one']) == 0
  assert ran == ['three', 'one']
  with pytest.raises(SystemExit) as error:
    rows.main(measures, '', ['--only=four'])
  assert error.value.code == 2
  assert "unknown measure 'four'; known: one, two, three" in capsys.readouterr().err


@pytest.mark.parametrize('pairs', [5, 6, 9])
def test_interleaved_calls_both_sides_equally_often_in_alternating_order(pairs):
  calls = []
  timed = rows.interleaved(lambda: calls.append('a'), lambda: calls.append('b'), pairs)
  assert timed.pairs == pairs
  assert calls[:2] == ['a', 'b']   # to warm up
  taken = [''.join(calls[i:i + 2]) for i in range(2, len(calls), 2)]
  assert taken == ['ab' if i % 2 == 0 else 'ba' for i in range(pairs)]


def test_interleaved_takes_medians_of_pairs_after_the_warm_up():
  a = iter([100., 2., 4., 6., 8., 60.])
  b = iter([1., 1., 1., 2., 8., 3.])
  timed = rows.interleaved(a, b, 5, clock=next)
  # Ratios 2, 4, 3, 1, 20; differences 1, 3, 4, 0, 57.
  assert timed == rows.Comparison(a=6., b=2., ratio=3., difference=3., pairs=5, quartiles=(2., 4.))
  assert timed.words == '5 pairs, half of them 2.00 to 4.00'


def test_interleaved_goes_on_for_the_seconds_given(monkeypatch):
  now = iter(range(100))
  monkeypatch.setattr(rows.time, 'perf_counter', lambda: next(now))
  # The clock ticks at the start and after each pair from the fifth on.
  assert rows.interleaved(1., 2., 5, seconds=4, clock=float).pairs == 8
  assert rows.interleaved(1., 2., 5, clock=float).pairs == 5


def test_interleaved_wants_enough_pairs():
  with pytest.raises(ValueError, match='at least 5 pairs, got 4'):
    rows.interleaved(lambda: None, lambda: None, 4)


def test_the_fastest_has_the_shortest_call_of_all(monkeypatch):
  """A first call, which sets up, or one that was disturbed says nothing."""
  taken = {'a': iter([9., 2., 5., 5.]), 'b': iter([3., 3., 3., 3.]), 'c': iter([4., 1., 1., .5])}
  monkeypatch.setattr(rows, 'seconds_of', next)
  assert rows.fastest({'a': taken['a'], 'b': taken['b']}) == ('a', taken['a'])
  with pytest.raises(StopIteration):
    next(taken['b'])   # all four were looked at
  taken['d'] = iter([1.] * 4)
  assert rows.fastest({'d': taken['d'], 'c': taken['c']}) == ('c', taken['c'])


def test_a_timed_call_counts_from_its_second_on(monkeypatch):
  """The first one compiles; between calls only the wall goes on. One second passes per look."""
  clock = iter(range(100))
  monkeypatch.setattr(step.time, 'perf_counter', lambda: next(clock))
  call = step.TimedCall(lambda x: next(clock) and x)
  assert [call(1), next(clock) and call(2), call(3)] == [1, 2, 3]
  # The looks are at 0 and 2, (3), 4 and 6, 7 and 9.
  assert (call.count, call.inside, call.wall) == (2, 4., 7)


@pytest.mark.parametrize('code', ['import no_such_module', 'import sys; sys.exit(2)'])
def test_a_command_that_fails_is_no_measurement(code):
  with pytest.raises(RuntimeError, match='failed'):
    step._python('-c', code)
