"""The cells of the UCI experiment: the paper's nine by default, those of large tables by name."""
import json
import math
import pathlib
import subprocess
import sys

import pytest

from configs import uci as protocol
from experiments import uci
from mollification.data import density_tables

ROOT = pathlib.Path(__file__).parents[2]
UCI = ROOT.parent / 'shared/data/uci'


def test_the_default_is_the_nine_of_the_paper(tmp_path):
  assert len(uci.names()) == 9
  assert {name.split('_')[0] for name in uci.names()} == set(uci.TABLES)
  assert set(uci.LARGE) == set(density_tables.LOADERS)
  with pytest.raises(ValueError, match=r"no cell 'power_vae'; known: redwine_maf, .*power_maf"):
    uci.cell(tmp_path, 'power_vae', 2, 'data')


@pytest.mark.parametrize('name', ['power_maf', 'bsds300_glow', 'miniboone_realnvp'])
def test_a_large_table_is_a_cell_where_it_is_named(tmp_path, name):
  assert name not in uci.names()
  cell = uci.cell(tmp_path, name, 2, 'data')
  config = cell.runs['mollified', 1]
  assert (config.data.name, config.data.data_dir) == (name.split('_')[0], 'data')
  assert config.total_steps == 150 * config.steps_per_call
  assert config.eval.refresh_examples == config.eval.refresh_batch_size <= 30_000
  small = uci.cell(tmp_path, name, 2, 'data', smoke=True).runs['mollified', 1]
  assert (small.total_steps, small.eval.every, small.steps_per_call) == (100, 50, 50)


def test_an_epoch_of_a_config_is_one_of_its_data():
  sizes = {name: next(iter(files.values()))[0] for name, files in density_tables.SHAPES.items()}
  for name, (rows, steps) in protocol._TABLES.items():
    assert steps == math.ceil(rows / 100)
    if name in ('power', 'gas', 'miniboone'):
      held_in = sizes[name] - sizes[name] // 10
      assert rows == held_in - held_in // 10
    elif name == 'hepmass':
      assert rows == sizes[name] - sizes[name] // 10
    elif name == 'bsds300':
      assert rows == sizes[name]


@pytest.mark.slow
def test_the_whole_command_runs_in_small(tmp_path):
  """All nine cells, both arms; how long it takes is the bench's matter."""
  if not UCI.is_dir():
    pytest.skip(f'no UCI tables in {UCI}')
  done = subprocess.run([sys.executable, '-m', 'experiments.uci', '--smoke', f'--data_dir={UCI}',
                         f'--workdir={tmp_path}'], cwd=ROOT, capture_output=True, text=True,
                        check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  assert len(list(tmp_path.glob('*/*/*/records'))) == 9 * 2 * 2
  table = (tmp_path / 'table.csv').read_text().splitlines()
  assert len(table) == 1 + 9 * 2 * 3
  clock = json.loads((tmp_path / 'clock.json').read_text())
  assert clock['cells'] == sorted(uci.names())
