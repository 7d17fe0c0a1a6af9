"""Devices and processes: the only file that says `jax.pmap`.

The state is replicated but carries no device axis (`in_axes=None`, `out_axes=None`): it is saved,
printed and compared as it is. Batches carry one: [n, B/n, ...], n local devices.
"""
import functools
import hashlib
import json
import math
import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mollification import rng

AXIS = 'batch'


def check_batch_size(batch_size, num_devices):
  """Raise ValueError unless `batch_size` splits evenly over `num_devices` (all processes')."""
  if batch_size < 1 or batch_size % num_devices:
    nearest = max(batch_size - batch_size % num_devices, num_devices)
    raise ValueError(f'batch_size {batch_size} must be divisible by the {num_devices} devices; '
                     f'nearest: {nearest}.')


def place(tree):
  """`tree` replicated over the local devices.

  A state fresh from init or from a checkpoint sits on one device; unplaced, the pmapped step
  would be compiled once for it and once more for its own output.
  """
  return jax.device_put(tree, _replicated())


def abstract(shapes):
  """`jax.ShapeDtypeStruct`s of a placed tree: what a checkpoint is restored into."""
  sharding = _replicated()
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes)


def _replicated():
  return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())


def shard(tree, axis=0):
  """Split `axis` of every array over the local devices: [.., B, ..] -> [.., n, B/n, ..]."""
  n = jax.local_device_count()

  def split(a):
    return a.reshape(*a.shape[:axis], n, a.shape[axis] // n, *a.shape[axis + 1:])

  return jax.tree.map(split, tree)


def gather(tree):
  """Sharded outputs [n, B/n, ...] as host arrays [B, ...]."""
  return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), jax.device_get(tree))


def join_processes():
  """Join the other processes where the environment names them, before anything runs on a device.

  JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID; raises
  ValueError where the first is given without the others.
  """
  names = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
  found = [os.environ[name] for name in names if os.environ.get(name, '')]
  if not os.environ.get(names[0], ''):
    return
  if len(found) < len(names) or not (found[1] + found[2]).isdecimal():
    raise ValueError(f'{names[0]} is set, so {names[1]} and {names[2]} must be whole numbers, got '
                     f'{found[1:]}; unset it for a single process.')
  jax.distributed.initialize(found[0], int(found[1]), int(found[2]))


def together(fn):
  """What `fn()` returns; where it raises in one process, all of them raise.

  The others would wait for that one at their next exchange until the runtime gives up, minutes
  later, and with no word of why. Every process must call it.
  """
  result, error = None, None
  try:
    result = fn()
  except Exception as own:   # what it is, is for the caller
    error = own
  failed = [bool(found['failed'][0])
            for found in all_processes({'failed': np.array([error is not None])})]
  if error is not None:
    raise error
  if any(failed):
    raise RuntimeError(f'process {failed.index(True)} of {len(failed)} stopped with an error, '
                       'which it names itself; mend that and start all of them again.')
  return result


def check_same(what, values):
  """Raise ValueError, in every process, unless all have the same `values`, which JSON holds."""
  text = json.dumps(values, sort_keys=True)
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32)
  digests = {found['digest'].tobytes() for found in all_processes({'digest': digest})}
  if len(digests) > 1:
    raise ValueError(f'all processes must have the same {what}, got {text} in process '
                     f'{jax.process_index()} and another one elsewhere; give all of them the same '
                     'command, files and package.')


def all_processes(tree):
  """Host arrays [B, ..., F] of every process, in order: a list of trees, the same everywhere.

  Every process must call it, with the same shapes. Types of 8 bytes travel as pairs of 4, since JAX
  would halve them.
  """
  if jax.process_count() == 1:
    return [tree]
  narrow = jax.tree.map(lambda a: a.view(np.uint32) if a.dtype.itemsize == 8 else a, tree)
  gathered = multihost_utils.process_allgather(narrow)
  return [jax.tree.map(lambda a, own: np.asarray(a[i]).view(own.dtype), gathered, tree)
          for i in range(jax.process_count())]


def with_global_keys(train_step):
  """The mapped body (state, batch, key, level, cond, mask) -> (state, metrics).

  Derives each example's keys from `fold_in(key, state.step)` and its position in the *global*
  batch, so that no draw depends on the number of devices.
  """

  def body(state, batch, key, level, cond=None, mask=None):
    local = jax.tree.leaves(batch)[0].shape[0]
    first = jax.lax.axis_index(AXIS) * local
    keys = rng.step_keys(key, state.step, first, local)
    return train_step(state, batch, *keys, level, cond, mask)

  return body


def scanned(body):
  """S updates in one call: batches, cond and mask [S, B/n, ...], levels [S], metrics [S]."""

  def many(state, batches, key, levels, cond=None, mask=None):
    def one(state, inputs):
      batch, level, cond, mask = inputs
      return body(state, batch, key, level, cond, mask)

    return jax.lax.scan(one, state, (batches, levels, cond, mask))

  return many


def pmap_step(train_step, *, steps_per_call=1):
  """The update as one program over all devices; it donates the state.

  Call with (state, batch [n, B/n, ...], key, level [], cond, mask) or, for `steps_per_call` > 1,
  with batches [S, n, B/n, ...] and levels [S]. Arguments are positional: pmap maps every keyword
  argument over the devices.
  """
  body = with_global_keys(train_step)
  data = 0
  if steps_per_call > 1:
    body, data = scanned(body), 1
  return jax.pmap(body, axis_name=AXIS, in_axes=(None, data, None, None, data, data),
                  out_axes=None, donate_argnums=0)


def pmap_examples(fn):
  """`fn(variables, *per_example arrays)` over all local devices, per-example outputs sharded.

  `fn` sees [B/n, ...] of each array and the whole of `variables`; call with `shard`ed arrays and
  read with `gather`.
  """

  @functools.cache
  def mapped(arity):
    return jax.pmap(fn, axis_name=AXIS, in_axes=(None, *([0] * arity)))

  return lambda variables, *arrays: mapped(len(arrays))(variables, *arrays)


def pmap_runs(fn):
  """`fn(*shared, state, *own) -> (state, outputs)` of one run as a program of R runs.

  Call with (data, mask, states, keys, levels, indices): the first two are shared, the leaves of the
  others are [R, ...], and so are those of what comes back. Runs are split over as many local
  devices as divide R, and on each are mapped by `lax.map`, one after another: on CPU `vmap` makes
  batched matmuls of theirs, which take 1.7 times as long, and both arms of the step's `cond`.
  """

  def many(data, mask, *own):
    return jax.lax.map(lambda inputs: fn(data, mask, *inputs), own)

  mapped = functools.cache(lambda devices: jax.pmap(
    many, in_axes=(None, None, 0, 0, 0, 0), devices=devices))

  def call(data, mask, *own):
    runs = len(jax.tree.leaves(own)[0])
    devices = tuple(jax.local_devices()[:math.gcd(runs, jax.local_device_count())])
    split = lambda a: a.reshape(len(devices), runs // len(devices), *a.shape[1:])
    joined = mapped(devices)(data, mask, *jax.tree.map(split, own))
    return jax.tree.map(lambda a: a.reshape(runs, *a.shape[2:]), joined)

  return call
