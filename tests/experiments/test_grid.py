"""Grids: records of another config are refused, and records say which parameters they are of."""
import json

import numpy as np
import pytest

from experiments import alternatives, grid
from mollification.data.dataset import Split
from mollification.evaluation import records
from mollification.training import workdir


class _Data:
  """What `grid` writes of a data set into a record."""
  name, test = 'two_gaussians', Split('test', np.zeros((5, 2), np.float32))


def _config(arm='vanilla'):
  return alternatives.config_of('two_gaussians', arm, 0, smoke=True)


def _written(folder, config, arm='vanilla'):
  """A cell with the records of its one run, as training leaves them."""
  curves = {name: np.arange(2.) for name in ('test', 'test_sem', 'validation', 'skipped', 'mmd2')}
  grid._write(folder / arm / '0', config, _Data, curves, {}, 1.)
  return grid.Cell('cell', folder, {(arm, 0): config})


def test_a_cell_with_all_its_records_lacks_none_and_one_without_does(tmp_path):
  cell = _written(tmp_path, _config())
  assert not grid.missing(cell)
  next((tmp_path / 'vanilla/0/records').iterdir()).unlink()
  assert grid.missing(cell)


def test_records_of_another_config_are_refused(tmp_path):
  _written(tmp_path, _config())
  other = _config()
  other.optimizer.learning_rate = .5
  with pytest.raises(ValueError, match=r'vanilla/0/records holds a log_likelihood\w* of another '
                                       r'config \(\w{8}, this one is \w{8}\); move it away'):
    grid.missing(grid.Cell('cell', tmp_path, {('vanilla', 0): other}))


def test_a_cell_begun_with_another_config_is_refused_before_its_data_are_loaded(tmp_path):
  config, other = _config(), _config()
  other.optimizer.learning_rate, other.data.name = .5, 'redwine'   # of which there is no file
  identity = {'vanilla 0': workdir.identity(config.to_dict())}
  workdir.claim(tmp_path, identity, {})
  with pytest.raises(ValueError, match=r'holds another run: vanilla 0 was .*; choose another'):
    grid.train(grid.Cell('cell', tmp_path, {('vanilla', 0): other}))


def test_what_is_recorded_is_replaced_by_the_same_runs_alone(tmp_path):
  """Fewer of them, or another config, leave the record as it is, those of other cells too."""
  results = tmp_path / 'results'
  cell = _written(tmp_path / 'runs', _config())
  grid.record([cell], results)
  before = sorted(results.rglob('*.json'))
  grid.record([cell], results)
  assert len(before) == 3
  assert sorted(results.rglob('*.json')) == before
  other = _config()
  other.optimizer.learning_rate = .5
  first = grid.Cell('first', cell.folder, cell.runs)
  for folder, runs, found in (
      ('none', {}, r'has a run vanilla/0, which \S+none has not; give as many --seeds'),
      ('other', {('vanilla', 0): other}, r'/vanilla/0 is the record of another config \(\w{8}')):
    if runs:
      _written(tmp_path / folder, other)
    with pytest.raises(ValueError, match=found):
      grid.record([first, grid.Cell('cell', tmp_path / folder, runs)], results)
    assert sorted(results.rglob('*.json')) == before


@pytest.mark.parametrize('taken, whole', [({'seconds': 3, 'core_seconds': 2}, True), (None, False)])
def test_the_clock_of_a_command_is_kept_where_it_trained_all_in_one_go(
    tmp_path, monkeypatch, taken, whole):
  made = {name: grid.Cell(name, tmp_path / name, {('vanilla', 0): _config()}) for name in 'ba'}
  for cell in made.values():
    cell.folder.mkdir()
  outcomes = zip(made.values(), ({'seconds': 4, 'core_seconds': 4}, taken))
  monkeypatch.setattr(grid.cells, 'run', lambda *args, **options: outcomes)
  clock = iter([10., 12., 15., 20.4])
  monkeypatch.setattr(grid.time, 'monotonic', lambda: next(clock))
  grid.run(list(made.values()), tmp_path, 2)
  assert (tmp_path / 'b/time.json').read_text() == '{"seconds": 4, "core_seconds": 4}\n'
  found = sorted(path.name for path in tmp_path.glob('*.json'))
  assert found == ['clock.json'] * whole
  if whole:
    assert json.loads((tmp_path / 'clock.json').read_text()) == {
      'cells': ['a', 'b'], 'workers': 2, 'seconds': 10, 'core_seconds': 6}


def test_records_say_whether_the_parameters_are_an_average(tmp_path):
  for arm, params in (('vanilla', 'raw'), ('ema_decay_0.99', 'ema')):
    _written(tmp_path, _config(arm), arm)
    assert {r.params for r in records.read_all(tmp_path / arm / '0/records')} == {params}
