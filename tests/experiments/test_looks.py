"""Looks at what trained runs keep: their records, what they took, and which runs are looked at."""
import contextlib
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import types

import jax
import pytest

from experiments import (
  cell_records,
  cells,
  command,
  dry_run,
  fig_fid_over_training,
  image_cells,
  image_command,
  looks,
)
from mollification import measure
from mollification.evaluation import records
from mollification.training import preemption
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[2]
TFDS = ROOT.parent / 'shared' / 'tfds'
WANTED = (cell_records.InFeatures(('mmd',)),)


@pytest.fixture
def trained(tmp_path):
  """A Cell of 8 updates, measured, that keeps its checkpoints at 2, 4 and 6."""
  cell = cells.Cell(tiny.config(eval__every=0, checkpoint__every=2, checkpoint__keep_every=2),
                    tmp_path, ('mmd',), 'tiny')
  with jax.debug_key_reuse(False):   # it slows every eager operation of a checkpoint
    assert cells.train_and_measure(cell).seconds > 0
  return cell


def test_kept_checkpoints_are_measured_once_and_apart_from_the_run(trained, tmp_path):
  own = looks.Look(trained, WANTED)
  seconds = json.loads((tmp_path / 'seconds.json').read_text())
  assert (own.is_trained(), own.is_done(), own.label) == (True, False, 'tiny')
  with jax.debug_key_reuse(False):
    taken = looks.look(own)
  assert {(r.metric, r.step) for r in records.read_all(tmp_path / 'records')} == {
    ('mmd2', step) for step in (2, 4, 6, 8)}
  assert json.loads((tmp_path / 'seconds.json').read_text()) == seconds | {
    'looking': round(taken, 1)}
  assert own.is_done()
  lost = next(path for path in (tmp_path / 'records').iterdir() if '04.json' in path.name)
  written = {p: p.stat().st_mtime_ns for p in (tmp_path / 'records').iterdir() if p != lost}
  lost.unlink()
  assert not own.is_done()
  with jax.debug_key_reuse(False):
    assert looks.look(own) is None   # of a part there is no time
  assert lost.exists()
  assert written == {p: p.stat().st_mtime_ns for p in written}
  # Measured once more, a run keeps what its looks took.
  cell_records.write_seconds(tmp_path, measuring=3.)
  assert json.loads((tmp_path / 'seconds.json').read_text()) == seconds | {
    'looking': round(taken, 1), 'measuring': 3.}


def test_a_signal_ends_looks_after_the_one_under_way(trained, monkeypatch):
  steps = []

  def measured(run, metrics, step, **_):
    steps.append(step)
    stop.requested = True
  stop = preemption.Stop()
  monkeypatch.setattr(preemption, 'Preemption', lambda at_once: contextlib.nullcontext(stop))
  monkeypatch.setattr(measure, 'measure', measured)
  assert looks.look(looks.Look(trained, WANTED)) is None
  assert steps == [2]
  assert 'looking' not in json.loads((trained.folder / 'seconds.json').read_text())


def test_only_runs_of_the_config_that_reached_their_end_are_looked_at(tmp_path):
  config = tiny.config(checkpoint__keep_every=4)
  own = looks.Look(cells.Cell(config, tmp_path, (), 'tiny'), WANTED)
  assert not own.is_trained()
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  (tmp_path / 'checkpoints' / '4').mkdir(parents=True)
  assert not own.is_trained()
  (tmp_path / 'checkpoints' / '8').mkdir()
  assert own.is_trained()
  other = looks.Look(cells.Cell(tiny.config(seed=5), tmp_path, (), 'tiny'), WANTED)
  assert not other.is_trained()


@pytest.mark.parametrize('scale, number, label', [
  ('cpu', 7 * 3 + 2, 'fashion_mnist/vae/cosine/0'), ('digits', 0, ''),
  ('paper', 2 * 7 * 3 + 5 * 2 + 2 * 3, 'celeba64/nvae/blur/0')])
def test_looks_are_at_one_seed_of_each_run_of_all_tables(scale, number, label, tmp_path):
  found = {own.label: own for own in looks.of_scale(scale, tmp_path)}
  assert len(found) == number
  assert all(name.endswith('/0') for name in found)
  wanted = {'cpu': ('frechet', '', 0), 'paper': ('fid', 'inception_pytorch', 50_000)}.get(scale)
  assert {(*one.metrics, one.network, one.num_samples)
          for own in found.values() for one in own.wanted} == ({wanted} if wanted else set())
  assert not label or found[label].cell.label == label


def test_all_looks_at_the_committed_runs_are_recorded():
  """A run that is recorded again may not lose them: its arm would leave the figure."""
  found = looks.of_scale('cpu', image_command.RESULTS)
  assert len(found) == 23
  assert [own.label for own in found if not own.is_done()] == []


def test_what_looks_will_take_on_an_accelerator(tmp_path):
  """Of the paper's, 50,000 samples at each of nine checkpoints."""
  found = {own.label: own for own in looks.of_scale('paper', tmp_path)}
  own = found['cifar10/vae/blur/0']
  assert own.steps() == list(range(10_000, 100_000, 10_000))
  device, programs = dry_run.Device('a100', .3), {}
  lines = list(looks.listing([own], device, programs))
  hours = programs['cifar10/vae']['looking_hours']
  assert lines[0] == f'cifar10/vae/blur/0: missing; samples and their features {hours:.2g} h'
  assert .2 < hours < .6
  assert lines[1].startswith(f'looks at 1 runs, {hours:.2g} h left on one a100')
  path = tmp_path / 'estimates.json'
  dry_run.write(path, device, {'cifar10/vae': {'training_hours': 1.}})
  dry_run.write(path, device, programs)   # both are kept
  kept = json.loads(path.read_text())['programs']['cifar10/vae']
  assert kept == {'training_hours': 1., 'looking_hours': pytest.approx(hours, rel=1e-3)}
  small = {own.label: own for own in looks.of_scale('cpu', tmp_path)}['fashion_mnist/vae/blur/0']
  assert next(looks.listing([small], device, {})).endswith('features not counted')


def test_why_a_run_is_not_looked_at_is_said(trained, tmp_path):
  own = looks.Look(trained, WANTED)
  assert own.state() == '3 of 3 checkpoints to look at'
  other = dataclasses.replace(trained, config=tiny.config(seed=5))
  assert looks.Look(other, WANTED).state() == (
    'a run of another config is there, and would be refused')
  assert looks.Look(dataclasses.replace(trained, folder=tmp_path / 'none'), WANTED).state() == (
    'missing')


def test_a_record_of_another_config_ends_no_listing(trained, tmp_path):
  folder = shutil.copytree(trained.folder, tmp_path / 'run')
  own = looks.Look(dataclasses.replace(trained, folder=folder), WANTED)
  strange = records.Record(
    metric='frechet', value=1., step=4, standard_error=None, n=20, unit='1', params='raw', seed=0,
    seconds=1., config_sha256='of another',
    reference={'dataset': 'digits', 'split': 'test', 'n': 20, 'sha256': 'a'})
  records.write(strange, folder / 'records')
  assert own.state().startswith(f'to be refused: {folder}/records holds a frechet of another')
  line, total = looks.listing([own], dry_run.Device('core', .3), {})
  assert 'to be refused' in line
  assert total.startswith('looks at 1 runs, 0 h left')


def test_the_figure_measures_what_is_trained_and_says_what_failed(monkeypatch, tmp_path, capsys):
  made = {name: types.SimpleNamespace(
    label=f'fashion_mnist/vae/{name}/0', is_trained=lambda name=name: name != 'blur',
    is_done=lambda name=name: name == 'vanilla', networks=(), state=lambda: 'missing')
    for name in image_cells.ARMS}
  begun = []

  def run_all(todo, root, work, *, clock):
    assert not clock   # it is that of the training
    begun.extend(own.label for own in todo)
    return command.Ended({begun[0]: 'no'}, [])
  monkeypatch.setattr(looks, 'of_scale', lambda *_, **options: list(made.values()))
  monkeypatch.setattr(fig_fid_over_training.command, 'run_all', run_all)
  flags = types.SimpleNamespace(scale='cpu', smoke=False, record=False, data_dir='', dry_run=False,
                                cells=['fashion_mnist/vae', made['blur'].label], shard='1/1')
  for module in (fig_fid_over_training, fig_fid_over_training.image_command):
    monkeypatch.setattr(module, 'FLAGS', flags)
  monkeypatch.setattr(fig_fid_over_training, 'draw', lambda folder, path: path)
  with pytest.raises(SystemExit):
    fig_fid_over_training.run(tmp_path)
  assert begun == [f'fashion_mnist/vae/{arm}/0' for arm in ('gaussian', 'cosine', 'linear')]
  assert capsys.readouterr().out.splitlines() == [
    'fashion_mnist/vae/blur/0 is not looked at: missing',
    '4 of 5 runs are trained and can be looked at',
    f'{tmp_path}/cpu/fashion_mnist-over_training.png']


def test_at_the_papers_size_smoke_runs_have_nothing_to_look_at(monkeypatch, tmp_path, capsys):
  """Looks are in Inception's features, whose weights may not be there."""
  flags = types.SimpleNamespace(scale='paper', smoke=True, record=False, data_dir='', dry_run=False,
                                cells=['cifar10/vae'], shard='1/1', workers=1)
  for module in (fig_fid_over_training, fig_fid_over_training.image_command):
    monkeypatch.setattr(module, 'FLAGS', flags)
  monkeypatch.setattr(fig_fid_over_training.image_command, 'settle', lambda root: root)
  fig_fid_over_training.run(tmp_path)
  assert 'there is nothing to look at' in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_and_then_its_figure_run(tmp_path):
  """The two commands that a user gives, small."""
  if not (TFDS / 'fashion_mnist').is_dir():
    pytest.skip(f'no Fashion-MNIST in {TFDS}')
  for name in ('table1', 'fig_fid_over_training', 'fig_intermediate_samples'):
    flags = [] if name.endswith('samples') else [
      f'--data_dir={TFDS}', '--cells=fashion_mnist/vae/vanilla/0']
    done = subprocess.run(
      [sys.executable, '-m', f'experiments.{name}', '--scale=cpu', '--smoke',
       f'--workdir={tmp_path}', *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
  place = tmp_path / 'smoke' / 'cpu' / 'fashion_mnist' / 'vae' / 'vanilla' / '0'
  assert {record.step for record in records.read_all(place / 'records')} == {2, 4}
  assert json.loads((place / 'seconds.json').read_text())['looking'] > 0
  drawn = {path.name for path in (tmp_path / 'smoke' / 'cpu').glob('*.png')}
  assert drawn == {'fashion_mnist-over_training.png', 'fashion_mnist-vae-samples.png'}
