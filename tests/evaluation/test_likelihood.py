"""Whole-split likelihoods: exactness, draws by example, units, and what is refused."""
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification.evaluation import likelihood
from mollification.preprocess import Prepare

PREPARE = Prepare(levels=256)
ROWS = np.random.default_rng(0).integers(0, 256, (149, 3, 2, 1), dtype=np.uint8)


def noisy(variables, x, keys):
  """A random but elementwise log-likelihood: it shows draws and data alike."""
  draws = jax.vmap(jax.random.uniform)(keys)
  return draws - jnp.abs(x).max((1, 2, 3)) * variables['scale']


def uniform(variables, x, keys):
  """Density of U[-1, 1]^D: -D ln 2 nats."""
  del variables, keys
  return jnp.full(x.shape[0], -math.prod(x.shape[1:]) * math.log(2))


make_evaluator = functools.cache(likelihood.make_evaluator)  # compiling is what takes the time


def run(fn=noisy, rows=ROWS, prepare=PREPARE, batch_size=64, **options):
  evaluate = make_evaluator(fn, prepare, batch_size=batch_size)
  return evaluate({'scale': jnp.float32(2)}, rows, jax.random.key(3), **options)


def test_every_example_counts_once_whatever_the_batches_and_devices(devices):
  keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(jax.random.key(3), i)))(
    jnp.arange(len(ROWS)))
  x, log_det = PREPARE.with_log_det(ROWS, keys[:, 0])
  expected = np.asarray(noisy({'scale': 2.}, x, keys[:, 1]), np.float64) + log_det
  results = []
  for n, batch_size in ((4, 64), (4, 1), (1, 7), (2, 64)):
    devices(n)
    results.append(run(batch_size=batch_size))
  assert all(r == results[0] for r in results)  # bit for bit
  assert results[0].n == len(ROWS)
  assert results[0].nonfinite == 0
  np.testing.assert_allclose(results[0].mean, expected.mean(), rtol=1e-6)
  np.testing.assert_allclose(
    results[0].sem, expected.std(ddof=1) / math.sqrt(len(ROWS)), rtol=1e-4)


def test_memory_maps_read_as_arrays(tmp_path):
  np.save(tmp_path / 'rows.npy', ROWS)
  assert run(rows=np.load(tmp_path / 'rows.npy', mmap_mode='r')) == run()


def test_another_key_draws_anew():
  arguments = noisy, {'scale': jnp.float32(2)}, ROWS, PREPARE
  other = likelihood.log_likelihood(*arguments, jax.random.key(4), batch_size=64)
  assert other.mean != run().mean
  assert likelihood.log_likelihood(*arguments, jax.random.key(3), batch_size=64) == run()


@pytest.mark.parametrize('prepare', [
  PREPARE, Prepare(levels=256, low=0.), Prepare(levels=16, low=-.5, high=.5)])
def test_uniform_model_has_log2_levels_bits_per_dim(prepare):
  def fn(variables, x, keys):
    per_dim = uniform(variables, x, keys) / math.log(2)
    return per_dim * math.log(prepare.high - prepare.low)

  rows = (ROWS.astype(int) % prepare.levels).astype(np.uint8)
  result = run(fn, rows=rows, prepare=prepare)
  assert result.bits_per_dim == pytest.approx(math.log2(prepare.levels), abs=1e-5)
  assert result.bits_per_dim_sem == pytest.approx(0, abs=1e-6)
  assert result.mean == pytest.approx(-6 * math.log(prepare.levels), rel=1e-6)


def test_log_det_is_added_in_float64():
  # In float32 the last digit of 15,000 nats is 1e-3.
  rows = np.zeros((8, 32, 32, 3), np.uint8)
  values = jnp.float32(1e-4)
  prepare = Prepare(levels=256)
  result = run(lambda v, x, keys: jnp.full(x.shape[0], values), rows=rows, prepare=prepare)
  log_det = prepare.with_log_det(rows[:1], jax.random.key(0))[1]
  assert result.mean - float(log_det[0]) == pytest.approx(1e-4, rel=1e-4)


def test_bits_are_none_where_they_mean_nothing():
  table = ROWS.reshape(len(ROWS), -1).astype(np.float32)
  gauss = lambda v, x, keys: -jnp.square(x).reshape(x.shape[0], -1).sum(1) / 2
  assert run(gauss, rows=table, prepare=Prepare()).bits_per_dim is None
  assert run(gauss, prepare=Prepare(levels=256, dequantize='none')).bits_per_dim is None
  assert run(gauss, rows=ROWS.astype(np.float32)).bits_per_dim is None
  assert 'bits' not in str(run(gauss, rows=table, prepare=Prepare()))


@pytest.mark.parametrize(('value', 'check'), [(math.nan, math.isnan), (-math.inf, math.isinf)])
def test_nonfinite_values_are_counted_and_stay_in_the_mean(value, check):
  def fn(variables, x, keys):
    return jnp.where(x[:, 0] > 100, value, x[:, 0])

  table = np.zeros((50, 1), np.float32)
  table[[3, 49]] = 200
  result = run(fn, rows=table, prepare=Prepare())
  assert result.nonfinite == 2
  assert result.n == 50
  assert check(result.mean)
  assert '2 not finite' in str(result)


def test_padding_of_the_last_batch_is_no_example():
  # The last row, which pads, is the only one that is not zero.
  table = np.zeros((5, 1), np.float32)
  table[-1] = 1
  result = run(lambda v, x, keys: x[:, 0], rows=table, prepare=Prepare(), batch_size=4)
  assert (result.n, result.mean) == (5, .2)


def test_one_program_serves_all_variables():
  traces = []

  def fn(variables, x, keys):
    traces.append(x.shape)
    return noisy(variables, x, keys)

  evaluate = likelihood.make_evaluator(fn, PREPARE, batch_size=16)
  means = {evaluate({'scale': jnp.float32(s)}, ROWS, jax.random.key(0)).mean for s in range(3)}
  assert len(traces) == 1
  assert len(means) == 3


def test_cond_rows_reach_their_examples(devices):
  devices(2)
  fn = lambda v, x, keys, cond: cond.astype(jnp.float32) - x[:, 0]
  table = np.arange(11, dtype=np.float32)[:, None]
  result = run(fn, rows=table, prepare=Prepare(), batch_size=4, cond=np.arange(11))
  assert (result.mean, result.sem) == (0, 0)


def test_refuses_what_would_be_another_figure():
  with pytest.raises(ValueError, match='150 examples, got 149 rows'):
    run(split_size=150)
  assert run(split_size=149).n == 149
  with pytest.raises(ValueError, match='no examples, got 0'):
    run(rows=ROWS[:0])
  with pytest.raises(ValueError, match='one number per example'):
    run(lambda v, x, keys: noisy(v, x, keys).sum())
  with pytest.raises(ValueError, match='flip must be off'):
    run(prepare=dataclasses.replace(PREPARE, flip=True))
  with pytest.raises(ValueError, match='cond must have one row per example: 149, got 2'):
    run(cond=np.zeros(2))
  with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
    run(batch_size=0)
