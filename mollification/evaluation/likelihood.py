"""Log-likelihood of a whole split, in nats per example and in bits/dim."""
import dataclasses
import math

import jax
import numpy as np

from mollification import metrics, parallel, rng
from mollification.evaluation import batching


@dataclasses.dataclass(frozen=True)
class Result:
  """Mean log-likelihood of a split.

  `moments` are over examples, in nats, in units of the *stored* data (prepare's log-det is in);
  `bits_per_dim` = -LL / (D ln 2) and its standard error, None where the data are not integers or
  were not dequantised; `nonfinite` counts the examples whose value is NaN or infinite: they are
  in the mean, which is then NaN or infinite too.
  """
  moments: metrics.Moments
  nonfinite: int
  bits_per_dim: float | None
  bits_per_dim_sem: float | None

  @property
  def mean(self):
    """Mean log-likelihood in nats per example."""
    return self.moments.mean

  @property
  def sem(self):
    """Standard error of `mean`, over the examples."""
    return self.moments.sem

  @property
  def n(self):
    """Number of examples."""
    return self.moments.count

  def __str__(self):
    text = f'{self.moments} nats/example'
    if self.bits_per_dim is not None:
      text += f', {self.bits_per_dim:.4f} ± {self.bits_per_dim_sem:.4f} bits/dim'
    return text + (f', {self.nonfinite} not finite' if self.nonfinite else '')


def make_evaluator(fn, prepare, *, batch_size):
  """evaluate(variables, x_rows, key, *, split_size=None, cond=None) -> Result, compiled once.

  `fn(variables, x [B, *event], keys [B]) -> [B]` is the model's log-likelihood in nats, in model
  space; with `cond` it is called with the rows of `cond` as a fourth argument. `prepare` must not
  flip: a split is evaluated as it is stored. `x_rows` [N, *event] is an array or a memory map,
  uint8 or float32. Keep the evaluator: each new one compiles anew, while variables may change.

  The draws (dequantisation, and the model's own) are functions of `key` and the index of the
  example in `x_rows`; neither batch size nor number of devices changes them. Several processes
  share the rows, in equally many batches: all must call it, and all get the same Result.

  Raises ValueError for a flipping prepare, an empty split, `len(x_rows) != split_size`, `cond` of
  another length, and a `fn` that does not return [B].
  """
  if getattr(prepare, 'flip', False):
    raise ValueError('prepare.flip must be off in evaluation, where a split is taken as stored; '
                     'use dataclasses.replace(prepare, flip=False).')
  batching.round_up(batch_size)
  mapped = parallel.pmap_examples(_example_values(fn, prepare))

  def evaluate(variables, x_rows, key, *, split_size=None, cond=None):
    n = len(x_rows)
    _check_rows(n, split_size, cond)
    # As many batches in all processes, which may leave between two: what is beyond n is dropped.
    size, here = -(-n // jax.process_count()), parallel.share(n)
    arrays = [a[min(here.start, n - 1):here.stop] for a in
              ((x_rows,) if cond is None else (x_rows, cond))]
    terms = np.empty((2, size), np.float32)
    for where, found in batching.map_rows(mapped, (variables, key), size, batch_size,
                                          first=here.start, arrays=arrays):
      terms[:, where] = found
    # One number per example is little; summed in one go, batches leave no trace in the rounding.
    ll, log_det = np.concatenate(parallel.all_processes(terms), axis=1)[:, :n].astype(np.float64)
    values = ll + log_det
    discrete = prepare.bits_defined and np.issubdtype(x_rows.dtype, np.integer)
    return summarise(values, math.prod(x_rows.shape[1:]) if discrete else None)

  return evaluate


def log_likelihood(fn, variables, x_rows, prepare, key, *, batch_size, split_size=None,
                   cond=None):
  """Result of one evaluation; see `make_evaluator`, which repeated ones should use."""
  evaluate = make_evaluator(fn, prepare, batch_size=batch_size)
  return evaluate(variables, x_rows, key, split_size=split_size, cond=cond)


def summarise(values, dims=None):
  """Result of per-example log-likelihoods [N] in nats; with `dims` (D), in bits/dim as well."""
  values = np.asarray(values, np.float64)
  with np.errstate(invalid='ignore'):  # an infinite value is reported, not warned about
    moments = metrics.Moments.of(values)
  bits = sem = None
  if dims is not None:
    bits, sem = (v / (dims * math.log(2)) for v in (-moments.mean, moments.sem))
  return Result(moments, int((~np.isfinite(values)).sum()), bits, sem)


def _example_values(fn, prepare):
  """The mapped body: (log-likelihood in model space [b], log-det [b]), kept apart.

  Their sum is taken in float64 on the host: a log-det of 15,000 nats (32x32 RGB) would cost the
  likelihood three of its seven digits.
  """

  def body(context, index, batch, *cond):
    variables, key = context
    keys = rng.range_keys(key, index[0], index.shape[0])
    keys = jax.vmap(lambda k: jax.random.split(k, 2))(keys)
    x, log_det = prepare.with_log_det(batch, keys[:, 0])
    ll = fn(variables, x, keys[:, 1], *cond)
    if ll.shape != index.shape:
      raise ValueError(f'the log-likelihood must be one number per example, {index.shape}, got '
                       f'{ll.shape}; sum over the event, not over the batch.')
    return ll, log_det

  return body


def _check_rows(n, split_size, cond):
  if n == 0:
    raise ValueError('the split has no examples, got 0 rows.')
  if split_size is not None and n != split_size:
    raise ValueError(f'a likelihood is of the whole split: {split_size} examples, got {n} rows; '
                     'pass all of it, the last batch is padded and masked here.')
  if cond is not None and len(cond) != n:
    raise ValueError(f'cond must have one row per example: {n}, got {len(cond)}.')
