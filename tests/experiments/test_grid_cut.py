"""Grids end with 75 after a signal; one tiny cell from training to its table, whole and cut."""
import json
import os
import signal
import types

import pytest

from experiments import command, comparison, grid, grid_command, mechanism
from mollification import metrics
from mollification.training import preemption


def _cell(folder, **options):
  """Two arms of one seed, as the command makes them but for fewer points and updates."""
  arms = {arm: mechanism.config_of('two_gaussians', arm, 0, smoke=True)
          for arm in ('vanilla', 'mollified')}
  for config in arms.values():
    config.total_steps, config.model.num_blocks, config.model.hidden = 20, 1, 4
    config.data.num_train = config.data.num_validation = config.data.num_test = 128
    config.batch_size, config.checkpoint.every = 32, config.eval.every   # an evaluation a call
  return grid.Cell('cell', folder, {(arm, 0): config for arm, config in arms.items()}, **options)


def test_a_command_exits_with_75_after_a_signal(tmp_path, monkeypatch, capsys):
  cell = grid.Cell('cell', tmp_path / 'cell', {
    ('vanilla', 0): mechanism.config_of('two_gaussians', 'vanilla', 0, smoke=True)})

  def stopped(*args, **options):
    raise grid.cells.Stopped
  monkeypatch.setattr(grid.cells, 'run', stopped)
  monkeypatch.setattr(command, 'FLAGS', types.SimpleNamespace(workers=1, debug=False))
  with pytest.raises(SystemExit) as left:
    grid_command.train([cell], tmp_path)
  assert left.value.code == preemption.EXIT_STATUS
  assert 'the same command goes on from here' in capsys.readouterr().out
  assert not (tmp_path / 'clock.json').exists()


def test_a_tiny_cell_from_training_to_its_table(tmp_path):
  cell = _cell(tmp_path / 'cell', keep=('loss',))
  assert grid.missing(cell)
  taken = grid.train(cell)
  assert json.loads((cell.folder / 'time.json').read_text()) == taken._asdict()
  assert not grid.missing(cell)
  found = grid.read(cell.folder)
  assert set(found) == {('vanilla', 0), ('mollified', 0)}
  for run in found.values():
    assert run['last'].step == 20
    assert len(run['last'].extra['curves']['test']) == 2
    assert run['oracle'].value >= run['last'].value
  row, = comparison.compare([figure for figure, _ in comparison.read(tmp_path)
                             if figure.metric == 'log_likelihood'])
  assert row.vanilla.mean == found['vanilla', 0]['last'].value
  assert row.difference.count == 1
  # What is kept is looked for, too, and is made again from what is saved.
  (cell.folder / 'vanilla/0/observed.npz').unlink()
  assert grid.missing(cell)
  assert grid.train(cell) is None
  assert not grid.missing(cell)


def test_a_cell_that_a_signal_cuts_goes_on_to_the_same_records(tmp_path, monkeypatch):
  """SIGTERM after the first of two evaluations: what was trained is saved, and nothing recorded."""
  whole, cut, looks = _cell(tmp_path / 'whole'), _cell(tmp_path / 'cut'), []
  assert grid.train(whole) is not None
  show = metrics.Progress.show

  def shown(self, step, *args, **options):
    show(self, step, *args, **options)
    looks.append(step)
    if looks == [1]:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(metrics.Progress, 'show', shown)
  assert grid.train(cut) is None
  assert looks == [1]
  assert not (cut.folder / 'time.json').exists()
  assert grid.missing(cut)
  assert grid.read(cut.folder) == {}
  assert grid.train(cut) is None   # it was begun before: nobody knows its seconds
  assert looks == [1, 2]           # it went on
  assert not (cut.folder / 'time.json').exists()
  found, wanted = grid.read(cut.folder), grid.read(whole.folder)
  assert found.keys() == wanted.keys()
  for run, records in wanted.items():
    for selection, record in records.items():
      own = found[run][selection]
      assert (own.value, own.standard_error, own.step) == (
        record.value, record.standard_error, record.step)
      assert own.extra == record.extra
