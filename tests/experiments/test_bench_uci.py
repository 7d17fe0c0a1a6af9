"""The bench of sweeps: what it makes of seconds. Nothing is timed here."""
import json
import pathlib

import pytest

from experiments import report
from experiments import uci as experiment
from experiments.bench import flows_tabular, rows, uci
from mollification.data import tabular


def _comparison(a, b):
  return rows.Comparison(a=a, b=b, ratio=a / b, difference=a - b, pairs=5,
                         quartiles=(a / b, a / b))


def test_every_measure_has_a_tiny_form():
  assert uci.SMOKE.keys() == uci.MEASURES.keys() == {
    'maf_torch', 'realnvp_torch', 'glow_torch', 'maf_flowjax', 'seeds', 'table', 'smoke'}


def test_the_record_has_every_row_with_its_bar():
  """The page of speed shows the record: a bar that was moved since would be shown as it was."""
  lines = (report.RESULTS / 'bench' / 'uci.jsonl').read_text().splitlines()
  assert {row['name']: row['bar'] for row in map(json.loads, lines)} == {
    'maf_torch': 2., 'realnvp_torch': 1.3, 'glow_torch': 1.3, 'maf_flowjax': 1.2, 'seeds': .97,
    'compile_seeds': .8, 'table': 1., 'smoke': 1.}


@pytest.mark.parametrize('theirs, missed', [(3., True), (4.2, False)])
def test_a_sweep_of_two_runs_is_held_against_as_many_updates(monkeypatch, theirs, missed):
  """Both sides do 2 x 65 updates and as many evaluations; at the bar of 2."""
  asked, done = [], []
  monkeypatch.setattr(uci, '_sweep', lambda name, fractions, hidden: (None, 65))
  monkeypatch.setattr(flows_tabular, 'torch_loop',
                      lambda *args: asked.append(args) or ('PyTorch', lambda: done.append(65)))

  def interleaved(fn, *args, **options):
    fn()
    return _comparison(theirs, 2.)
  monkeypatch.setattr(uci.rows, 'interleaved', interleaved)
  row, = uci.torch_sweep('maf', 2.)
  ((name, hidden, count, tables),) = asked
  assert (name, hidden, count, sum(done)) == ('maf', 512, 65, 130)
  assert [table.shape for table in tables] == [(1_296, 11), (144, 11), (159, 11)]
  assert row.value == pytest.approx(2000 / 130)
  assert (row.ratio, row.missed) == (pytest.approx(theirs / 2), missed)


@pytest.mark.parametrize('four, missed', [(8., False), (8.8, True)])
def test_the_cost_of_seeds_is_that_of_a_run(monkeypatch, four, missed):
  clock = iter([0., 10., 20., 20. + 8. + four])   # the first calls take 10 and 8 + `four` seconds
  monkeypatch.setattr(uci, '_sweep', lambda *args: (lambda: None, 65))
  monkeypatch.setattr(uci.time, 'perf_counter', lambda: next(clock))
  monkeypatch.setattr(uci.rows, 'interleaved', lambda *args: _comparison(2., four))
  cost, compiled = uci.seeds()
  assert (cost.value, cost.ratio) == (pytest.approx(four / 4), pytest.approx(8 / four))
  assert cost.missed == missed
  assert (compiled.value, compiled.reference_value) == (pytest.approx(8.), pytest.approx(8.))


@pytest.mark.parametrize('seconds, missed', [(6_000, False), (7_200, True)])
def test_the_clock_of_the_whole_table_is_held_against_its_minutes(tmp_path, monkeypatch, seconds,
                                                                  missed):
  clock = {'cells': sorted(experiment.names()), 'workers': 2, 'seconds': seconds,
           'core_seconds': 10_000}
  monkeypatch.setattr(uci, 'CLOCK', tmp_path / 'clock.json')
  uci.CLOCK.write_text(json.dumps(clock))
  row, = uci.table()
  assert (row.value, row.ratio, row.missed) == (seconds / 60, 6_600 / seconds, missed)
  uci.CLOCK.write_text(json.dumps({**clock, 'cells': clock['cells'][:3]}))
  with pytest.raises(ValueError, match=r'clock\.json is of 3 cells, not of the 9 of the table'):
    uci.table()


@pytest.mark.parametrize('seconds, missed', [(119., False), (121., True)])
def test_the_command_in_small_is_held_against_two_minutes(monkeypatch, seconds, missed):
  """It is given a file of each table, of the rows that it asks for."""
  def run(command, **options):
    folder, = (flag.partition('=')[2] for flag in command if flag.startswith('--data_dir='))
    assert command[1:4] == ['-m', 'experiments.uci', '--smoke']
    assert command[-1] == '--cells=a'
    assert f'--workdir={folder}/run' in command   # nothing is there that was trained before
    assert not (pathlib.Path(folder) / 'run').exists()
    assert options['check']
    assert options['cwd'] == uci.ROOT
    for name in experiment.TABLES:
      tabular.load(name, folder)
  monkeypatch.setattr(uci.subprocess, 'run', run)
  monkeypatch.setattr(uci.rows, 'seconds_of', lambda fn: (fn(), seconds)[1])
  row, = uci.smoke('--cells=a')
  assert (row.value, row.ratio, row.missed) == (seconds, 120 / seconds, missed)


def test_the_recorded_row_is_that_of_the_recorded_clock():
  recorded = [json.loads(line) for line in
              (report.RESULTS / 'bench/uci.jsonl').read_text().splitlines()]
  fields = lambda row: {key: value for key, value in row.items() if key != 'run'}
  assert [fields(json.loads(rows.as_json(row, ''))) for row in uci.table()] == [
    fields(row) for row in recorded if row['name'] == 'table']
