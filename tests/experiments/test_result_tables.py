"""Every committed table.csv is what the records beside it give today."""
import csv
import importlib
import pathlib

import pytest

from experiments import (
  comparison,
  grid,
  image_cells,
  image_command,
  image_table,
  quickstart,
  report,
  table_two_step,
)

_SCALES = [(table, scale) for table, scales in image_cells.TABLES.items() for scale in scales
           if scale != 'paper']


def _read(path):
  with pathlib.Path(path).open(newline='') as file:
    return list(csv.reader(file))


def _assert_equal(path, committed):
  """Text to the letter, figures to what sums in another order round to."""
  found, wanted = _read(path), _read(committed)
  assert [len(row) for row in found] == [len(row) for row in wanted]
  for own, old in zip(found, wanted):
    for ours, theirs in zip(own, old):
      try:
        assert float(ours) == pytest.approx(float(theirs), rel=1e-6, abs=1e-9, nan_ok=True), old
      except ValueError:
        assert ours == theirs


@pytest.mark.parametrize('name', ['alternatives', 'sensitivity', 'mechanism',
                                  'intrinsic_dimension'])
def test_tables_of_grids(name, tmp_path, monkeypatch):
  module = importlib.import_module(f'experiments.{name}_table')
  folder, write = report.RESULTS / name, comparison.write_csv
  known = (module.recorded(folder) if name == 'alternatives'
           else grid.recorded(folder, module.CELLS))
  monkeypatch.setattr(module, 'draw', lambda *args: None)
  monkeypatch.setattr(comparison, 'write_csv', lambda path, *args: write(
    tmp_path / pathlib.Path(path).name, *args))
  module.report(folder, known)
  _assert_equal(tmp_path / 'table.csv', folder / 'table.csv')


def test_the_uci_table(tmp_path, monkeypatch):
  from experiments import uci, uci_table
  write = comparison.write_csv
  monkeypatch.setattr(uci_table, 'draw', lambda *args: None)
  monkeypatch.setattr(comparison, 'write_csv', lambda path, *args: write(
    tmp_path / 'table.csv', *args))
  uci.report(uci.RESULTS)
  _assert_equal(tmp_path / 'table.csv', uci.RESULTS / 'table.csv')


def test_the_table_of_the_quickstart(tmp_path):
  cells = [cell for cell, _ in comparison.read(quickstart.RESULTS)]
  quickstart._write_csv(tmp_path / 'table.csv', comparison.compare(cells))
  _assert_equal(tmp_path / 'table.csv', quickstart.RESULTS / 'table.csv')


@pytest.mark.parametrize('table, scale', _SCALES)
def test_tables_of_images(table, scale, tmp_path):
  image_table.write_csv(tmp_path / 'table.csv',
                        image_table.rows_of(image_command.RESULTS, table, scale))
  _assert_equal(tmp_path / 'table.csv', image_command.RESULTS / scale / f'{table}.csv')


def test_the_table_of_two_steps(tmp_path):
  image_table.write_csv(tmp_path / 'table.csv',
                        table_two_step.rows_of(image_command.RESULTS, 'cpu'))
  _assert_equal(tmp_path / 'table.csv', image_command.RESULTS / 'cpu' / 'table_two_step.csv')
