"""The tables of images: every run once over all shards, from records, and what a run will take."""
import contextlib
import dataclasses
import itertools
import json
import os
import re
import types

import jax
import pytest
from ml_collections import ConfigDict

from experiments import (
  cells,
  command,
  comparison,
  image_cells,
  image_command,
  image_runs,
  image_table,
)
from mollification import build, measure, parallel
from mollification.evaluation import records
from mollification.training import workdir
from tests.experiments import recorded
from tests.training import tiny

GRIDS = [(table, scale) for table, scales in image_cells.TABLES.items() for scale in scales]


@pytest.mark.parametrize('table, scale', GRIDS)
@pytest.mark.parametrize('n', [1, 3, 4])
def test_each_run_is_in_one_shard(table, scale, n):
  names = image_cells.names(table, scale)
  shards = [image_cells.chosen(names, [], f'{i}/{n}') for i in range(1, n + 1)]
  assert sorted(itertools.chain(*shards)) == sorted(set(names))
  assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_shard_for_each_model_has_runs_of_several():
  for i in range(1, 8):
    found = image_cells.chosen(image_cells.names('table1', 'paper'), [], f'{i}/7')
    assert len({name.split('/')[1] for name in found}) > 2


def test_more_seeds_than_a_table_has():
  names = image_cells.names('table1', 'paper', seeds=3)
  found = image_cells.chosen(names, ['cifar10/vae/blur'], '1/1')
  assert found == [f'cifar10/vae/blur/{seed}' for seed in range(3)]


def test_runs_of_the_paper_divide_over_the_devices_of_a_host(tmp_path):
  for table, scale in GRIDS:
    for name in image_cells.names(table, scale) if scale == 'paper' else ():
      config = image_cells.cell(table, scale, name, tmp_path).config
      for devices in (1, 2, 4, 8):
        parallel.check_batch_size(config.batch_size, devices)


def test_a_smoke_run_needs_no_weights_and_asks_for_no_device(tmp_path, monkeypatch):
  monkeypatch.setattr(build.jax, 'device_count', None)   # the workers' devices are none of its own
  cell = image_cells.cell('table1', 'paper', 'cifar10/vae/blur/0', tmp_path, smoke=True)
  assert (cell.more, cell.config.batch_size) == ((), 16)


@pytest.mark.parametrize('given', ['', 'cuda'])
def test_small_runs_take_the_cores_and_those_of_the_paper_one_process(monkeypatch, tmp_path, given):
  monkeypatch.setenv('JAX_PLATFORMS', given)
  if not given:
    monkeypatch.delenv('JAX_PLATFORMS')

  class Flags(types.SimpleNamespace):
    def __getitem__(self, name):
      return types.SimpleNamespace(present=False, default='cpu')

  flags = Flags(scale='cpu', smoke=False, record=False, workers=2)
  for module in (command, image_command):
    monkeypatch.setattr(module, 'FLAGS', flags)
  image_command.settle(tmp_path)
  assert (os.environ['JAX_PLATFORMS'], flags.workers) == (given or 'cpu', 2)
  monkeypatch.delenv('JAX_PLATFORMS')
  flags.scale = 'paper'
  image_command.settle(tmp_path)
  assert ('JAX_PLATFORMS' in os.environ, flags.workers) == (False, 1)
  flags.scale = 'smoke'
  command.settle_scale()
  assert (flags.scale, flags.smoke) == ('cpu', True)
  assert image_command.settle(tmp_path) == tmp_path / 'smoke'


def test_runs_are_chosen_by_the_parts_of_their_names():
  names = image_cells.names('table1', 'digits')
  found = image_cells.chosen(names, ['digits/vae', 'digits/glow/blur/'], '1/1')
  assert {name.rsplit('/', 1)[0] for name in found} == {
    'digits/vae/vanilla', 'digits/vae/gaussian', 'digits/vae/blur', 'digits/glow/blur'}
  with pytest.raises(ValueError, match="no run of this command starts with 'digits/va'"):
    image_cells.chosen(names, ['digits/va'], '1/1')
  for shard in ('0/2', '3/2', '1', 'a/b', '-1/2'):
    with pytest.raises(ValueError, match=f"must be i/n with i from 1 to n, got '{shard}'"):
      image_cells.chosen(names, [], shard)


@pytest.mark.parametrize('table, scale', GRIDS)
def test_arms_of_a_seed_differ_in_mollification_alone(table, scale, tmp_path):
  for dataset, grid in image_cells.TABLES[table][scale].items():
    for model in grid.models:
      found = {arm: image_cells.cell(table, scale, f'{dataset}/{model}/{arm}/0',
                                     tmp_path).config.to_dict() for arm in grid.arms}
      mollify = {arm: config.pop('mollify') for arm, config in found.items()}
      assert all(config == found['vanilla'] for config in found.values())
      assert mollify['vanilla']['fraction'] == 0.
      fractions = {own['fraction'] for arm, own in mollify.items() if arm != 'vanilla'}
      assert len(fractions) == 1
      assert 0 < fractions.pop() < 1
      options = {(own['name'], own['schedule']) for arm, own in mollify.items() if arm != 'vanilla'}
      assert len(options) == len(grid.arms) - 1


def test_a_run_is_the_same_in_every_table_that_names_it(tmp_path):
  """Its records count in all of them, and what was measured for one is there for the other."""
  seen = {}
  for table, scale in GRIDS:
    for name in image_cells.names(table, scale):
      cell = image_cells.cell(table, scale, name, tmp_path)
      other = seen.setdefault((scale, name), cell)
      assert other.config.to_dict() == cell.config.to_dict()
      assert dataclasses.replace(other, config=None) == dataclasses.replace(cell, config=None)
  assert len(seen) < sum(len(image_cells.names(table, scale)) for table, scale in GRIDS)


def test_a_run_that_is_done_is_known_without_its_data(tmp_path, monkeypatch):
  config = tiny.config(eval__every=0, checkpoint__every=0)
  cell = cells.Cell(config, tmp_path, ('nll', 'pr'), 'tiny')
  assert cells.state(cell) == 'missing'
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  (tmp_path / 'checkpoints' / '4').mkdir(parents=True)
  (tmp_path / 'checkpoints' / '9.orbax-checkpoint-tmp').mkdir()
  assert cells.state(cell) == '4 of 8 updates'
  (tmp_path / 'checkpoints' / '8').mkdir()
  assert cells.state(cell) == 'trained, not measured'
  monkeypatch.setattr(cells.Cell, 'is_measured', lambda cell: True)
  assert cells.state(cell) == 'done'
  monkeypatch.setattr(build, 'build', None)
  assert cells.train_and_measure(cell) is None
  other = cells.Cell(tiny.config(seed=5), tmp_path, ('nll',), 'tiny')
  assert not other.is_done()
  assert cells.state(other) == 'a run of another config is there, and would be refused'
  there = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
  with pytest.raises(ValueError, match='seed was 0, now 5'):   # before data are loaded
    cells.train_and_measure(other)
  assert there == {path: path.read_bytes() for path in there}


def test_a_record_of_another_config_is_one_cell_s_failure(tmp_path, monkeypatch, capsys):
  """A listing goes on, and so do the others."""
  for seed in (0, 1):
    recorded.run(tmp_path, arm='gaussian', seed=seed)
  own, other = (cells.Cell(ConfigDict(recorded.config('gaussian')),
                           tmp_path / 'gaussian' / str(seed), ('frechet',), f'tiny/{seed}')
                for seed in (0, 1))
  path = next((other.folder / 'records').glob('*.json'))
  path.write_text(path.read_text().replace(workdir.identity(other.claimed()), 64 * 'a'))
  assert cells.state(own) == 'done'
  strange = r'.*records holds a frechet of another config'
  assert re.match(f'to be refused: {strange}', cells.state(other))
  monkeypatch.setattr(command, 'FLAGS', types.SimpleNamespace(workers=1, debug=False))
  monkeypatch.setattr(cells, 'run', lambda todo, work, **_: ((cell, work(cell)) for cell in todo))
  failed, left = command.run_all([own, other], tmp_path)
  assert not left
  assert 'Traceback' not in capsys.readouterr().err
  command.FLAGS.debug = True
  assert command.run_all([own, other], tmp_path).failed == failed
  assert 'in check_config' in capsys.readouterr().err
  assert list(failed) == ['tiny/1']
  assert re.match(f'ValueError: {strange}', failed['tiny/1'])


def test_what_could_not_be_recorded_is_refused_before_it_is_trained(tmp_path, monkeypatch):
  cell = image_cells.cell('table1', 'digits', 'digits/vae/blur/0', tmp_path / 'runs')
  place = tmp_path / 'results' / 'digits' / 'digits' / 'vae' / 'blur' / '0'
  place.mkdir(parents=True)
  monkeypatch.setattr(image_command, 'RESULTS', tmp_path / 'results')
  monkeypatch.setattr(image_command, 'FLAGS', types.SimpleNamespace(record=True))
  image_command.check_recorded([cell], tmp_path / 'runs')
  (place / 'config.json').write_text(json.dumps(cell.config.to_dict() | {'seed': 1}))
  with pytest.raises(ValueError, match='0 holds the record of another config; move it away'):
    image_command.check_recorded([cell], tmp_path / 'runs')
  monkeypatch.setattr(image_command, 'FLAGS', types.SimpleNamespace(record=False))
  image_command.check_recorded([cell], tmp_path / 'runs')


def test_looks_that_a_new_run_would_lose_are_told_before_it_is_trained(tmp_path, monkeypatch):
  """A run of the recorded config in a new folder: training makes the records of its end alone."""
  own = cells.Cell(ConfigDict(recorded.config('vanilla')), tmp_path / 'runs' / 'vanilla' / '0',
                   ('frechet',), 'tiny/0')
  recorded.run(tmp_path / 'results', arm='vanilla', seed=0)
  monkeypatch.setattr(image_command, 'RESULTS', tmp_path / 'results')
  monkeypatch.setattr(image_command, 'FLAGS', types.SimpleNamespace(record=True))
  with pytest.raises(ValueError, match=r'has 1 records of earlier updates .* like frechet.*40\.json'
                     ', .*Leave --record out, give experiments.fig_fid_over_training'):
    image_command.check_recorded([own], tmp_path / 'runs')
  recorded.run(tmp_path / 'runs', arm='vanilla', seed=0)   # done, and looked at
  image_command.check_recorded([own], tmp_path / 'runs')


def test_a_row_for_each_arm_of_seeds_that_both_have():
  values = {('vanilla', 0): 5., ('vanilla', 1): 6., ('gaussian', 0): 4., ('gaussian', 1): 4.,
            ('blur', 1): 9.}
  found = [(comparison.Cell('vae', arm, seed, 'frechet', value),
            types.SimpleNamespace(extra={}, n=50))
           for (arm, seed), value in values.items()]
  rows = {(row.model, row.arm): row for row in image_table.rows([cell for cell, _ in found])}
  assert rows['vae', 'gaussian'].difference.mean == -1.5
  assert (rows['vae', 'blur'].difference.mean, rows['vae', 'blur'].vanilla.count) == (3., 1)
  assert next(comparison.lines(rows.values()))[0] == 'vae, gaussian'


def test_the_page_shows_vanilla_means_and_marks_what_is_decided():
  values = {'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)}
  found = [comparison.Cell('vae', arm, seed, 'frechet', value)
           for arm, own in values.items() for seed, value in enumerate(own)]
  found += [comparison.Cell('vae', arm, 0, 'recall', .5) for arm in ('vanilla', 'blur')]
  found += [comparison.Cell('vae', arm, 0, 'frechet@net', 2.) for arm in ('vanilla', 'blur')]
  assert image_table.as_markdown(image_table.rows(found)).splitlines() == [
    '| model | arm | Fréchet distance ↓ | recall ↑ |', '| --- | --- | --- | --- |',
    '| VAE | vanilla | 6.00 ± 0.58 | 0.5 |',
    '|  | gaussian | **-1.00 ± 0.25** |  |',
    '|  | blur | ~~+1.00 ± 0.25~~ | +0 (one seed) |', '', 'In the features of net:', '',
    '| model | arm | Fréchet distance ↓ |', '| --- | --- | --- |', '| VAE | vanilla | 2 |',
    '|  | blur | +0 (one seed) |']


def test_only_runs_that_reached_their_end_count(tmp_path):
  """One that is under way may have been measured at a checkpoint before its last."""
  place = tmp_path / 'vae' / 'vanilla' / '0'
  config = tiny.config(total_steps=80).to_dict()
  fields = dict(metric='frechet', standard_error=None, n=20, unit='1', params='raw', seed=0,
                reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'},
                config_sha256=workdir.identity(config), seconds=1.)
  records.write(records.Record(value=2., step=40, **fields), place / 'records')
  (place / 'config.json').write_text(json.dumps(config))
  assert comparison.read(tmp_path) == []
  records.write(records.Record(value=1., step=80, **fields), place / 'records')
  assert [cell.value for cell, _ in comparison.read(tmp_path)] == [1.]
  other = {**fields, 'metric': 'recall', 'config_sha256': 'another'}
  records.write(records.Record(value=1., step=80, **other), place / 'records')
  with pytest.raises(ValueError, match=r'holds a recall of another config than .*; move it away'):
    comparison.read(tmp_path)


def test_a_run_that_was_killed_while_it_was_measured_is_in_no_table(tmp_path):
  """It has a likelihood and no distance, which other runs of its data set have."""
  for seed, metrics_ in ((0, ('log_likelihood', 'frechet')), (1, ('log_likelihood',)),
                         (2, ('log_likelihood', 'frechet', 'fid'))):   # FID by hand: of no table
    place = tmp_path / 'digits' / 'digits' / 'vae' / 'vanilla' / str(seed)
    config = tiny.config(total_steps=80, seed=seed).to_dict()
    for metric in metrics_:
      records.write(records.Record(
        metric=metric, value=1., standard_error=None, n=20, unit='1', params='raw', step=80,
        seed=seed, reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'},
        config_sha256=workdir.identity(config), seconds=1.), place / 'records')
    (place / 'config.json').write_text(json.dumps(config))
  found = image_table.read(tmp_path, 'table1', 'digits')['digits']
  assert [(cell.seed, cell.metric) for cell, _ in found] == [
    (0, 'frechet'), (0, 'log_likelihood'), (2, 'fid'), (2, 'frechet'), (2, 'log_likelihood')]


def test_hours_of_a_table_by_hand(tmp_path):
  """Two runs of 1.0 h and 0.5 h, one that was cut (0.4 h of updates), one of another table."""
  def run(name, update, hours=None, **more):
    place = tmp_path / 'digits' / 'digits' / name
    place.mkdir(parents=True)
    (place / 'config.json').write_text(json.dumps(tiny.config(total_steps=100).to_dict()))
    (place / 'seconds.json').write_text(json.dumps(
      {'update': update, 'training': hours and 3600 * hours, 'measuring': 360., **more}))
    record = records.Record(
      metric='frechet', value=1., step=100, standard_error=None, n=20, unit='1', params='raw',
      seed=int(name[-1]), seconds=1., config_sha256=workdir.identity(
        workdir.read_config(place)),
      reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'})
    records.write(record, place / 'records')
  run('vae/vanilla/0', 28.8, .9, quiet_update=14.4, looking=72., core_seconds=3_000.4)   # .8 h
  run('vae/vanilla/1', 12.8, .4, core_seconds=2_400.)   # 0.4 h, at 12/11.25 of them
  run('vae/blur/0', 14.4)
  run('other/blur/0', 1., 2.)
  said = image_table.hours(tmp_path, 'table1', 'digits')
  # What training takes besides updates: 0.9 / 0.8 and 0.4 / 0.3556, both 1.125: 0.45 h of the cut.
  assert said == (
    '2 of 3 runs were timed from end to end, and took 1.50 hours of a core by the clock, which '
    'other work on the machine lengthened. 1 were cut and gone on with; with what they must have '
    'taken (their updates at their mean pace, and besides as much as other runs of their model) it '
    'is 2.05. Of two cores that is 1.02 hours each; at the pace of the quietest updates of those '
    'that were timed, 0.80. Not in it: 1 runs of other tables, 2.10 hours of a core, and looks at '
    'what runs of the first seed keep of their training, 0.02.')
  clock = {'cells': ['digits/vae/vanilla/0', 'digits/vae/vanilla/1'], 'workers': 2,
           'seconds': 3_600, 'core_seconds': 5_400}
  path = tmp_path / 'digits' / 'clock.json'
  path.write_text(json.dumps(clock | {'core_seconds': 5_000}))   # one was made anew since
  assert image_table.hours(tmp_path, 'table1', 'digits') == said
  path.write_text(json.dumps(clock))
  assert ('One command of 2 processes, 2 runs, took 1.00 hours by the clock and 1.50 of the '
          'processor.') in image_table.hours(tmp_path, 'table1', 'digits')


@pytest.mark.parametrize('failed', [(), ('digits/vae/vanilla/1',)])
def test_the_command_records_what_is_done_and_fails_with_a_run(monkeypatch, tmp_path, capsys,
                                                                failed):
  """Runs that are not done leave the records alone, and the table is of what is recorded."""
  monkeypatch.setattr(image_command, 'FLAGS', types.SimpleNamespace(
    scale='digits', cells=['digits/vae/vanilla'], shard='1/1', seeds=0, data_dir='', smoke=False,
    dry_run=False, record=True))
  monkeypatch.setattr(image_command, 'RESULTS', tmp_path / 'results')
  monkeypatch.setattr(image_command.command, 'run_all', lambda todo, root: command.Ended(
    dict.fromkeys(failed, 'ValueError'), []))
  monkeypatch.setattr(cells.Cell, 'is_done', lambda cell: cell.label not in failed)
  recorded = []
  monkeypatch.setattr(image_command, 'record', lambda cell, place: recorded.append(place))
  with pytest.raises(SystemExit) if failed else contextlib.nullcontext():
    image_command.run('table1', tmp_path / 'runs')
  of_vae = tmp_path / 'results' / 'digits' / 'digits' / 'vae' / 'vanilla'
  assert recorded == [of_vae / seed for seed in '012' if f'digits/vae/vanilla/{seed}' not in failed]
  assert capsys.readouterr().out.strip() == image_table.text(tmp_path, 'table1', 'digits').strip()


def test_a_figure_of_nothing_names_the_command_that_makes_its_runs(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(image_command, 'FLAGS', types.SimpleNamespace(scale='cpu'))
  with pytest.raises(FileNotFoundError, match='table1 --scale=cpu --workdir=runs/images makes'):
    image_command.print_drawn([None, None], tmp_path, 'runs/images')
  image_command.print_drawn([None, tmp_path / 'a.png'], tmp_path, 'runs/images')
  assert capsys.readouterr().out == f'{tmp_path / "a.png"}\n'


def test_a_run_of_the_table_is_trained_measured_and_recorded(tmp_path):
  cell = image_cells.cell('table1', 'digits', 'digits/vae/blur/0', tmp_path / 'runs', smoke=True)
  cell.config.eval.sample_every = 0
  with jax.debug_key_reuse(False):
    assert cells.train_and_measure(cell).seconds > 0
  place = tmp_path / 'results' / 'digits' / 'digits' / 'vae' / 'blur' / '0'
  image_command.record(cell, place)
  found = {record.metric for c, record in comparison.read(tmp_path / 'results/digits/digits')}
  assert {'frechet', 'kernel_distance', 'mmd2', 'log_likelihood', 'recall', 'coverage'} <= found
  assert sorted(path.name for path in place.iterdir()) == [
    'config.json', 'curve.jsonl', 'records', 'samples', 'seconds.json']
  assert [step for step, _ in image_runs.curve_of(place)] == [4, 8]
  assert measure.open_run(cell.folder).config.mollify.heat_blur.sigma_max == 5.
