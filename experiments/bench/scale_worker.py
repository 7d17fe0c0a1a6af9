"""What `bench.scale` has a process of its own do: reads a word a line, answers with a number.

It is waited for between two words, and takes no time meanwhile. Of all but `cores` the number is of
seconds.

  update   one update of the VAE that is sliced, at batch `--batch`, on all devices
  gradient of it, each device's gradient of its part of the batch
  averaged of it, that and the average over devices
  adam     of it, these and the optimiser, which each device runs on all parameters
  cores    how many cores such an update keeps busy, in the mean
  bare     `CALLS` calls of a loop whose update is a pause of `PAUSE` seconds, batches at hand
  fed      the same with batches that are gathered anew for each call
  input    the gathering of as many batches, alone
"""
import argparse
import contextlib
import dataclasses
import functools
import io
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import cifar10_vae
from experiments.bench import rows, step
from mollification import allocator, build, parallel
from mollification.data import dataset
from mollification.training import loop
from mollification.training.run import Run
from mollification.training.state import TrainState

SLICE = 'model.widths=(32,64,128,256)'
EVENT = (32, 32, 3)
PAUSE, CALLS, FIRST = .2, 20, 3   # seconds of a call; calls that count, after so many that do not
INPUT_BATCH, IMAGES = 32_768, 50_000


def vae_update(batch_size, make_step=None):
  """() -> None: one update, on a state that goes on; of `make_step(config)` if that is given."""
  config = cifar10_vae.get_config(f'batch_size={batch_size},{SLICE}')
  batch = np.random.default_rng(0).integers(0, 256, (batch_size, *EVENT), dtype=np.uint8)
  state = build.create_state(config, batch, 256, step.LEVEL)
  train_step = make_step(config) if make_step else build.train_step(config, EVENT, 256)
  return step.calls(train_step, 1, state, parallel.shard(batch), np.float32(step.LEVEL))


def _gradient(config, averaged, adam=False):
  """An update that ends early; without its optimiser it moves the parameters by a hair."""
  prepare, loss_fn = build.prepare_fn(config, 256), build.loss_fn(build.model(config, EVENT))
  tx = build.optimizer(config)

  def update(state, batch, data_keys, noise_keys, model_keys, *_):
    x = prepare(batch, data_keys)
    del noise_keys
    loss = lambda params: loss_fn(params, state.model_state, x, model_keys, 0., None,
                                  None)[0].mean()
    grads = jax.grad(loss)(state.params)
    if averaged:
      grads = jax.lax.pmean(grads, parallel.AXIS)
    if adam:
      updates, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      return dataclasses.replace(state, params=params, opt_state=opt_state), {}
    params = jax.tree.map(lambda p, g: p - 1e-9 * g, state.params, grads)
    return dataclasses.replace(state, params=params), {}

  return update


_gradient_alone = functools.partial(_gradient, averaged=False)
_gradient_averaged = functools.partial(_gradient, averaged=True)
_gradient_and_adam = functools.partial(_gradient, averaged=True, adam=True)


def _pausing_step(state, batch, data_keys, noise_keys, model_keys, level, cond, mask):
  """An update that occupies the device and no core: the batch arrives, and a callback waits."""
  del data_keys, noise_keys, model_keys, level, cond, mask
  seen = batch.ravel()[0].astype(jnp.int32)
  waited = jax.pure_callback(_pause, jax.ShapeDtypeStruct((), jnp.int32), seen)
  zero = jnp.zeros((), jnp.int32)
  return (dataclasses.replace(state, step=state.step + 1 + waited),
          {'loss': jnp.float32(0), 'skipped_in_row': zero})


def _pause(seen):
  """Python, for whose interpreter it has to wait: hence the short switch interval of `main`."""
  time.sleep(PAUSE)
  return np.int32(0)


@functools.cache
def _gather():
  """(first update, count) -> batch [count, B, *event], as `build.host_batch` makes it."""
  config = cifar10_vae.get_config(f'batch_size={INPUT_BATCH}')
  images = np.random.default_rng(0).integers(0, 256, (IMAGES, *EVENT), dtype=np.uint8)
  return functools.partial(build.host_batch, config, dataset.Split('train', images))


def paused_loop(fed):
  """Seconds of `CALLS` calls of the training loop, with its input or with batches at hand."""
  gather, times = _gather(), []
  ready = gather(0, 1)

  def batch(first, count):
    times.append(time.perf_counter())
    return gather(first, count) if fed else ready

  zero = lambda: jnp.zeros((), jnp.int32)   # a buffer each: they are donated
  # (One leaf more than six in all, which jax 0.10's pmap would take for its six arguments.)
  state = TrainState(step=zero(), params={'w': zero()}, model_state={}, opt_state={},
                     ema_params=None, skipped=zero(), skipped_in_row=zero())
  total = FIRST + CALLS + 1
  run = Run(
    create_state=lambda: parallel.place(state), train_step=_pausing_step,
    schedule=lambda step: jnp.zeros(()), batch=batch, evaluate=None, sample=None, data={},
    overview='', seed=0, total_steps=total, mollified_steps=0, batch_size=INPUT_BATCH,
    steps_per_call=1, max_nonfinite=10, log_every=0, log_stdout=False, tensorboard=False,
    watchdog=0., eval_every=0, sample_every=0, patience=0, best_metric='', save_every=0, keep=1,
    keep_every=0)
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
    loop.train(run, folder)
  return times[-1] - times[FIRST]


def input_seconds():
  """Seconds that the batches of `CALLS` calls take by themselves."""
  gather = _gather()
  return rows.seconds_of(lambda: [parallel.shard(gather(FIRST + i, 1), axis=1)
                                  for i in range(CALLS)])


def busy_cores(fn):
  """CPU seconds of one call of `fn` over its wall seconds."""
  start = time.process_time()
  seconds = rows.seconds_of(fn)
  return (time.process_time() - start) / seconds


def main():
  """Answer words from stdin until it ends."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--switch_interval', type=float, default=1e-4)   # Python's own is .005
  args = parser.parse_args()
  sys.setswitchinterval(args.switch_interval)
  allocator.keep_freed()
  update = functools.cache(functools.partial(vae_update, args.batch))
  answers = {'update': lambda: rows.seconds_of(update()), 'cores': lambda: busy_cores(update()),
             'gradient': lambda: rows.seconds_of(update(_gradient_alone)),
             'averaged': lambda: rows.seconds_of(update(_gradient_averaged)),
             'adam': lambda: rows.seconds_of(update(_gradient_and_adam)),
             'input': input_seconds, 'bare': lambda: paused_loop(False),
             'fed': lambda: paused_loop(True)}
  for word in sys.stdin:
    print(answers[word.strip()](), flush=True)


if __name__ == '__main__':
  main()
