"""The bench of scale: what it makes of seconds. Nothing is timed here."""
import contextlib
import functools
import json

import pytest

from experiments import report
from experiments.bench import scale


def _answering(monkeypatch, *answers):
  """Workers answer from `answers`, {word: seconds} each, in the order in which they are started."""
  started = iter(answers)

  @contextlib.contextmanager
  def worker(devices, *flags, **env):
    yield next(started).__getitem__

  monkeypatch.setattr(scale, '_worker', worker)
  monkeypatch.setattr(scale.rows, 'interleaved',
                      functools.partial(_without_minutes, scale.rows.interleaved))


def _without_minutes(interleaved, *args, seconds=0., **options):
  return interleaved(*args, **options)


@pytest.mark.parametrize('fed, hidden, missed', [(2., 1., False), (2.03, .97, False),
                                                 (2.2, .8, True), (3., 0., True)])
def test_the_share_of_the_input_that_is_hidden(monkeypatch, fed, hidden, missed):
  """Of a second of input, that which the loop does not take longer."""
  _answering(monkeypatch, {'bare': 2., 'fed': fed, 'input': 1.})
  row, = scale.prefetch()
  assert (row.value, row.ratio) == (pytest.approx(hidden), pytest.approx(hidden))
  assert row.missed == missed


def test_four_devices_are_compared_with_one(monkeypatch):
  """Of a second more: .2 for parts, .3 that their average adds, .4 Adam, and what is left."""
  one = {'update': 3., 'cores': 1.5, 'averaged': 2., 'gradient': 2., 'adam': 2.1}
  _answering(monkeypatch, one, {'update': 4., 'cores': 1.9, 'averaged': 2.5, 'gradient': 2.2,
                                'adam': 3.})
  row, = scale.devices_4()
  assert (row.value, row.reference_value, row.ratio, row.missed) == (4., 3., .75, True)
  assert 'busy cores 1.90 of four and 1.50 of one' in row.reference
  assert row.reference.endswith("of 1000 ms more, gradients of parts with BatchNorm's sums 200, "
                                'average of gradients 300, Adam on each 400, the rest 100')


def test_a_run_that_ends_before_its_first_row_is_no_measurement(tmp_path, monkeypatch):
  monkeypatch.setattr(scale, 'RESUMED', ('--config=configs/none.py',))
  with pytest.raises(RuntimeError, match='ended with 2'):
    scale._until_row(tmp_path / 'run')


def test_every_measure_has_a_tiny_form():
  assert scale.SMOKE.keys() == scale.MEASURES.keys()


def test_the_record_reaches_every_bar_but_one():
  """The page of speed says so: of a row that was measured under another bar, too, it may not."""
  lines = (report.RESULTS / 'bench' / 'scale.jsonl').read_text().splitlines()
  found = {row['name']: row for row in map(json.loads, lines)}
  assert {name: row['bar'] for name, row in found.items()} == {
    'devices_4': .8, 'checkpoint_cost': .97, 'resume_time': 1., 'prefetch': .95,
    'prefetch_plain': .95}
  # The callback of this one may wait 5 ms for the interpreter, as no device does.
  assert [name for name, row in found.items() if row['ratio'] < row['bar']] == ['prefetch_plain']
