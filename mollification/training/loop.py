"""The training loop: takes a built `Run`, knows no config, no data set and no model."""
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from mollification import metrics, parallel, rng
from mollification.training.outputs import Outputs


class Diverged(RuntimeError):
  """Too many non-finite updates in a row."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How training ended: 'finished', 'early' (stopping) or 'preempted', and with which state."""
  state: Any
  reason: str


def train(run, workdir, *, stop=None, label=''):
  """Train `run` in `workdir` from its newest checkpoint, or from the start; returns an Outcome.

  `stop.requested` (see preemption.py) is looked at after each call of the compiled update. The
  caller holds the workdir's lock. Raises Diverged after `run.max_nonfinite` non-finite updates in
  a row.
  """
  with Outputs(run, workdir) as outputs:
    state = outputs.restore(run.create_state())
    rows = outputs.start(int(state.step))
    progress = metrics.Progress(run.total_steps, int(state.step), label, run.batch_size)
    try:
      return _train(run, outputs, state, rows, progress, stop)
    finally:
      progress.close()


def _train(run, outputs, state, rows, progress, stop):
  first, pending, enough = int(state.step), None, early_stop(rows, run)
  call = _compiled_update(run)
  for done in range(first + run.steps_per_call, run.total_steps + 1, run.steps_per_call):
    if enough:
      return Outcome(state, 'early')
    state, values = call(state, done - run.steps_per_call)
    # Checked one call behind: the device has its next one to do while these are fetched.
    _checked(run, pending)
    pending = done, values
    if done == first + run.steps_per_call:
      jax.block_until_ready(state)
      progress.restart(done)   # compiling is no part of the rate

    if _due(done, run.log_every, run) or _due(done, run.eval_every, run):
      row = _row(run, _checked(run, pending), progress.rate(done))
      if _due(done, run.eval_every, run):
        row |= {f'valid/{name}': float(v) for name, v in run.evaluate(state).items()}
      outputs.row(done, row)
      rows.append({'step': done, **row})
      enough = early_stop(rows, run)
      if is_best(rows, run):
        outputs.save_best(done, state)
    if run.sample is not None and _due(done, run.sample_every, run):
      outputs.samples(done, run.sample(state))
    progress.show(done, _note(rows), force=done == run.total_steps)

    preempted = stop is not None and stop.requested
    if preempted or enough or _due(done, run.save_every, run):
      _checked(run, pending)
      outputs.save(done, state)
    if preempted and done < run.total_steps:
      return Outcome(state, 'preempted')
  return Outcome(state, 'finished')


def _compiled_update(run):
  """(state, first update) -> (state, metrics) of one call, `run.steps_per_call` updates."""
  size = run.steps_per_call
  key = parallel.place(rng.purpose_key(run.seed, 'train'))
  update = parallel.pmap_step(run.train_step, steps_per_call=size)
  if size == 1:
    levels = jax.jit(run.schedule)
  else:
    levels = jax.jit(lambda step: run.schedule(step + jnp.arange(size)))

  def call(state, step):
    arrays = run.batch(step, size)
    if size == 1:
      arrays = jax.tree.map(lambda a: a[0], arrays)
    batch, cond, mask = parallel.shard(arrays, axis=int(size > 1))
    return update(state, batch, key, levels(step), cond, mask)

  return call


def _due(step, every, run):
  return bool(every) and (step % every == 0 or step == run.total_steps)


def _checked(run, pending):
  """Fetch the metrics of a call; raise Diverged where too many updates in a row were skipped."""
  if pending is None:
    return None
  step, values = pending
  values = jax.device_get(values)
  worst = int(values['skipped_in_row'].max())
  if worst >= run.max_nonfinite:
    raise Diverged(f'{worst} updates in a row up to update {step} had a non-finite loss or '
                   f'gradient (max_nonfinite {run.max_nonfinite}) and were not applied; lower the '
                   'learning rate, set optimizer.clip_norm, or go on from an earlier checkpoint.')
  return values


def _row(run, values, rate):
  """The metrics of the last update of a call, and the speed since the start or the resume.

  One update's, not a mean over the interval: a row is then a function of (state, step), the same
  after a resume at any other step.
  """
  last = {f'train/{name}': float(v if v.ndim == 0 else v[-1]) for name, v in values.items()}
  return last | {'time/seconds_per_step': 1 / rate if rate else 0.,
                 'time/examples_per_second': rate * run.batch_size}


def _note(rows):
  if not rows:
    return ''
  row = rows[-1]
  shown = [f'{k.split("/")[1]} {float(row[k]):.4g}' for k in ('train/loss', 'train/level')]
  return '  '.join(shown + [f'{k} {v:.4g}' for k, v in row.items() if k.startswith('valid/')][:2])


def _scores(rows, run):
  """(step, score) of the evaluations after the mollified phase: no other may choose anything."""
  name = f'valid/{run.best_metric}'
  scores = [(row['step'], float(row[name])) for row in rows
            if name in row and row['step'] >= run.mollified_steps]
  return [(step, -math.inf if math.isnan(score) else score) for step, score in scores]


def is_best(rows, run):
  """Whether the last row is an evaluation after the mollified phase, and the best of those."""
  scores = _scores(rows, run)
  return bool(scores) and scores[-1][0] == rows[-1]['step'] and all(
    scores[-1][1] > score for _, score in scores[:-1])


def early_stop(rows, run):
  """Whether the last `run.patience` evaluations brought nothing better than those before."""
  scores = [score for _, score in _scores(rows, run)]
  if not run.patience or len(scores) <= run.patience:
    return False
  return max(scores[-run.patience:]) <= max(scores[:-run.patience])
