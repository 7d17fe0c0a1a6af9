"""What a finished run leaves for tables: its pace, and copies that no other one replaces."""
import dataclasses
import json

import pytest

from experiments import cell_records, cells
from mollification.evaluation import records
from tests.experiments import recorded
from tests.training import tiny


def test_the_pace_of_quiet_intervals(tmp_path):
  # 10 updates at 1 s, 10 at 3 s beside other work, then 10 at 1 s and 10 at 1.2 s.
  rows = [(10, 1.), (20, 2.), (30, 5 / 3), (40, 1.55)]
  assert cell_records.quiet_pace(rows) == pytest.approx(1.)
  assert cell_records.quiet_pace(rows[:1]) == 1.
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(
    {'step': step, 'time/seconds_per_step': mean}) + '\n' for step, mean in rows))
  for training, quiet in ((62., pytest.approx(1.)), (None, None)):   # a mean begins anew with a cut
    cell_records.write_seconds(tmp_path, training=training)
    found = json.loads((tmp_path / 'seconds.json').read_text())
    assert (found['update'], found['quiet_update']) == (1.55, quiet)
    (tmp_path / 'seconds.json').unlink()


def test_a_record_of_another_config_makes_no_cell_done(tmp_path):
  config = tiny.config()
  cell = cells.Cell(config, tmp_path / 'run', ('frechet',), 'tiny')
  cell.folder.mkdir()
  (cell.folder / 'config.json').write_text(json.dumps(config.to_dict()))
  record = dataclasses.replace(recorded.record(recorded.NET, 8, 0), config_sha256='another')
  records.write(record, cell.folder / 'records')
  for look in (cell.is_done, lambda: cell_records.record(cell.folder, tmp_path / 'results')):
    with pytest.raises(ValueError, match=r'holds a frechet of another config \(another, .*away'):
      look()
  assert not (tmp_path / 'results').exists()


def test_a_record_keeps_what_the_run_has_not(tmp_path):
  """Looks over training, say, of a run that was trained once more."""
  for place in (tmp_path / 'run', tmp_path / 'results'):
    (place / 'records').mkdir(parents=True)
    (place / 'config.json').write_text(json.dumps(tiny.config().to_dict()))
  (tmp_path / 'results' / 'records' / 'a-4.json').write_text('1')
  with pytest.raises(ValueError, match=r'1 records that .*/run lacks, like a-4\.json'):
    cell_records.record(tmp_path / 'run', tmp_path / 'results')
  assert (tmp_path / 'results' / 'records' / 'a-4.json').exists()


def test_a_record_is_replaced_whole_and_never_by_one_of_another_config(tmp_path, monkeypatch):
  monkeypatch.setattr(cell_records, 'check_config', lambda folder: None)   # these are no records
  run, place = tmp_path / 'run', tmp_path / 'results' / 'run'
  (run / 'records').mkdir(parents=True)
  (run / 'records' / 'a.json').write_text('1')
  (run / 'config.json').write_text(json.dumps(tiny.config(seed=1).to_dict()))
  cell_records.record(run, place)
  (run / 'records' / 'a.json').write_text('2')

  def full():
    with cell_records.replacing(run, place):
      raise OSError(28, 'No space left on device')
  with pytest.raises(OSError, match='No space left'):
    full()
  assert (place / 'records' / 'a.json').read_text() == '1'
  cell_records.record(run, place)
  assert (place / 'records' / 'a.json').read_text() == '2'
  assert sorted(path.name for path in place.parent.iterdir()) == ['run']
  (run / 'config.json').write_text(json.dumps(tiny.config(seed=2).to_dict()))
  with pytest.raises(ValueError, match='holds the record of another config; move it away'):
    cell_records.record(run, place)
  (place / 'config.json').unlink()   # of which config these records are nobody knows
  with pytest.raises(ValueError, match='of a config that nobody knows; move them away'):
    cell_records.record(run, place)
  assert (place / 'records' / 'a.json').read_text() == '2'
