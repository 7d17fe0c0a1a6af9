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
    first = int(state.step)
    progress = metrics.Progress(run.total_steps, first, label, run.batch_size)
    try:
      return _train(run, outputs, state, _Journal(run, outputs, progress, first), stop)
    finally:
      progress.close()


def _train(run, outputs, state, journal, stop):
  first, size, pending = int(state.step), run.steps_per_call, None
  call = _compiled_update(run)
  for done in range(first + size, run.total_steps + 1, size):
    if early_stop(journal.scores, run.patience):
      return Outcome(state, 'early')
    state, values = call(state, done - size)
    if pending is not None:
      journal.take(*pending)   # one call behind: the device has its next one to do meanwhile
    pending = done, values
    if done == first + size:
      jax.block_until_ready(state)
      journal.progress.restart(done)   # compiling is no part of the rate

    preempted = stop is not None and stop.requested
    evaluate, save, sample = _due_now(run, done)
    if evaluate or save or sample or preempted:
      jax.block_until_ready(state)   # so that the pause counts nothing of the update
      with journal.progress.paused():
        journal.take(done, values, run.evaluate(state) if evaluate else None)
        pending = None
        if evaluate and is_best(journal.scores, done):
          outputs.save_best(done, state)
        if save or preempted or early_stop(journal.scores, run.patience):
          outputs.save(done, state)
        if sample:
          outputs.grids(done, run.sample(state))
    if preempted and done < run.total_steps:
      return Outcome(state, 'preempted')
  if pending is not None:
    journal.take(*pending)
  return Outcome(state, 'finished')


class _Journal:
  """What became of each call: fetched, checked, written as a row where one is due, shown."""

  def __init__(self, run, outputs, progress, first):
    self._run, self._outputs, self.progress = run, outputs, progress
    # The last row of a shorter run may be off every interval: one of this length never has it.
    rows = outputs.start(lambda step: step < first or (
      step == first and any(_due(step, every, run) for every in (run.log_every, run.eval_every))))
    self._row = rows[-1] if rows else {}
    self.scores = [score for row in rows for score in self._score(row)]

  def take(self, step, values, evaluated=None):
    """Fetch the metrics of the call that ended with `step`; `evaluated` goes into its row.

    The row holds the last update's metrics, no mean over the interval: it is then a function of
    (state, step), the same after a resume at any other step.
    """
    values = jax.device_get(values)
    self._check(step, int(values['skipped_in_row'].max()))
    if evaluated is not None or _due(step, self._run.log_every, self._run):
      row = {f'train/{name}': float(v if v.ndim == 0 else v[-1]) for name, v in values.items()}
      row |= {f'valid/{name}': float(v) for name, v in (evaluated or {}).items()}
      rate = self.progress.rate(step)
      if rate:   # the first call compiles
        row |= {'time/seconds_per_step': 1 / rate,
                'time/examples_per_second': rate * self._run.batch_size}
      self._outputs.row(step, row)
      self._row = {'step': step, **row}
      self.scores += self._score(self._row)
      if self._run.log_stdout:
        self.progress.print(f'{step:,}  ' + '  '.join(f'{k} {v:.4g}' for k, v in row.items()))
    self.progress.show(step, _note(self._row), force=step == self._run.total_steps)

  def _score(self, row):
    """[(step, score)] of a row's evaluation; [] before the mollified phase has ended."""
    name = f'valid/{self._run.best_metric}'
    if name not in row or row['step'] < self._run.mollified_steps:
      return []
    score = float(row[name])
    return [(row['step'], -math.inf if math.isnan(score) else score)]

  def _check(self, step, skipped_in_row):
    if skipped_in_row >= self._run.max_nonfinite:
      raise Diverged(
        f'{skipped_in_row} updates in a row up to update {step} had a non-finite loss or gradient '
        f'(max_nonfinite {self._run.max_nonfinite}) and were not applied; lower the learning '
        'rate, set optimizer.clip_norm, or go on from an earlier checkpoint.')


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


def _due_now(run, step):
  """(evaluate, save, sample): what is due after `step` updates."""
  return (_due(step, run.eval_every, run),
          step == run.total_steps or _due(step, run.save_every, run),
          run.sample is not None and _due(step, run.sample_every, run))


def _due(step, every, run):
  return bool(every) and (step % every == 0 or step == run.total_steps)


def _note(row):
  words = {'loss': 'train/loss', 'level': 'train/level', **{
    name: name for name in row if name.startswith('valid/')}}
  shown = [f'{word} {float(row[name]):.4g}' for word, name in words.items() if name in row]
  return '  '.join(shown[:4])


def is_best(scores, step):
  """Whether the evaluation at `step` is the last of `scores` [(step, score)], finite, the best."""
  return bool(scores) and scores[-1][0] == step and math.isfinite(scores[-1][1]) and all(
    scores[-1][1] > score for _, score in scores[:-1])


def early_stop(scores, patience):
  """Whether the last `patience` of `scores` [(step, score)] brought nothing better; 0: never."""
  if not patience or len(scores) <= patience:
    return False
  values = [score for _, score in scores]
  return max(values[-patience:]) <= max(values[:-patience])
