"""Many runs of one small model in a single compiled program: seeds and schedules side by side.

Runs of a sweep differ in their keys, their order of the data and their curve of levels, all of
which are arrays here; whatever else they are made of they share. Data stay on the device, updates
and evaluations are scanned, and a run is the same function of its inputs as it is alone. Of
parameters that the loss does not depend on (a bias before a batch norm) Adam makes a random walk of
rounding errors, which differ between compiled programs: there alone do the two part.

Runs are spread over the local devices; those of one device go one after another (`lax.map`), which
is the faster way on CPU and was measured there alone: on an accelerator, which small models leave
idle, `vmap` would be the better one, and is not written. Of R runs as many devices are used as
divide R: of 3 runs on 4 devices one, of 6 two.
"""
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mollification import parallel
from mollification.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Made by `build_sweep.build_sweep`; R runs, P evaluations, S updates between them.

  create_states: () -> TrainState of all runs, leaves [R, ...]. update: (state, batch [B, *event],
  key, level, cond, mask [B]) -> (state, metrics) of one run, under the axis 'batch'. evaluate:
  (state, data, key) -> {name: array} of one run. data: {split: [N, *event]}; batches are rows of
  'train'. keys: {'train', 'refresh': [R]}, of updates and of evaluations. levels: float32
  [R, P, S]. order: (first evaluation, count) -> (int32 indices [R, count, S, B], bool mask
  [count, S, B]).
  """
  create_states: Callable[[], Any]
  update: Callable
  evaluate: Callable
  data: Any
  keys: dict
  levels: np.ndarray
  order: Callable[[int, int], tuple]
  evaluations_per_call: int


def train(sweep, folder=None, *, progress=None, stop=None):
  """(states, curves) of all runs after all updates; curves are {name: float32 [R, P, ...]}.

  A curve has a value per evaluation: those of `Sweep.evaluate`, `loss` (mean over the updates
  since the last, nats) and `skipped` (non-finite updates so far). With a `folder`, what is done is
  saved there after each call of the compiled program, and the same call goes on from it: the result
  is that of an uninterrupted one, bit for bit. `progress(done, total)` counts evaluations; after
  `stop.requested` None is returned once all is saved.
  """
  total, size = sweep.levels.shape[1], sweep.evaluations_per_call
  call = parallel.pmap_runs(_period(sweep))
  states = sweep.create_states()
  curves = _empty(call, sweep, states)
  with _saved(folder) as manager:
    done, found = 0, manager and checkpoint.restore(manager, _placed((states, curves)),
                                                    set_aside=True)
    if found:
      # From the host, as they came first: the compiled call spreads them over the devices.
      done, (states, curves) = found[0], jax.tree.map(np.asarray, found[1])
    for first in range(done, total, size):
      count = min(size, total - first)
      done = first + count
      indices, mask = sweep.order(first, count)
      states, found = call(sweep.data, mask, states, sweep.keys,
                           sweep.levels[:, first:done], indices)
      curves = {name: _put(curves[name], found[name], first) for name in curves}
      if manager is not None:
        checkpoint.save(manager, done, _placed((states, curves)))
      if progress is not None:
        progress(done, total)
      if stop is not None and stop.requested and done < total:
        return None
  return states, curves


def _period(sweep):
  """(data, mask, state, keys, levels [P, S], indices [P, S, B]) -> (state, {name: [P]}), a run."""
  update = parallel.alone(sweep.update)

  def run(data, mask, state, keys, levels, indices):
    def one(state, inputs):
      index, level, mask = inputs
      state, metrics = update(state, data['train'][index], keys['train'], level, None, mask)
      return state, metrics['loss']

    def period(state, inputs):
      state, loss = jax.lax.scan(one, state, inputs)
      return state, {**sweep.evaluate(state, data, keys['refresh']), 'loss': loss.mean(),
                     'skipped': state.skipped.astype(jnp.float32)}

    return jax.lax.scan(period, state, (indices, levels, mask))

  return run


def _empty(call, sweep, states):
  """Curves of NaN, as `train` returns them."""
  indices, mask = sweep.order(0, 1)
  _, found = jax.eval_shape(call, sweep.data, mask, states, sweep.keys, sweep.levels[:, :1],
                            indices)
  return {name: np.full((*sweep.levels.shape[:2], *a.shape[2:]), np.nan, np.float32)
          for name, a in found.items()}


def _put(curve, values, first):
  curve = np.array(curve)
  curve[:, first:first + values.shape[1]] = values
  return curve


def _placed(tree):
  """On one device, where Orbax takes and gives back what several may have computed."""
  return jax.device_put(jax.tree.map(np.asarray, tree), jax.local_devices()[0])


def _saved(folder):
  if folder is None:
    return contextlib.nullcontext()
  return checkpoint.manager(pathlib.Path(folder), keep=2)
