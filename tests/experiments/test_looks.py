"""Looks at what trained runs keep: their records, what they took, and which runs are looked at."""
import contextlib
import json
import types

import jax
import pytest

from experiments import cell_records, cells, dry_run, fig_fid_over_training, image_cells, looks
from mollification import measure
from mollification.evaluation import records
from mollification.training import preemption
from tests.training import tiny

WANTED = (cell_records.InFeatures(('mmd',)),)


@pytest.fixture
def trained(tmp_path):
  """A Cell of 8 updates, measured, that keeps its checkpoints at 2, 4 and 6."""
  cell = cells.Cell(tiny.config(eval__every=0, checkpoint__every=2, checkpoint__keep_every=2),
                    tmp_path, ('mmd',), 'tiny')
  with jax.debug_key_reuse(False):   # it slows every eager operation of a checkpoint
    assert cells.train_and_measure(cell) > 0
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
  monkeypatch.setattr(preemption, 'Preemption', lambda: contextlib.nullcontext(stop))
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
  found = looks.of_scale(scale, tmp_path)
  labels = [own.label for own in found]
  assert len(labels) == len(set(labels)) == number
  assert all(name.endswith('/0') for name in labels)
  assert not label or label in labels
  for own in found:
    grid = next(grids[scale][own.label.split('/')[0]] for grids in image_cells.TABLES.values()
                if own.label in (image_cells.names('table1', scale) if scale in grids else ())
                or scale in grids)
    assert own.wanted == grid.over_training


def test_what_looks_will_take_on_an_accelerator(tmp_path):
  """Of the paper's, 50,000 samples at each of nine checkpoints."""
  found = {own.label: own for own in looks.of_scale('paper', tmp_path)}
  own = found['cifar10/vae/blur/0']
  assert own.steps() == list(range(10_000, 100_000, 10_000))
  lines = list(looks.listing([own], dry_run.Device('a100', .3)))
  assert lines[0].startswith('cifar10/vae/blur/0: not trained yet; ')
  hours = float(lines[0].split('; ')[1].removesuffix(' h'))
  assert .2 < hours < .6
  assert lines[1].startswith(f'1 runs, {hours:.2g} h in all on one a100')


def test_the_figure_measures_what_is_trained_and_says_what_failed(monkeypatch, tmp_path, capsys):
  made = {name: types.SimpleNamespace(
    label=f'fashion_mnist/vae/{name}/0', is_trained=lambda name=name: name != 'blur',
    is_done=lambda name=name: name == 'vanilla', networks=()) for name in image_cells.ARMS}
  begun = []

  def run_all(todo, root, work):
    begun.extend(own.label for own in todo)
    return {begun[0]: 'no'}
  monkeypatch.setattr(looks, 'of_scale', lambda scale, root, data_dir: list(made.values()))
  monkeypatch.setattr(fig_fid_over_training.command, 'run_all', run_all)
  flags = types.SimpleNamespace(scale='cpu', smoke=False, record=False, data_dir='', dry_run=False,
                                cells=['fashion_mnist/vae'], shard='1/1')
  for module in (fig_fid_over_training, fig_fid_over_training.image_command):
    monkeypatch.setattr(module, 'FLAGS', flags)
  monkeypatch.setattr(fig_fid_over_training, 'draw', lambda folder, path: path)
  with pytest.raises(SystemExit):
    fig_fid_over_training.run(tmp_path)
  assert begun == [f'fashion_mnist/vae/{arm}/0' for arm in ('gaussian', 'cosine', 'linear')]
  assert capsys.readouterr().out == f'{tmp_path}/cpu/fashion_mnist-over_training.png\n'
