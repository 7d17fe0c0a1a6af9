"""Both binaries as a user runs them: pre-emption and resume, one-line errors, exit status."""
import contextlib
import dataclasses
import functools
import gc
import json
import pathlib
import signal
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import pytest
from PIL import Image

from mollification import build, cli, main, measure, metrics, parallel, rng, score
from mollification.evaluation import features, frechet, likelihood, records, statistics_file
from mollification.training import loop, workdir
from tests.evaluation.toy import Toy, passes
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[1]


def _command(module, *args):
  return [sys.executable, '-m', f'mollification.{module}', *map(str, args)]


def _run(module, *args):
  return subprocess.run(_command(module, *args), cwd=ROOT, capture_output=True, text=True,
                        check=False)


def test_sigterm_saves_and_the_same_command_resumes(tmp_path):
  train = ('main', '--config=configs/digits_vae.py:total_steps=1500,steps_per_call=1,batch_size=16',
           f'--workdir={tmp_path}', '--config.log.every=10', '--config.model.widths=(8,)',
           '--config.eval.every=0')
  process = subprocess.Popen(_command(*train), cwd=ROOT, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
  while not metrics.read_rows(tmp_path / 'metrics.jsonl') and process.poll() is None:
    time.sleep(.02)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate()
  assert process.returncode == 75, err
  assert 'preempted after' in out
  resumed = _run(*train)
  assert resumed.returncode == 0, resumed.stderr
  assert 'finished after 1,500 updates' in resumed.stdout
  steps = [row['step'] for row in metrics.read_rows(tmp_path / 'metrics.jsonl')]
  assert steps == list(range(10, 1501, 10))


@pytest.fixture
def train_in_process(monkeypatch):
  """The binary's (config, workdir) -> None, without its flags."""
  monkeypatch.setattr(main, '_SMOKE', types.SimpleNamespace(value=False))
  monkeypatch.setattr(main, '_DEBUG', types.SimpleNamespace(value=True))
  monkeypatch.setattr(main.processes, 'join', lambda: None)
  monkeypatch.setattr(main.deterministic, 'apply', lambda: None)
  return main._train


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


def _importance_bound(run, num_samples, chunk):
  """Of the test split, as the model computes it."""
  evaluation = run.evaluation
  fn = functools.partial(evaluation.model.apply, method='importance_bound',
                         num_samples=num_samples, chunk=chunk)
  variables = evaluation.variables(measure.restore(run.folder, None, run.template))
  return likelihood.log_likelihood(
    fn, variables, evaluation.dataset.test.x, evaluation.prepare,
    rng.purpose_key(run.config.seed, 'evaluate'), batch_size=90).mean


def test_evaluation_needs_the_workdir_alone(tmp_path):
  config = tiny.config(ema_decay=.5, checkpoint__every=4, eval__best_metric='log_likelihood',
                       eval__importance_samples=40, eval__importance_chunk=10)
  with workdir.lock(tmp_path):
    workdir.claim(tmp_path, config.to_dict(), {})
    loop.train(tiny.build.build(config), tmp_path)
  run = measure.open_run(tmp_path)
  bound = measure.measure(run, ('importance',), write=False)
  assert [r.metric for r in bound] == ['importance_bound', 'importance_bits_per_dim']
  assert bound[0].settings['draws'] == 40
  assert bound[0].value == pytest.approx(_importance_bound(run, 40, 10), rel=1e-6)
  assert not measure.measured(run, ('importance',), step=8)
  measure.measure(run, ('importance', 'latents'))
  assert measure.measured(run, ('importance', 'latents'), step=8)
  run.config.eval.importance_samples = 50
  with pytest.raises(ValueError, match=r'another settings\.draws: 40, new 50; move the old one'):
    measure.measured(run, ('importance',), step=8)
  (units,) = measure.measure(run, ('latents',), write=False)
  assert units.value == sum(units.extra['active'])
  assert {name: len(v) for name, v in units.extra.items()} == dict.fromkeys(units.extra, 2)
  run.config.eval.batch_size = 100     # dequantisation follows the example, not the batch
  (again,) = measure.measure(run, ('latents',), write=False)
  assert again.extra['var'] == pytest.approx(units.extra['var'], rel=1e-5)
  found = {r.metric: r for r in measure.measure(run, ('nll', 'mmd', 'frechet'))}
  assert set(found) == {'log_likelihood', 'bits_per_dim', 'mmd2', 'frechet'}
  last = metrics.read_rows(tmp_path / 'metrics.jsonl')[-1]
  on_validation = measure.measure(run, ('nll',), split='validation')[0]
  assert on_validation.value == pytest.approx(last['valid/log_likelihood'], rel=1e-6)
  assert found['log_likelihood'].exact is False
  assert found['log_likelihood'].n == 360
  assert bound[0].value > found['log_likelihood'].value
  assert 0. < bound[0].standard_error < 20.
  assert found['frechet'].features['net'] == 'digits_cnn_8x8'
  ema = measure.measure(measure.open_run(tmp_path, 'ema'), ('nll',))[0]
  assert ema.value != found['log_likelihood'].value
  assert measure.measure(run, ('nll',), step=4)[0].step == 4
  assert measure.measure(run, ('nll',), step='best')[0].step in (4, 8)
  written = records.read_all(tmp_path / 'records')
  assert {(r.metric, r.step, r.params) for r in written} >= {
    ('frechet', 8, 'raw'), ('log_likelihood', 8, 'ema'), ('log_likelihood', 4, 'raw')}
  with pytest.raises(FileNotFoundError, match=r'no checkpoint of step 5 .*there are 4, 8'):
    measure.measure(run, ('nll',), step=5)
  _check_metrics_in_features(run, found['frechet'])
  _check_samples_of_a_workdir(run, found['frechet'])
  written = records.read_all(tmp_path / 'records')
  with pytest.raises(ValueError, match="unknown metric 'psnr'; known: nll"):
    measure.measure(run, ('nll', 'psnr'))
  count = len(written)
  assert measure.measure(run, ('mmd',), num_samples=40, write=False)[0].n == 40
  assert len(records.read_all(tmp_path / 'records')) == count
  with pytest.raises(ValueError, match="full_train, validation, test, got 'dev'"):
    measure.measure(run, ('nll',), split='dev')


def _check_metrics_in_features(run, before):
  """All that needs features; reference statistics that are kept; the figure over two steps."""
  folder = run.folder
  names = ('frechet', 'kid', 'pr', 'copies')
  with pytest.MonkeyPatch.context() as patch:
    passed = passes(patch)
    found = {r.metric: r for r in measure.measure(run, names)}
    assert [name for name, _ in passed] == ['samples', 'test', 'train']
    passed.clear()
    again = {r.metric: r for r in measure.measure(run, names)}   # as of another checkpoint
    measure.measure(run, ('is',), write=False, extractor=Toy.extractor())
    assert [name for name, _ in passed] == ['samples', 'samples']
  assert {name: r.value for name, r in again.items()} == {n: r.value for n, r in found.items()}
  assert list(found) == ['frechet', 'kernel_distance', 'precision', 'recall', 'density', 'coverage',
                         'near_share', 'far_share']
  assert found['frechet'].value == pytest.approx(before.value, rel=1e-9)
  assert set(found['frechet'].extra) >= {'bias_corrected', 'extrapolated'}
  assert found['frechet'].settings['temperature'] == 1.
  assert len(found['near_share'].extra['train_images']) == 10
  assert not (folder / 'figures' / 'frechet-test-raw-n360-digits_cnn_8x8.png').exists()
  assert not measure.measured(run, ('fid',), step=4)
  measure.measure(run, ('fid',), step=4)
  assert (folder / 'figures' / 'frechet-test-raw-n360-digits_cnn_8x8.png').stat().st_size > 1000
  with Image.open(folder / 'samples' / 'measured-raw-00000004.png') as image:
    assert image.size == (504, 504)   # 8 x 8 samples of 8 x 8 pixels and a gap, sevenfold
  assert sorted(p.name for p in (folder / 'features').iterdir()) == [   # the samples' are gone
    f'{split}-digits_cnn_8x8.{kind}' for split in ('test', 'train') for kind in ('json', 'npy')]
  cache = folder / 'statistics' / 'test-digits_cnn_8x8.npz'
  statistics, meta = statistics_file.read(cache)
  statistics_file.write(cache, statistics, meta | {'data_sha256': 'other'})
  with pytest.raises(ValueError, match=r'digits_cnn_8x8\.npz must be of .*delete it'):
    measure.measure(run, ('fid',), step=4)
  statistics_file.write(cache, statistics, meta)
  rows = folder / 'features' / 'test-digits_cnn_8x8.npy'
  content, meta = rows.read_bytes(), rows.with_suffix('.json').read_text()
  rows.write_bytes(content[:-100])
  with pytest.raises(ValueError, match=r'x8\.npy cannot be read .*delete it and .*\.json'):
    measure.measure(run, ('kid',), step=4)
  rows.write_bytes(content)
  rows.with_suffix('.json').write_text(meta.replace('uint8', 'tf1'))
  with pytest.raises(ValueError, match=r'x8\.npy must be of .*tf1.*delete it'):
    measure.measure(run, ('kid',), step=4)
  rows.with_suffix('.json').write_text(meta)
  with pytest.raises(ValueError, match='sfid is made of the Inception network alone'):
    measure.measure(run, ('sfid',))


def _check_samples_of_a_workdir(run, before):
  """A workdir stands for samples of its newest checkpoint in `stats` and `score`."""
  where, net = str(run.folder), features.load('digits_cnn_8x8')
  result = score.score(where, 'digits', ['fid'], net)
  assert result['figures'][0]['value'] == pytest.approx(before.value, rel=1e-9)
  assert result['set']['split'].startswith('samples of step 8, raw, seed 0, ')
  out = run.folder / 'stats.npz'
  with pytest.warns(frechet.FewSamples, match='50 samples for 64 features'):
    score.stats(where, out, net, step=4, num_samples=50)
  _, meta = statistics_file.read(out)
  assert meta['n'] == 50
  assert meta['split'].startswith('samples of step 4, ')
  with pytest.raises(ValueError, match=r'must hold statistics of .*step 8.*got .*step 4'):
    score.stats(where, out, net, num_samples=50)


def test_latents_of_a_posterior_that_is_no_gaussian_are_those_of_draws(tmp_path):
  config = tiny.config('iaf', eval__every=0)
  with workdir.lock(tmp_path):
    workdir.claim(tmp_path, config.to_dict(), {})
    loop.train(tiny.build.build(config), tmp_path)
  (units,) = measure.measure(measure.open_run(tmp_path), ('latents',), write=False)
  assert units.value == sum(units.extra['active'])
  assert np.isnan(units.extra['kl']).all()
  assert min(units.extra['var']) > 0.


@pytest.mark.parametrize('family, draws', [('vae', 1), ('iwae', 3)])
def test_a_bound_says_of_how_many_draws_it_is(family, draws, tmp_path):
  """And takes the place of a record from before it did."""
  config = tiny.config(family, eval__every=0, total_steps=1, checkpoint__every=0)
  with workdir.lock(tmp_path):
    workdir.claim(tmp_path, config.to_dict(), {})
    loop.train(tiny.build.build(config), tmp_path)
  run, folder = measure.open_run(tmp_path), tmp_path / 'records'
  found = measure.measure(run, ('nll',))
  assert [r.metric for r in found] == ['log_likelihood', 'bits_per_dim']
  assert [r.extra['draws'] for r in found] == [draws, draws]
  old = dataclasses.replace(found[0], extra={'nonfinite': 0})
  records.write(old, folder)
  assert measure.measured(run, ('nll',), step=1)
  records.write(found[0], folder)
  assert records.read(folder / found[0].file_name) == found[0]


def test_no_run_to_evaluate(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no run'):
    measure.open_run(tmp_path)
  result = _run('evaluate', f'--workdir={tmp_path}')
  assert result.returncode == 2
  assert result.stderr.startswith('error: ')
  assert result.stderr.count('\n') == 1


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
  result = _run('main', f'--workdir={folder}', *(a.format(workdir=folder) for a in args))
  assert result.returncode == 2, result.stderr
  assert result.stderr.startswith('error: ')
  assert result.stderr.count('\n') == 1
  assert MISTAKES[args] in result.stderr
  assert 'Traceback' not in result.stderr
  assert not folder.exists()


def test_debug_shows_the_traceback():
  with pytest.raises(ValueError, match='rule'), cli.one_line_errors(debug=True):
    raise ValueError('rule')
  with pytest.raises(SystemExit) as info, cli.one_line_errors():
    raise ValueError('rule')
  assert info.value.code == 2


@pytest.mark.parametrize('error, line', [
  (ArithmeticError('no root'), 'no root'), (MemoryError('1 TB'), '1 TB'),
  (MemoryError(), 'MemoryError'), (RuntimeError('boom'), 'boom'),
  (ValueError('a rule,\n  a value\n\nand a page more'), 'a rule, a value')])
def test_what_a_file_of_nonsense_raises_is_one_line_too(error, line, capsys):
  with pytest.raises(SystemExit) as info, cli.one_line_errors():
    raise error
  assert info.value.code == 2
  assert capsys.readouterr().err == f'error: {line}\n'


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
  with pytest.raises(Done):
    train_in_process(tiny.config(eval__every=0), tmp_path)
  assert ' '.join(done) == (
    'in build out in out in out' if first else 'in out in build out in out')


def test_a_missing_package_names_its_extra(capsys):
  for package, extra in (('tensorflow', 'data'), ('optax', 'train')):
    with pytest.raises(SystemExit), cli.one_line_errors():
      raise ModuleNotFoundError(f'No module named {package!r}', name=package)
    assert capsys.readouterr().err == (
      f"error: {package} is not installed; pip install 'mollification[{extra}]'.\n")


def test_warnings_are_one_line():
  show = lambda: warnings.formatwarning(UserWarning('mind the gap'), UserWarning, 'file.py', 1)
  before = show()
  with cli.one_line_errors():
    assert show() == 'warning: mind the gap\n'
  assert show() == before


def test_a_signal_while_there_is_nothing_to_save_ends_the_process(tmp_path):
  """Building may take minutes (a data set is prepared): the first signal is enough."""
  process = subprocess.Popen(
    _command('main', '--config=configs/digits_vae.py', f'--workdir={tmp_path}'), cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  until = time.monotonic() + 60
  while not (tmp_path / 'lock').exists():   # held from before the build on
    assert process.poll() is None
    assert time.monotonic() < until
    time.sleep(.01)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate()
  assert process.returncode == 75, err
  assert out == ''
  assert not list(tmp_path.glob('checkpoints'))


@pytest.mark.parametrize('key', ['eval.quantize', 'data.channels', 'eval', 'ema_decay', 'data'])
def test_a_config_of_another_version_names_the_key(tmp_path, key):
  config = tiny.config().to_dict()
  *groups, last = key.split('.')
  part = config
  for group in groups:
    part = part[group]
  del part[last]
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match=f'lacks the key .*{last}.*another version'):
    measure.open_run(tmp_path)


# Orbax drops the reads that it had begun when the first one fails, and Python says so.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_damaged_files_of_a_run_are_named(tmp_path):
  (tmp_path / 'config.json').write_text('[]')
  with pytest.raises(ValueError, match=r'config.json holds a list, no config; restore it'):
    measure.open_run(tmp_path)
  config = tiny.config()
  run = tiny.build.build(config)
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  loop.train(run, tmp_path)
  for path in (tmp_path / 'checkpoints' / '8').rglob('*'):
    if path.is_file() and path.stat().st_size > 100:
      path.write_bytes(path.read_bytes()[:50])
  with pytest.raises(ValueError, match=r'checkpoint 8 in .* cannot be read .*take another \(4\)'):
    measure.measure(measure.open_run(tmp_path), ('nll',), step=8)
  with pytest.warns(UserWarning, match=r'checkpoint 8 .* Going on from step 4'):
    found = measure.measure(measure.open_run(tmp_path), ('nll',))
  assert {record.step for record in found} == {4}
  gc.collect()   # here, where that is expected


def test_rows_go_to_stdout_where_asked(tmp_path, capsys):
  loop.train(tiny.run(log__every=4), tmp_path / 'a')
  lines = [line for line in capsys.readouterr().out.splitlines() if 'train/loss' in line]
  assert [line.split()[0] for line in lines] == ['4', '8']
  assert 'valid/log_likelihood' in lines[-1]
  loop.train(tiny.run(log__stdout=False), tmp_path / 'b')
  assert 'train/loss' not in capsys.readouterr().out
