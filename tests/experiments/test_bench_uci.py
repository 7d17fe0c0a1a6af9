"""The bench of sweeps: what it makes of seconds. Nothing is timed here."""
import pytest

from experiments.bench import flows_tabular, rows, uci


def _comparison(a, b):
  return rows.Comparison(a=a, b=b, ratio=a / b, difference=a - b, pairs=5,
                         quartiles=(a / b, a / b))


def test_every_measure_has_a_tiny_form():
  assert uci.SMOKE.keys() == uci.MEASURES.keys() == {
    'maf_torch', 'realnvp_torch', 'glow_torch', 'maf_flowjax', 'seeds'}


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
