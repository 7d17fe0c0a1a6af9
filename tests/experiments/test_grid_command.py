"""The flags of commands: which cells a share has, the size, what a dry run lists, what is left."""
import json
import types

import pytest

from experiments import (
  alternatives,
  cells,
  command,
  estimate,
  grid,
  grid_command,
  intrinsic_dimension,
  mechanism,
  sensitivity,
  synthetic,
  uci,
)
from mollification.training import preemption, workdir


class _Flags(types.SimpleNamespace):
  """Those of a command, whose default size is the paper's."""

  def __getitem__(self, name):
    return types.SimpleNamespace(present=False, default='paper')


@pytest.fixture
def flags(monkeypatch):
  own = _Flags(cells=[], shard='1/1', scale='paper', smoke=False, seeds=2, workers=1, record=False,
               dry_run=False, accelerator=None, utilisation=.3, debug=False, data_dir='', fresh=2)
  for module in (command, grid_command, uci, synthetic, mechanism, alternatives, sensitivity,
                 intrinsic_dimension):
    monkeypatch.setattr(module, 'FLAGS', own)
  return own


@pytest.mark.parametrize('given', ['', ',', ' , '])
def test_names_that_are_none_are_not_all_of_them(given):
  """As of a variable that the shell does not know: all cells may be days."""
  with pytest.raises(ValueError, match='names none'):
    command._Names().parse(given)
  assert command._Names().parse('a,b') == ['a', 'b']


def test_shares_are_all_of_what_is_asked_for_and_no_cell_is_in_two(flags):
  found = []
  for i in range(1, 4):
    flags.shard = f'{i}/3'
    found += command.chosen_cells(uci.known(), uci.names())
  assert sorted(found) == sorted(uci.names())
  flags.cells = ['power_maf', 'redwine_glow']
  shares = []
  for flags.shard in ('1/2', '2/2'):
    shares.append(command.chosen_cells(uci.known(), uci.names()))
  assert sorted(shares) == [['power_maf'], ['redwine_glow']]
  flags.shard = '3/3'
  with pytest.raises(ValueError, match='--shard=3/3 has none of 2 cells; there are as many shares'):
    command.chosen_cells(uci.known())
  flags.cells, flags.shard = ['redwine_vae'], '1/1'
  with pytest.raises(ValueError, match="no cell 'redwine_vae'; known: redwine_maf, "):
    command.chosen_cells(uci.known())


def test_the_size_smoke_is_the_usual_one_with_smoke(flags):
  command.settle_scale()
  assert not flags.smoke
  flags.scale = 'smoke'
  command.settle_scale()
  assert (flags.scale, flags.smoke) == ('paper', True)


@pytest.mark.parametrize('module', [
  uci, synthetic, mechanism, alternatives, sensitivity, intrinsic_dimension])
def test_a_dry_run_trains_and_reports_nothing(module, flags, monkeypatch, tmp_path):
  listed = []
  flags.dry_run = True
  monkeypatch.setattr(grid_command, 'list_cells', lambda todo, *_: listed.extend(todo))
  for name in 'train', 'record':
    monkeypatch.setattr(grid_command, name, None)
  module.run(tmp_path)
  assert listed
  assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_cells_their_states_and_what_they_take(flags, monkeypatch, tmp_path,
                                                               capsys):
  flags.dry_run = True
  monkeypatch.setattr(estimate, 'of_config', lambda config, passes: estimate.Cost(
    2 * 10**6, 5e8, 3e7, config.total_steps))
  todo = [uci.cell(tmp_path, name, 2, '') for name in ('redwine_maf', 'redwine_glow')]
  begun, results = todo[0], tmp_path / 'results'
  updates = begun.config.total_steps
  (begun.folder / 'checkpoints' / '15').mkdir(parents=True)   # of 30 evaluations
  (begun.folder / 'config.json').write_text(json.dumps(begun.claimed()))
  (results / 'redwine_glow').mkdir(parents=True)
  (results / 'redwine_glow' / 'time.json').write_text('{"seconds": 700, "core_seconds": 720}')
  assert grid_command.run(todo, tmp_path, results) is None
  first, second, total, files = capsys.readouterr().out.splitlines()
  hours = 4 * 5e8 * updates / (.3 * .1e12) / 3600
  said = f'4 runs of 2 M parameters, 0.5 GFLOP an update, 0.03 GB each, {hours:.2g} h'
  assert first == f'redwine_maf: {updates // 2:,} of {updates:,} updates; {said}'
  assert second == f'redwine_glow: missing; {said} (recorded: 0.2 h of a core)'
  assert total.startswith(f'2 cells, {1.5 * hours:.2g} h left on one core (0.1 TFLOP/s at 30%); ')
  assert files.startswith('Before they can begin: redwine needs the folder of redwine.npy')
  flags.record = True
  with pytest.raises(ValueError, match='--record is for whole runs; leave --dry_run out'):
    grid_command.run(todo, tmp_path, results)


def test_a_cell_that_another_process_is_at_is_left_to_it_and_the_others_are_done(
    flags, monkeypatch, tmp_path, capsys):
  """The command says so by its status, and reports nothing of a table that is not whole."""
  made = [synthetic.cell(tmp_path, name, 2, smoke=True)
          for name in ('two_gaussians', 'eight_gaussians')]
  begun = []

  def train(cell):
    with workdir.lock(cell.folder):
      begun.append(cell.label)
  monkeypatch.setattr(grid, 'train', train)
  monkeypatch.setattr(cells, 'run', lambda todo, work, **_: ((own, work(own)) for own in todo))
  with workdir.lock(made[0].folder), pytest.raises(SystemExit) as left:
    grid_command.run(made, tmp_path, tmp_path)
  assert left.value.code == preemption.EXIT_STATUS
  assert begun == ['eight_gaussians']
  assert 'two_gaussians: left to the process that is at it\n' in capsys.readouterr().out


def test_records_of_another_config_end_a_command_before_anything_is_trained(
    flags, monkeypatch, tmp_path):
  monkeypatch.setattr(cells, 'run', lambda *_, **options: pytest.fail('it was trained'))
  cell = synthetic.cell(tmp_path, 'two_gaussians', 2, smoke=True)
  (cell.folder / 'vanilla/7/records').mkdir(parents=True)
  with pytest.raises(ValueError, match='holds vanilla/7, which is no run of this cell'):
    grid_command.run([cell], tmp_path, tmp_path)


def test_a_cell_that_is_done_by_now_is_not_trained_again(monkeypatch, tmp_path):
  """Another machine has done it since this one looked."""
  cell = synthetic.cell(tmp_path, 'two_gaussians', 2, smoke=True)
  monkeypatch.setattr(grid, 'missing', lambda cell: False)
  assert grid.train(cell) is None
  assert not cell.folder.exists()
