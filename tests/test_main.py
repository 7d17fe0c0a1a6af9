"""The training binary: what it refuses, one-line errors, exit status, what it says."""
import contextlib
import functools
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from mollification import build, main, measure, parallel
from mollification.training import loop, preemption, workdir
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[1]


def _run(*args):
  return subprocess.run([sys.executable, '-m', 'mollification.main', *map(str, args)], cwd=ROOT,
                        capture_output=True, text=True, check=False)


@pytest.fixture
def train_in_process(monkeypatch):
  """The binary's (config, workdir) -> None, without its flags."""
  monkeypatch.setattr(main, '_SMOKE', types.SimpleNamespace(value=False))
  monkeypatch.setattr(main, '_DEBUG', types.SimpleNamespace(value=True))
  monkeypatch.setattr(main.processes, 'join', lambda stop: None)
  monkeypatch.setattr(main.deterministic, 'apply', lambda: None)
  return functools.partial(main._train, stop=preemption.Stop())


def test_other_data_under_the_same_name_are_refused(tmp_path, train_in_process):
  """On resume and in the evaluation; the workdir stays as it is."""
  def archive(name, seed):
    rng = np.random.default_rng(seed)
    arrays = {split: rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
              for split in ('train', 'validation', 'test')}
    np.savez(tmp_path / name, **arrays)
    return str(tmp_path / name)

  folder = tmp_path / 'run'
  config = tiny.config(data__name='npz', data__data_dir=archive('a.npz', 0), eval__every=0)
  train_in_process(config, folder)
  kept = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  config.data.data_dir = archive('b.npz', 1)
  with pytest.raises(ValueError, match='holds a run of other data: its train split'):
    train_in_process(config, folder)
  assert kept == {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  archive('a.npz', 1)
  with pytest.raises(ValueError, match='holds a run of other data'):
    measure.open_run(folder)
  (tmp_path / 'moved').mkdir()
  archive('moved/c.npz', 0)
  config.data.data_dir = str(tmp_path / 'moved' / 'c.npz')
  train_in_process(config, folder)


def test_another_run_is_refused_before_its_data_are_fetched(tmp_path, train_in_process):
  train_in_process(tiny.config(total_steps=1, eval__every=0, checkpoint__every=0), tmp_path)
  other = tiny.config(total_steps=1, data__name='cifar10', data__data_dir=str(tmp_path / 'none'))
  with pytest.raises(ValueError, match=r'holds another run: data\.name was'):
    train_in_process(other, tmp_path)


def test_a_second_process_is_refused_and_touches_nothing(tmp_path, train_in_process, monkeypatch,
                                                         capsys):
  """Even with the very command that the first one was given."""
  config = tiny.config(total_steps=2, eval__every=0, checkpoint__every=1)
  train_in_process(config, tmp_path)
  capsys.readouterr()
  monkeypatch.setattr(main, '_DEBUG', types.SimpleNamespace(value=False))
  files = lambda: {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  with workdir.lock(tmp_path):
    before = files()
    with pytest.raises(SystemExit) as info:
      train_in_process(config, tmp_path)
    assert files() == before
  assert info.value.code == 2
  said = capsys.readouterr()
  assert said.out == ''
  assert said.err.startswith(f'error: workdir {tmp_path} is in use by another training process; ')
  assert said.err.count('\n') == 1


MISTAKES = {
  ('--config=configs/digits_vae.py', '--config.sed=1'): "key in --config.sed; did you mean 'seed'",
  ('--config=configs/digits_vae.py', '--config.seed=x'):
    "config key 'seed' takes a whole number, got 'x'.",
  ('--config=configs/digits_vae.py', '--config.prepare.flip=7'):
    "config key 'prepare.flip' takes True or False, got '7'.",
  ('--config=configs/digits_vae.py', '--config.model.widths=(1,a)'):
    'model option widths takes a tuple of whole numbers',
  ('--config=configs/nope.py',): 'config file configs/nope.py does not exist',
  ('--config=configs/digits_vae.py:sed=1',): "unknown config key 'sed'; did you mean 'seed'",
  ('--config=configs/digits_vae.py', '--config.data.name=zigits'): "no data set 'zigits'",
  ('--config=configs/digits_vae.py', '--confg=1'): 'confg',
  ('--config=configs/digits_vae.py', '--config.model.qqq=1'):
    "unknown config key 'model.qqq'; its model takes the options in",
  ('--config=configs/uci_redwine_realnvp.py', '--config.data.data_dir={workdir}-none'): 'redwine',
  ('--config=configs/cifar10_vae.py', '--config.data.data_dir={workdir}-tfds',
   '--config.data.cache_dir={workdir}-cache'): '/downloads/manual and run this again',
}


@pytest.mark.parametrize('args', MISTAKES, ids=lambda args: args[-1].split('/')[-1])
def test_mistakes_cost_one_line_and_leave_nothing(args, tmp_path):
  folder = tmp_path / 'run'
  result = _run(f'--workdir={folder}', *(a.format(workdir=folder) for a in args))
  assert result.returncode == 2, result.stderr
  assert result.stderr.startswith('error: ')
  assert result.stderr.count('\n') == 1
  assert MISTAKES[args] in result.stderr
  assert 'Traceback' not in result.stderr
  assert not folder.exists()


def test_a_run_that_diverges_ends_with_3_and_one_line(tmp_path, train_in_process, capsys):
  config = tiny.config(max_nonfinite=3, optimizer__learning_rate=1e30, eval__every=0)
  with pytest.raises(SystemExit) as info:
    train_in_process(config, tmp_path)
  assert info.value.code == main.EXIT_DIVERGED == 3
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith('error: 3 updates in a row')


def test_what_goes_wrong_in_training_is_not_called_a_mistake_of_the_user(
    tmp_path, train_in_process, monkeypatch):
  def train(*args, **kwargs):
    raise OSError('no space left on device')

  monkeypatch.setattr(loop, 'train', train)
  monkeypatch.setattr(main, '_DEBUG', types.SimpleNamespace(value=False))
  with pytest.raises(OSError, match='no space left'):   # as it is, for its traceback
    train_in_process(tiny.config(eval__every=0), tmp_path)


@pytest.mark.parametrize('first', [True, False])
def test_the_first_process_prepares_data_before_the_others_look_for_them(
    tmp_path, train_in_process, monkeypatch, first):
  """Each region is one that all leave together: the first builds in one, the others in the next."""
  class Done(Exception):
    pass

  done, original = [], build.build

  @contextlib.contextmanager
  def together():
    done.append('in')
    yield
    done.append('out')

  def train(*args, **kwargs):
    raise Done

  monkeypatch.setattr(parallel, 'is_first', lambda: first)
  monkeypatch.setattr(parallel, 'together', together)
  monkeypatch.setattr(build, 'build',
                      lambda config: (done.append('build'), original(config))[1])
  monkeypatch.setattr(loop, 'train', train)
  if not first:   # which the first one writes
    (tmp_path / 'config.json').touch()
  with pytest.raises(Done):
    train_in_process(tiny.config(eval__every=0), tmp_path)
  assert ' '.join(done) == (
    'in build out in out in out in out' if first else 'in out in build out in out in out')


def test_rows_go_to_stdout_where_asked(tmp_path, capsys):
  loop.train(tiny.run(log__every=4), tmp_path / 'a')
  lines = [line for line in capsys.readouterr().out.splitlines() if 'train/loss' in line]
  assert [line.split()[0] for line in lines] == ['4', '8']
  assert 'valid/log_likelihood' in lines[-1]
  loop.train(tiny.run(log__stdout=False), tmp_path / 'b')
  assert 'train/loss' not in capsys.readouterr().out
