"""Real devices (four are forced): traces, draws, scan, and what the state looks like."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mollification import mollifiers, parallel, rng
from mollification.training.state import TrainState
from mollification.training.step import train_step

B, D = 8, 3
TRACES = []


def _loss(params, model_state, x, keys, progress, cond, mask):
  TRACES.append(1)
  return jnp.square(x @ params['w'] - 1.).sum(-1), {'x': x[:, 0]}, model_state, jnp.zeros(())


def _state():
  return parallel.place(TrainState.create({'params': {'w': jnp.ones((D, 2))}}, optax.adam(.1)))


def _step(**options):
  return functools.partial(train_step, prepare=lambda batch, keys: batch,
                           mollify=mollifiers.gaussian, loss_fn=_loss, tx=optax.adam(.1),
                           total_steps=10, **options)


def _batches(n):
  return np.random.default_rng(0).normal(size=(n, B, D)).astype(np.float32)


def _key():
  return parallel.place(rng.purpose_key(0, 'train'))


def test_one_trace_over_three_calls_fresh_and_restored():
  """Promise 10; a state back from a checkpoint is one laid out by `abstract`."""
  update = parallel.pmap_step(_step())
  TRACES.clear()
  state = _state()
  for batch in _batches(3):
    state, _ = update(state, parallel.shard(batch), _key(), .5, None, None)
  restored = jax.tree.map(lambda a, like: jax.device_put(np.asarray(a), like.sharding), state,
                          parallel.abstract(state))
  update(restored, parallel.shard(_batches(1)[0]), _key(), .5, None, None)
  assert len(TRACES) == 1


def test_the_state_is_donated():
  update = parallel.pmap_step(_step())
  state = _state()
  update(state, parallel.shard(_batches(1)[0]), _key(), .5, None, None)
  assert state.params['w'].is_deleted()


def test_scanned_updates_equal_single_ones():
  levels = jnp.array([.9, .5, 0.])
  single, state = parallel.pmap_step(_step()), _state()
  rows = []
  for batch, level in zip(_batches(3), levels):
    state, metrics = single(state, parallel.shard(batch), _key(), level, None, None)
    rows.append(jax.device_get(metrics))
  scanned = parallel.pmap_step(_step(), steps_per_call=3)
  many, metrics = scanned(_state(), parallel.shard(_batches(3), axis=1), _key(), levels, None,
                          None)
  assert int(many.step) == 3
  np.testing.assert_allclose(state.params['w'], many.params['w'], rtol=1e-6)
  for i, row in enumerate(rows):
    for name, value in row.items():
      np.testing.assert_allclose(value, metrics[name][i], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('size', [1, 3])
def test_a_device_alone_averages_nothing_and_computes_the_same(monkeypatch, size):
  """Over one device XLA on CPU would copy every gradient for its mean."""
  batches, key = _batches(size), rng.purpose_key(0, 'train')
  levels = np.linspace(.9, 0., size, dtype=np.float32)
  found, programs = [], []
  for count in (jax.device_count(), 1):
    monkeypatch.setattr(parallel, '_all_devices', lambda count=count: jax.devices()[:count])
    update = parallel.pmap_step(_step(), steps_per_call=size)
    split = batches.reshape(size, count, B // count, D)
    inputs = (split, levels) if size > 1 else (split[0], levels[0])
    inputs = (TrainState.create({'params': {'w': jnp.ones((D, 2))}}, optax.adam(.1)), inputs[0],
              key, inputs[1], None, np.ones(inputs[0].shape[:-1], bool))
    programs.append(update.lower(*inputs).compile().as_text())
    found.append(jax.device_get(update(*inputs)))
  assert ['all-reduce' in text for text in programs] == [True, False]
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *found)


def test_accumulation_equals_the_large_batch():
  results = []
  for parts in (1, 2):
    update = parallel.pmap_step(_step(accumulate=parts))
    state = _state()
    for batch in _batches(2):
      state, metrics = update(state, parallel.shard(batch), _key(), .5, None, None)
    results.append((state.params['w'], metrics))
  np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
  for name in ('loss', 'x', 'grad_norm'):
    np.testing.assert_allclose(results[0][1][name], results[1][1][name], rtol=1e-6)


@pytest.mark.parametrize('devices', [2, 4])
def test_draws_on_several_devices_are_those_on_one(devices):
  """Promise 2, on real devices: the noise itself, example by example."""
  @functools.partial(jax.pmap, axis_name='batch', in_axes=(0, None),
                     devices=jax.devices()[:devices])
  def noise(x, key):
    _, keys, _ = rng.step_keys(key, 7, jax.lax.axis_index('batch') * len(x), len(x))
    return mollifiers.gaussian(x, 1., keys)   # the noise alone, bit for bit

  x = jnp.asarray(_batches(1)[0])
  found = parallel.gather(noise(x.reshape(devices, -1, D), _key()))
  _, keys, _ = rng.step_keys(_key(), 7, 0, B)
  np.testing.assert_array_equal(found, mollifiers.gaussian(x, 1., keys))
  assert len(np.unique(found)) == B * D


def test_shard_and_gather_are_opposite():
  tree = {'a': np.arange(24).reshape(8, 3), 'b': np.arange(8)}
  back = parallel.gather(parallel.shard(tree))
  jax.tree.map(np.testing.assert_array_equal, back, tree)
  assert parallel.shard(_batches(5), axis=1).shape == (5, 4, 2, D)


@pytest.mark.parametrize('size, message', [(6, '6 must be divisible by the 4 devices; nearest: 4'),
                                           (3, 'nearest: 4'), (0, 'batch_size 0')])
def test_batch_size_must_fit_the_devices(size, message):
  with pytest.raises(ValueError, match=message):
    parallel.check_batch_size(size, 4)


@pytest.mark.parametrize('runs', [3, 4, 6])
def test_runs_that_do_not_divide_by_the_devices_use_fewer_of_them(runs):
  """As many as divide the runs; what comes back is the same, in order."""
  def fn(data, mask, state, key, levels, indices):
    return state + data, levels.sum() + indices

  call = parallel.pmap_runs(fn)
  own = np.arange(runs, dtype=np.float32)
  states, found = call(jnp.float32(10.), None, own, own, np.ones((runs, 5), np.float32), 2 * own)
  np.testing.assert_array_equal(states, own + 10)
  np.testing.assert_array_equal(found, 5 + 2 * own)
