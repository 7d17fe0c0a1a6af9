"""Grids: records of another config are refused, and records say which parameters they are of."""
import json
import types

import numpy as np
import pytest

from experiments import (
  alternatives,
  alternatives_table,
  command,
  grid,
  grid_command,
  intrinsic_dimension,
  intrinsic_dimension_table,
  mechanism,
  mechanism_table,
  sensitivity,
  synthetic,
  uci,
)
from mollification.data.dataset import Split
from mollification.evaluation import records
from mollification.training import workdir

DIR = '/data'   # no part of an identity


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


def test_a_run_that_is_none_of_the_cells_is_refused(tmp_path):
  """It would be tabulated with them."""
  cell = grid.Cell('cell', tmp_path, {('vanilla', 0): _config()})
  _written(tmp_path, _config())
  assert not grid.missing(cell)
  (tmp_path / 'vanilla/3/records').mkdir(parents=True)
  with pytest.raises(ValueError, match='holds vanilla/3, which is no run of this cell; give as'):
    grid.missing(cell)


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


@pytest.mark.parametrize('experiment, table, folders', [
  (mechanism, mechanism_table, lambda name: [name]),
  (intrinsic_dimension, intrinsic_dimension_table, lambda name: [name]),
  (alternatives, alternatives_table, alternatives.programs)])
def test_the_table_that_is_recorded_is_of_all_that_is(experiment, table, folders, tmp_path,
                                                      monkeypatch):
  """Also where one of its cells was trained alone; one's own table is of that."""
  known, shown = list(table.CELLS), []
  for name in known[:2]:
    for folder in folders(name):
      _written(tmp_path / folder, _config())
  monkeypatch.setattr(command, 'chosen_cells', lambda names: known[1:2])
  monkeypatch.setattr(grid_command, 'run', lambda cells, root, results: tmp_path)
  monkeypatch.setattr(table, 'report', lambda folder, names: shown.append(list(names)))
  for recording in (True, False):
    monkeypatch.setattr(experiment, 'FLAGS', types.SimpleNamespace(
      record=recording, smoke=True, seeds=2, data_dir=''))
    experiment.run(tmp_path)
  assert shown == [known[:2], known[1:2]]


def test_the_clock_of_another_command_or_of_fewer_cells_is_not_recorded(tmp_path):
  new, old = tmp_path / 'clock.json', tmp_path / 'results' / 'clock.json'
  clock = {'cells': ['a', 'b'], 'workers': 2, 'seconds': 1, 'core_seconds': 2}
  command.record_clock(new, old, ['a', 'b'])   # there is none
  new.write_text(json.dumps(clock))
  command.record_clock(new, old, ['a', 'c'])
  assert not old.exists()
  command.record_clock(new, old, ['c', 'b', 'a'])
  assert json.loads(old.read_text()) == clock
  new.write_text(json.dumps(clock | {'cells': ['a']}))   # what is there is of more
  command.record_clock(new, old, ['a'])
  assert json.loads(old.read_text()) == clock
  new.write_text(json.dumps(clock | {'cells': ['c', 'd']}))
  command.record_clock(new, old, ['c', 'd'])
  assert json.loads(old.read_text())['cells'] == ['c', 'd']
  assert [path.name for path in old.parent.iterdir()] == ['clock.json']


def test_records_say_whether_the_parameters_are_an_average(tmp_path):
  for arm, params in (('vanilla', 'raw'), ('ema_decay_0.99', 'ema')):
    _written(tmp_path, _config(arm), arm)
    assert {r.params for r in records.read_all(tmp_path / arm / '0/records')} == {params}


def test_of_a_cell_that_was_killed_as_it_wrote_nothing_counts(tmp_path):
  """Its first run has all records, its second none: no table has half of a cell."""
  arms = {arm: _config(arm) for arm in ('vanilla', 'mollified_half')}
  cell = grid.Cell('cell', tmp_path / 'cell', {(arm, 0): config for arm, config in arms.items()})
  cell.folder.mkdir()
  workdir.claim(cell.folder, cell.claimed(), {})
  _written(cell.folder, arms['vanilla'])
  assert grid.read(cell.folder) == {}
  assert grid.recorded(tmp_path, ['cell', 'other']) == []
  _written(cell.folder, arms['mollified_half'], 'mollified_half')
  assert set(grid.read(cell.folder)) == {(arm, 0) for arm in arms}
  assert grid.recorded(tmp_path, ['cell', 'other']) == ['cell']


@pytest.mark.parametrize('damaged', ['{', '{"seconds": 3}'])
def test_damaged_seconds_of_a_cell_are_named(tmp_path, damaged):
  assert grid.core_seconds(tmp_path) is None
  (tmp_path / 'time.json').write_text(damaged)
  with pytest.raises(ValueError, match=rf'{tmp_path}/time.json is damaged \(.*; remove it'):
    grid.core_seconds(tmp_path)


def test_two_records_of_one_metric_are_refused(tmp_path):
  _written(tmp_path, _config())
  path = next((tmp_path / 'vanilla/0/records').glob('log_likelihood-*'))
  assert len(grid.read(tmp_path)) == 1
  path.with_name('log_likelihood-0.json').write_bytes(path.read_bytes())
  with pytest.raises(ValueError, match='vanilla/0/records holds more than one record of a metric'):
    grid.read(tmp_path)


def test_all_tables_are_looked_for_before_anything_is_trained(tmp_path, monkeypatch):
  monkeypatch.setattr(grid.cells, 'run', lambda *args, **options: pytest.fail('it was trained'))
  (tmp_path / 'redwine.npy').touch()
  (tmp_path / 'power').mkdir()   # its file is what is read
  cells = lambda folder: [uci.cell(tmp_path / 'runs', name, 2, folder) for name in (
    'redwine_maf', 'parkinsons_maf', 'parkinsons_glow', 'power_maf')]
  with pytest.raises(FileNotFoundError, match=(
      rf'^neither parkinsons\.npy nor parkinsons_updrs\.data in {tmp_path}; put one there '
      rf'\(https://archive.*/parkinsons_updrs\.data\); no power/data\.npy in {tmp_path}; .*zenodo.*'
      r'Name the folder with --data_dir=DIR; nothing is trained before')):
    grid_command.train(cells(str(tmp_path)), tmp_path)
  with pytest.raises(FileNotFoundError, match=(
      r'redwine needs the folder of redwine\.npy or winequality-red\.csv \(https://archive.*'
      r'power needs the folder `data` of data\.tar\.gz of https://zenodo.*--data_dir=DIR')):
    grid_command.train(cells(''), tmp_path)


def test_nothing_is_asked_of_data_that_need_no_file():
  grid.check_files([grid.Cell('cell', None, {('vanilla', 0): _config()})])


def test_smoke_runs_have_a_folder_of_their_own(monkeypatch):
  for smoke, given, place, folder in (
      (True, False, 'runs/uci', 'runs/uci_smoke'), (False, False, 'runs/uci', 'runs/uci'),
      (True, True, 'mine', 'mine'), (True, False, 'runs/images', 'runs/images')):
    values = {'workdir': types.SimpleNamespace(present=given)}
    fake = types.SimpleNamespace(smoke=smoke, workdir=place)
    monkeypatch.setattr(command, 'FLAGS', type('Flags', (), {
      '__getitem__': lambda self, name, values=values: values[name], **vars(fake)})())
    assert str(command._folder()) == folder


@pytest.mark.slow
def test_committed_records_are_of_todays_configs():
  """Of all six experiments: else a figure on the page is of other runs than the command's."""
  made = {'uci': (uci, lambda name, arm, seed: uci._config(name, uci.ARMS[arm], seed, DIR, False)),
          'synthetic': (synthetic, lambda name, arm, seed: synthetic.config_of(
            name, synthetic.ARMS[arm], seed)),
          'sensitivity': (sensitivity, lambda name, arm, seed: sensitivity.config_of(
            name.removesuffix('_fresh'), arm, seed, DIR)),
          'mechanism': (mechanism, mechanism.config_of),
          'intrinsic_dimension': (intrinsic_dimension, intrinsic_dimension.config_of),
          'alternatives': (alternatives, lambda name, arm, seed: alternatives.config_of(
            next(data for data in alternatives.DATA if name.startswith(data)), arm, seed, DIR))}
  count = 0
  for experiment, config_of in made.values():
    for folder in sorted(experiment.RESULTS.glob('*/*/*/records')):
      name, arm, seed = folder.parts[-4:-1]
      wanted = workdir.identity(config_of(name, arm, int(seed)).to_dict())
      assert {r.config_sha256 for r in records.read_all(folder)} == {wanted}, folder
      count += 1
  assert count > 500
