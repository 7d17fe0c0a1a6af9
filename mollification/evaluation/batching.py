"""Rows in fixed-size padded batches through a function mapped over the local devices."""
import contextlib
import contextvars

import jax
import numpy as np

from mollification import parallel

_HEAR = contextvars.ContextVar('hear', default=lambda: None)


@contextlib.contextmanager
def heard(hear):
  """Context in which `hear()` is called after each batch of `map_rows`: a sign of life.

  What it raises ends the rows. Of several processes each calls it as often, in samplers and
  evaluators that they share.
  """
  token = _HEAR.set(hear)
  try:
    yield
  finally:
    _HEAR.reset(token)


def sign():
  """Call what listens in `heard`, for batches that go another way than through `map_rows`."""
  _HEAR.get()()


def round_up(batch_size):
  """`batch_size` raised to a multiple of the local devices.

  Evaluation may round where training must not: no figure here depends on the size of a batch.
  Raises ValueError below 1.
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}.')
  n = jax.local_device_count()
  return -(-batch_size // n) * n


def map_rows(mapped, context, count, batch_size, *, first=0, arrays=()):
  """Yields (slice, outputs): outputs [b, ...] on the host, of rows first, ..., first + count - 1.

  `mapped` comes from `parallel.pmap_examples`; it is called with `context`, the rows' *indices*
  [B] (int32) and the rows of each array in `arrays` ([count, ...], row 0 being example `first`).
  The last batch is padded with copies of its last row, so one program serves all, and the padding
  never leaves this function; an array may be shorter, then its own last row is repeated. `slice`
  says which of the `count` rows the outputs belong to.
  """
  size = round_up(batch_size)
  context = parallel.place(context)
  # One batch is in flight while the one before is read: the devices do not wait for the host.
  pending = None
  for start in range(0, count, size):
    stop = min(start + size, count)
    index = np.arange(first + start, first + start + size, dtype=np.int32)
    inputs = [pad(np.asarray(a[min(start, len(a) - 1):stop]), size) for a in arrays]
    outputs = mapped(context, *parallel.shard([index, *inputs]))
    if pending is not None:
      yield _read(*pending)
    pending = slice(start, stop), outputs
  if pending is not None:
    yield _read(*pending)


def pad(rows, size):
  """`rows` [b, ...] followed by copies of the last one: [size, ...]."""
  if len(rows) == size:
    return rows
  return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _read(where, outputs):
  outputs = parallel.gather(outputs)
  sign()
  return where, jax.tree.map(lambda a: a[:where.stop - where.start], outputs)
