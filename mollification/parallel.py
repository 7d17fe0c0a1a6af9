"""Devices and processes: the only file that says `jax.pmap`.

The state is replicated but carries no device axis (`in_axes=None`, `out_axes=None`): it is saved,
printed and compared as it is. Batches carry one: [n, B/n, ...], n local devices.
"""
import contextlib
import functools
import hashlib
import json
import math

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


def is_first():
  """Whether this process is the one that writes: the first, or the only one."""
  return jax.process_index() == 0


def several():
  """Whether this process is one of several."""
  return jax.process_count() > 1


def share(count):
  """The slice of `count` rows that is this process's to work on: blocks of equal size, in order."""
  size = -(-count // jax.process_count())
  return slice(min(jax.process_index() * size, count), min((jax.process_index() + 1) * size, count))


def batch_share(batch_size):
  """The slice of a global batch that is of this process's devices, as `pmap_step` orders them."""
  per_device = batch_size // jax.device_count()
  before = sum(device.process_index < jax.process_index() for device in jax.devices())
  return slice(before * per_device, (before + jax.local_device_count()) * per_device)


@contextlib.contextmanager
def together():
  """All processes leave this context, or none: where one raises an error, all do.

  Every process must enter it. Without that, those that are well would wait for the one that left.
  """
  error = None
  try:
    yield
  except Exception as raised:
    error = raised
  failed = [i for i, flag in enumerate(all_processes(np.array(error is not None))) if flag]
  if error is not None:
    raise error
  if failed:
    raise RuntimeError(f'process {failed[0]} of {jax.process_count()} failed, and so the others '
                       'stop; its own output says why.')


def by_first(write, *args):
  """`write(*args)` in the first process alone; where it fails all do. All must call this."""
  with together():
    if is_first():
      write(*args)


def of_first(value):
  """`value` (anything that JSON holds) as the first process has it; every process must call it."""
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  sent = np.zeros(size, np.uint8)
  if is_first():
    sent[:] = text
  return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(sent))).decode())


def state_of_first(tree):
  """A tree of arrays as the first process has it; every process must call it."""
  return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def any_process(flag):
  """An array [n] on the devices whose first entry says whether any process set `flag`.

  It is computed in turn with the updates: read it after the next one has been dispatched, and
  nothing waits for it. Every process must call it.
  """
  return _anywhere()(np.full(jax.local_device_count(), flag, np.int32))


@functools.cache
def _anywhere():
  return jax.pmap(lambda flag: jax.lax.pmax(flag, AXIS), axis_name=AXIS, devices=_all_devices())


def to_global(tree):
  """Replicated arrays of this process's devices as arrays of all processes', for Orbax to save."""
  if jax.process_count() == 1:
    return tree
  mesh = Mesh(np.array(_all_devices()), (AXIS,))
  return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def _all_devices():
  """Those of all processes, one process after the other: a batch is split in this order."""
  return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def check_same(what, values):
  """Raise ValueError, in every process, unless all have the same `values`, which JSON holds."""
  text = json.dumps(values, sort_keys=True)
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32)
  digests = {found['digest'].tobytes() for found in all_processes({'digest': digest})}
  if len(digests) > 1:
    raise ValueError(f'all processes must have the same {what}, got {text:.300} in process '
                     f'{jax.process_index()} and another one elsewhere; give all of them the same '
                     'command, files and package.')


def all_processes(tree):
  """Host arrays [B, ..., F] of every process, in order: a list of trees, the same everywhere.

  Every process must call it, with the same shapes. Types of 8 bytes (no scalars) travel as pairs of
  4, since JAX would halve them.
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
    # A device alone is not asked for its index, by which all would depend on the axis (`alone`).
    first = jax.lax.axis_index(AXIS) * local if jax.lax.axis_size(AXIS) > 1 else 0
    keys = rng.step_keys(key, state.step, first, local)
    return train_step(state, batch, *keys, level, cond, mask)

  return body


def alone(body):
  """`body` of a single device: its collective axis has one entry, and nothing is averaged over it.

  In a program of one device XLA on CPU makes copies of all gradients for their mean: 4 to 12 % of
  an update of the tabular flows (one core, `experiments.bench`).
  """
  return jax.vmap(body, axis_name=AXIS, axis_size=1, in_axes=None, out_axes=None)


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
  devices = _all_devices()
  if len(devices) == 1:
    body = alone(body)
  return jax.pmap(body, axis_name=AXIS, in_axes=(None, data, None, None, data, data),
                  out_axes=None, donate_argnums=0, devices=devices)


def pmap_examples(fn):
  """`fn(variables, *per_example arrays)` over all local devices, per-example outputs sharded.

  `fn` sees [B/n, ...] of each array and the whole of `variables`; call with `shard`ed arrays and
  read with `gather`.
  """

  @functools.cache
  def mapped(arity):
    return jax.pmap(fn, axis_name=AXIS, in_axes=(None, *([0] * arity)),
                    devices=jax.local_devices())

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
