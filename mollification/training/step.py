"""The update: pure, one screen, given everything it uses; no config, no I/O, no model.

`parallel.pmap_step` maps it over devices. Functions are bound by `functools.partial`, arrays stay
positional.
"""
import functools

import jax
import jax.numpy as jnp
import optax

from mollification.training.state import TrainState

AXIS = 'batch'


def train_step(state, batch, data_keys, noise_keys, model_keys, level, cond=None, mask=None, *,
               prepare, mollify, loss_fn, tx, total_steps, ema_decay=0., accumulate=1):
  """One update: (state, metrics). Call it under the collective axis 'batch'.

  batch: this device's shard [B, *event] as it is stored; level: [] in [0, 1], 0 = clean;
  *_keys: [B]; cond: [B, ...] or None; mask: bool [B], False for padded rows, or None.
  prepare: (batch, keys) -> x in model units. mollify: (x, level, keys) -> x.
  loss_fn: (params, model_state, x, keys, progress, cond, mask)
    -> (loss [B] in nats, {name: [B]}, model_state, penalty []).
  accumulate: number of equal parts whose gradients are summed before the one update; part i is of
    the examples i, i + accumulate, ... of the global batch.
  Metrics are means over the global batch. An update whose loss or gradient is not finite keeps
  params, model_state, opt_state and EMA as they were; `step` still advances.
  """
  x = prepare(batch, data_keys)
  x = mollify(x, level, noise_keys)   # the one line

  progress = state.step / total_steps
  grads, terms, model_state = _gradients(loss_fn, state, (x, model_keys, cond, mask), progress,
                                         accumulate)
  grads, terms, model_state = _mean_over_devices((grads, terms, model_state))

  # Ready before the norm: fused into its sum, what makes them is slow on a CPU and made twice.
  grads = jax.lax.optimization_barrier(grads)
  grad_norm = optax.tree.norm(grads)
  finite = jnp.isfinite(terms['loss']) & jnp.isfinite(grad_norm)
  params, opt_state, ema_params = jax.lax.cond(
    finite, functools.partial(_apply, tx, ema_decay), _keep, grads, state)
  model_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), model_state, state.model_state)

  state = TrainState(
    step=state.step + 1, params=params, model_state=model_state, opt_state=opt_state,
    ema_params=ema_params, skipped=state.skipped + ~finite,
    skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1))
  return state, {**terms, 'grad_norm': grad_norm, 'level': level, 'skipped': state.skipped,
                 'skipped_in_row': state.skipped_in_row}


def _apply(tx, ema_decay, grads, state):
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return params, opt_state, _ema(state.ema_params, params, ema_decay)


def _keep(grads, state):
  """What `_apply` returns, as it was.

  Not by `where` over the new values: they come from the old ones, which then cannot be written
  over, and the copies made Adam of 2.8 M parameters take 7 ms in place of 2.7 on a CPU core.
  """
  del grads
  return state.params, state.opt_state, state.ema_params


def _gradients(loss_fn, state, inputs, progress, accumulate):
  """(grads, {name: mean}, model_state) of this device's shard, in `accumulate` equal parts."""
  batch_size, mask = len(inputs[0]), inputs[3]
  # The mean is over all real examples of the global batch, however they fall on the devices.
  count = batch_size if mask is None else jax.lax.pmean(mask.sum(), AXIS)

  def objective(params, model_state, part):
    x, keys, cond, mask = part
    loss, metrics, model_state, penalty = loss_fn(params, model_state, x, keys, progress, cond,
                                                  mask)
    terms = {name: _sum(v, mask) / count for name, v in {'loss': loss, **metrics}.items()}
    return terms['loss'] + penalty / accumulate, (terms, model_state)

  gradient = jax.grad(objective, has_aux=True)
  if accumulate == 1:
    grads, (terms, model_state) = gradient(state.params, state.model_state, inputs)
    return grads, terms, model_state

  def add(carry, part):
    total, model_state = carry
    grads, (terms, model_state) = gradient(state.params, model_state, part)
    return (jax.tree.map(jnp.add, total, grads), model_state), terms

  # Every so manyth example: a part is of the same ones on any number of devices.
  order = jnp.arange(batch_size).reshape(-1, accumulate).T
  parts = jax.tree.map(lambda a: a[order], inputs)
  zeros = jax.tree.map(jnp.zeros_like, state.params)
  (grads, model_state), terms = jax.lax.scan(add, (zeros, state.model_state), parts)
  return grads, jax.tree.map(lambda v: v.sum(0), terms), model_state


def _sum(values, mask):
  return (values if mask is None else jnp.where(mask, values, 0.)).sum()


def _mean_over_devices(tree):
  return jax.tree.map(
    lambda a: jax.lax.pmean(a, AXIS) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _ema(ema_params, params, decay):
  if ema_params is None:
    return None
  return jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, ema_params, params)
