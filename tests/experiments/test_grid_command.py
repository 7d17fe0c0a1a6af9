"""The flags of commands: which cells a share has, the size, what a dry run lists, what is left."""
import json
import os
import types

import jax
import pytest
from absl import logging

from experiments import (
  alternatives,
  cells,
  command,
  dry_run,
  estimate,
  grid,
  grid_command,
  intrinsic_dimension,
  mechanism,
  sensitivity,
  synthetic,
  uci,
)
from mollification import build
from mollification.training import preemption, workdir


class _Flags(types.SimpleNamespace):
  """Those of a command, whose default size is the paper's."""

  def __getitem__(self, name):
    return types.SimpleNamespace(present=False, default='paper')


@pytest.fixture
def flags(monkeypatch):
  own = _Flags(cells=[], shard='1/1', scale='paper', smoke=False, seeds=2, workers=1, record=False,
               dry_run=False, accelerator=None, utilisation=.3, debug=False, data_dir='', fresh=2)
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')   # as `on_cores` would leave it
  verbosity = logging.get_verbosity()
  for module in (command, grid_command, uci, synthetic, mechanism, alternatives, sensitivity,
                 intrinsic_dimension):
    monkeypatch.setattr(module, 'FLAGS', own)
  yield own
  logging.set_verbosity(verbosity)


@pytest.mark.parametrize('given', ['', ',', ' , '])
def test_names_that_are_none_are_not_all_of_them(given):
  """As of a variable that the shell does not know: all cells may be days."""
  with pytest.raises(ValueError, match='names none'):
    command._Names().parse(given)
  assert command._Names().parse('a,b,a') == ['a', 'b']   # of one folder there is one cell


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
  with pytest.raises(ValueError, match='--shard=3/3 has none of the 2 that are asked for'):
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
    2 * 10**6, 5e8, 3e7, config.total_steps, xla_flops=2e8))
  names = 'redwine_maf', 'redwine_glow', 'whitewine_maf', 'whitewine_glow'
  todo, results = [uci.cell(tmp_path, name, 2, '') for name in names], tmp_path / 'results'
  begun, _, refused, done = todo
  updates = begun.config.total_steps
  (begun.folder / 'checkpoints' / '15').mkdir(parents=True)   # of 30 evaluations
  (begun.folder / 'config.json').write_text(json.dumps(begun.claimed()))
  refused.folder.mkdir()
  (refused.folder / 'config.json').write_text('{')
  missing = grid.missing
  monkeypatch.setattr(grid, 'missing', lambda cell: cell is not done and missing(cell))
  (results / 'redwine_glow').mkdir(parents=True)
  (results / 'redwine_glow' / 'time.json').write_text('{"seconds": 700, "core_seconds": 720}')
  assert grid_command.run(todo, tmp_path, results) is None
  *lines, total, files = capsys.readouterr().out.splitlines()
  hours = 4 * 5e8 * updates / (.3 * .1e12) / 3600
  said = ('4 runs, each 2 M parameters, 0.5 GFLOP an update (XLA counts 0.2, the body of a loop '
          f'once), 0.03 GB; {hours:.2g} h')
  assert lines[0] == f'redwine_maf: {updates // 2:,} of {updates:,} updates; {said}'
  assert lines[1] == f'redwine_glow: missing; {said} (recorded: 0 runs in 0.2 h of a core)'
  assert lines[2].startswith('whitewine_maf: to be refused: ')
  assert f'{refused.folder}/config.json is not JSON' in lines[2]
  assert lines[3].startswith('whitewine_glow: done; 4 runs')
  left = 1.5 * hours + hours * refused.config.total_steps / updates   # not of the one that is done
  assert total.startswith(f'4 cells, {left:.2g} h left on one core (0.1 TFLOP/s at 30%); ')
  assert files.startswith('Before they can begin: redwine needs the folder of redwine.npy')
  flags.record = True
  with pytest.raises(ValueError, match='--record is for whole runs; leave --dry_run out'):
    grid_command.run(todo, tmp_path, results)


def test_what_runs_share_is_counted_once(monkeypatch, tmp_path):
  counted = []
  monkeypatch.setattr(estimate, 'of_config', lambda config, passes: (
    counted.append(config), estimate.Cost(1, 1., 1., 10))[1])
  todo = [intrinsic_dimension.cell(tmp_path, name, range(2)) for name in ('plane_1', 'curved_4')]
  todo += [synthetic.cell(tmp_path, 'two_gaussians', 2)]
  assert len(list(dry_run.listing_of_sweeps(todo, dry_run.Device('core', .3), tmp_path))) == 4
  assert len(counted) == 2


@pytest.mark.slow
@pytest.mark.parametrize('module', [
  uci, synthetic, mechanism, alternatives, sensitivity, intrinsic_dimension])
def test_the_programs_of_every_sweep_can_be_counted(module, flags, tmp_path, capsys):
  """Those that the command would run, small; what a dry run lists is of their own shapes."""
  flags.dry_run = flags.smoke = True
  module.run(tmp_path)
  lines = [line for line in capsys.readouterr().out.splitlines() if ' runs, each ' in line]
  assert lines
  assert all('; 4 runs' in line or module is not synthetic for line in lines)
  assert not any(' 0 GFLOP' in line or 'nan' in line for line in lines)
  assert list(tmp_path.iterdir()) == []   # it writes nothing


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
  """Another machine has done it since this one looked, up to when this one has the lock."""
  cell, held = synthetic.cell(tmp_path, 'two_gaussians', 2, smoke=True), []
  monkeypatch.setattr(grid, 'missing', lambda own: held.append(workdir.in_use(own.folder)))
  monkeypatch.setattr(build, 'load_data', None)
  assert grid.train(cell) is None
  assert held == [True]


def test_what_is_done_is_recorded_where_another_cell_fails(flags, monkeypatch, tmp_path):
  flags.record = True
  made = [synthetic.cell(tmp_path, name, 2) for name in ('two_gaussians', 'eight_gaussians')]
  done, recorded = [], []
  monkeypatch.setattr(grid, 'missing', lambda cell: cell.label not in done)
  monkeypatch.setattr(grid, 'train', lambda cell: 1 / 0 if done else done.append(cell.label))
  monkeypatch.setattr(grid, 'record', lambda cells, results: recorded.extend(cells))
  monkeypatch.setattr(cells, 'run', lambda todo, work, **_: ((own, work(own)) for own in todo))
  with pytest.raises(SystemExit) as left:
    grid_command.run(made, tmp_path, tmp_path / 'results')
  assert left.value.code == 1
  assert recorded == made[:1]


def test_a_report_is_of_whole_cells(flags, tmp_path):
  """The folder of one that another machine is at is there, and so may be some of its records."""
  cell = synthetic.cell(tmp_path, 'two_gaussians', 2, smoke=True)
  with workdir.lock(cell.folder):
    synthetic.report(tmp_path)
  assert not (tmp_path / 'two_gaussians.png').exists()


def test_a_grid_of_the_cores_takes_them(monkeypatch):
  """Also where jax was imported before; what the user says stands."""
  said = []
  monkeypatch.setattr(jax.config, 'update', lambda *option: said.append(option))
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  command.on_cores()
  assert said == []
  monkeypatch.delenv('JAX_PLATFORMS')
  command.on_cores()
  assert (os.environ['JAX_PLATFORMS'], said) == ('cpu', [('jax_platforms', 'cpu')])
