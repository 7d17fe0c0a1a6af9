"""The evaluation of a workdir: every metric of it alone, and what of it is damaged, by name."""
import dataclasses
import functools
import gc
import json

import numpy as np
import pytest
from PIL import Image

from mollification import measure, metrics, rng, score
from mollification.evaluation import (
  features,
  frechet,
  likelihood,
  records,
  sampling,
  scoring,
  statistics_file,
)
from mollification.training import loop, workdir
from tests.evaluation.toy import Toy, passes
from tests.test_score import binary
from tests.training import tiny


def _importance_bound(run, num_samples, chunk):
  """Of the test split, as the model computes it."""
  evaluation = run.evaluation
  fn = functools.partial(evaluation.model.apply, method='importance_bound',
                         num_samples=num_samples, chunk=chunk)
  variables = measure.restore(run, None).variables
  return likelihood.log_likelihood(
    fn, variables, evaluation.dataset.test.x, evaluation.prepare,
    rng.purpose_key(run.config.seed, 'evaluate'), batch_size=90).mean


def test_a_checkpoint_is_restored_and_sampled_once(tmp_path):
  loop.train(tiny.build.build(tiny.config(checkpoint__every=4)), tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(tiny.config().to_dict()))
  run = measure.open_run(tmp_path)
  last = measure.restore(run, 8)
  assert measure.restore(run, 8) is last
  assert measure.restore(run, 4).step == 4
  assert measure.restore(run, 8) is not last    # one at a time
  assert measure.restore(run, None).step == 8   # which one that is may change
  assert measure.restore(run, None) is not measure.restore(run, None)
  drawn = []

  def sample(variables, n, allow_nonfinite):
    drawn.append((n, allow_nonfinite))
    return run.evaluation.sample(variables, n, allow_nonfinite)

  evaluation = dataclasses.replace(run.evaluation, sample=sample)
  restored = measure.Checkpoint(evaluation, tiny.newest(tmp_path / 'checkpoints')[1])
  many = restored.samples(7, True)
  few = restored.samples(5, True)   # what drawing so few gives
  np.testing.assert_array_equal(few.x, run.evaluation.sample(restored.variables, 5, True).x)
  assert (many.n, few.n, few.nonfinite) == (7, 5, 0)
  assert restored.samples(9, True).n == 9
  assert restored.samples(5, False).n == 5   # those that count need not be those that may fail
  assert drawn == [(7, True), (9, True), (5, False)]


def test_samples_that_are_not_finite_are_counted_among_the_first():
  samples = sampling.Samples(np.zeros((4, 2)), np.array([True, False, True, False]))
  assert (samples.nonfinite, samples.first(3).nonfinite, samples.first(1).nonfinite) == (2, 1, 0)


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
    passed.clear()
    anew = measure.measure(run, names, write=False)   # nothing that is kept
    assert [name for name, _ in passed] == ['samples', 'test', 'train']
  assert {name: r.value for name, r in again.items()} == {n: r.value for n, r in found.items()}
  assert {r.metric: r.value for r in anew} == {n: r.value for n, r in found.items()}
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
    f'test-digits_cnn_8x8{kind}' for kind in ('-kid.npz', '-pr.npz', '-to-train.npz')] + [
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
  _check_what_is_kept_of_features(run, rows)
  with pytest.raises(ValueError, match='sfid is made of the Inception network alone'):
    measure.measure(run, ('sfid',))


def _check_what_is_kept_of_features(run, rows):
  """It is what counts where it is there, and refused where it is damaged or of other features."""
  for metric, name, factor in (('kid', 'kernel_distance', 0.), ('pr', 'precision', 1e9)):
    path = rows.with_name(f'{rows.stem}-{metric}.npz')
    before = path.read_bytes()
    with np.load(path) as kept:
      np.savez(path, value=factor * kept['value'], meta=kept['meta'])
    figures = [{r.metric: r.value for r in measure.measure(run, (metric,), step=4)}[name]]
    path.write_bytes(before)
    figures += [{r.metric: r.value for r in measure.measure(run, (metric,), step=4)}[name]]
    assert figures[0] != figures[1]
  with pytest.MonkeyPatch.context() as patch:   # of other neighbours they are another thing
    patch.setitem(scoring.OWN_PARTS, 'pr', scoring.OWN_PARTS['pr']._replace(settings={'k': [3, 4]}))
    with pytest.raises(ValueError, match=r"-pr\.npz must be of .*'k': \[3, 4\].*delete it"):
      measure.measure(run, ('pr',), step=4)
  near = rows.with_name(f'{rows.stem}-to-train.npz')
  with np.load(near) as kept:
    value, meta = kept['value'], str(kept['meta'])

  def near_share():
    return next(r.value for r in measure.measure(run, ('copies',), step=4)
                if r.metric == 'near_share')

  np.savez(near, value=value + 1e6, meta=meta)
  assert near_share() == 1
  np.savez(near, value=value, meta=meta.replace('uint8', 'tf1'))
  with pytest.raises(ValueError, match=r'to-train\.npz must be of .*tf1.*delete it'):
    near_share()
  near.write_bytes(b'')
  with pytest.raises(ValueError, match=r'to-train\.npz cannot be read .*delete it'):
    near_share()
  near.unlink()
  assert near_share() < 1


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
  result = binary(f'--workdir={tmp_path}')
  assert result.returncode == 2
  assert result.stderr.startswith('error: ')
  assert result.stderr.count('\n') == 1


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
