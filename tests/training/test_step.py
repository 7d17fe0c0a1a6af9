"""The update alone, under vmap in place of pmap: devices, draws, skipping, EMA, accumulation."""
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


def _loss(params, model_state, x, keys, progress, cond, mask):
  """A regression with model noise, a metric and a running mean: every path of the update."""
  noise = jax.vmap(lambda key: jax.random.normal(key, (D,)))(keys)
  loss = jnp.square((x + .1 * noise) @ params['w'] - 1.).sum(-1) + progress
  keep = jnp.ones(len(x), bool) if mask is None else mask
  seen = {'stats': {'mean': jnp.where(keep[:, None], x, 0.).mean(0)}}
  return loss, {'first': x[:, 0]}, seen, .01 * jnp.square(params['w']).sum()


def _state(tx, ema=False):
  variables = {'params': {'w': jnp.ones((D, 2))}, 'stats': {'mean': jnp.zeros(D)}}
  return TrainState.create(variables, tx, ema=ema)


def _step(tx=None, mollify=mollifiers.gaussian, **options):
  return functools.partial(train_step, prepare=lambda batch, keys: batch, mollify=mollify,
                           loss_fn=_loss, tx=tx or optax.sgd(.1), total_steps=10, **options)


def _run(step, state, batch, level=.5, devices=1, mask=None, updates=1):
  """`updates` updates over so many vmapped shards; the state of the first is that of all."""
  body = jax.jit(jax.vmap(parallel.with_global_keys(step), axis_name='batch',
                          in_axes=(None, 0, None, None, None, 0), out_axes=None))
  shards = lambda a: None if a is None else a.reshape(devices, -1, *a.shape[1:])
  for _ in range(updates):
    state, metrics = body(state, shards(batch), rng.purpose_key(0, 'train'), level, None,
                          shards(mask))
  return state, metrics


def _batch():
  return jnp.asarray(np.random.default_rng(0).normal(size=(B, D)), jnp.float32)


@pytest.mark.parametrize('devices', [2, 4])
def test_devices_do_not_change_the_update(devices):
  """Promise 4: same loss and parameters to 1e-6 (SGD)."""
  tx = optax.sgd(.01)
  one, metrics = _run(_step(tx), _state(tx), _batch(), updates=3)
  many, many_metrics = _run(_step(tx), _state(tx), _batch(), devices=devices, updates=3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), one, many)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), metrics,
               many_metrics)


def test_mask_leaves_padded_rows_out():
  """Also where the shards hold different numbers of them."""
  batch = jnp.concatenate([_batch()[:5], jnp.full((3, D), 1e30)])   # 1e30² overflows
  mask = jnp.arange(B) < 5
  clean = lambda devices: _run(_step(mollify=mollifiers.identity), _state(optax.sgd(.1)), batch,
                               devices=devices, mask=mask)
  (one, metrics), (four, _) = clean(1), clean(4)
  assert float(metrics['first']) == pytest.approx(float(_batch()[:5, 0].mean()), rel=1e-5)
  assert np.isfinite(one.params['w']).all()
  np.testing.assert_allclose(one.params['w'], four.params['w'], rtol=1e-5)
  assert not np.allclose(one.params['w'], 1.)


@pytest.mark.parametrize('where', ['batch', 'gradient'])
def test_a_non_finite_update_changes_nothing_but_counters(where):
  """Promise 10, and that the row of failures ends with the first good update."""
  tx = optax.adam(.1)
  state, _ = _run(_step(tx, ema_decay=.9), _state(tx, ema=True), _batch())
  if where == 'batch':
    bad = _batch().at[B - 1, 0].set(jnp.nan)
    after, metrics = _run(_step(tx, ema_decay=.9), state, bad, devices=2)
  else:   # a finite loss whose gradient is not: sqrt at 0
    def loss(params, model_state, x, *rest):
      return (jnp.sqrt(0. * params['w']).sum() + x.sum(-1), {}, model_state, jnp.zeros(()))
    step = functools.partial(_step(tx, ema_decay=.9).func, **{
      **_step(tx, ema_decay=.9).keywords, 'loss_fn': loss})
    after, metrics = _run(step, state, _batch(), devices=2)
    assert np.isfinite(metrics['loss'])
  kept = ('params', 'model_state', 'opt_state', 'ema_params')
  for name in kept:
    jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(after, name))
  assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (2, 1, 1)
  assert int(metrics['skipped_in_row']) == 1
  good, _ = _run(_step(tx, ema_decay=.9), after, _batch())
  assert (int(good.step), int(good.skipped), int(good.skipped_in_row)) == (3, 1, 0)
  assert not np.array_equal(good.params['w'], after.params['w'])


def test_ema_follows_the_parameters():
  state = _state(optax.sgd(.1), ema=True)
  after, _ = _run(_step(ema_decay=.75), state, _batch())
  expected = .75 * state.params['w'] + .25 * after.params['w']
  np.testing.assert_allclose(after.ema_params['w'], expected, rtol=1e-6)
  assert _run(_step(), _state(optax.sgd(.1)), _batch())[0].ema_params is None


def test_level_0_is_vanilla_training_bit_for_bit():
  state = lambda: _state(optax.sgd(.1))
  gaussian, _ = _run(_step(), state(), _batch(), level=0.)
  vanilla, _ = _run(_step(mollify=mollifiers.identity), state(), _batch(), level=0.)
  np.testing.assert_array_equal(gaussian.params['w'], vanilla.params['w'])
  noisy, _ = _run(_step(), state(), _batch(), level=.5)
  assert not np.array_equal(noisy.params['w'], vanilla.params['w'])


def test_the_penalty_is_added_once():
  plain, metrics = _run(_step(), _state(optax.sgd(.1)), _batch())
  grad = (1. - np.asarray(plain.params['w'])) / .1

  def without(params, *rest):
    loss, aux, seen, _ = _loss(params, *rest)
    return loss, aux, seen, jnp.zeros(())
  step = functools.partial(train_step, **{**_step().keywords, 'loss_fn': without})
  other, _ = _run(step, _state(optax.sgd(.1)), _batch(), devices=2)
  np.testing.assert_allclose(grad - (1. - np.asarray(other.params['w'])) / .1, .02, atol=1e-4)
  assert float(metrics['level']) == .5


def test_progress_is_the_share_of_updates_done():
  def loss(params, model_state, x, keys, progress, cond, mask):
    return progress + 0. * (x @ params['w']).sum(-1), {}, model_state, jnp.zeros(())
  step = functools.partial(train_step, **{**_step().keywords, 'loss_fn': loss})
  state = _state(optax.sgd(.1)).replace(step=jnp.asarray(5))
  assert float(_run(step, state, _batch())[1]['loss']) == pytest.approx(.5)   # 5 of 10
