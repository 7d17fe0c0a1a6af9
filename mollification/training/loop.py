"""The training loop: takes a built `Run`, knows no config, no data set and no model."""
import dataclasses
import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp

from mollification import metrics, parallel, rng
from mollification.evaluation import batching
from mollification.training.agreement import Agreement
from mollification.training.journal import Diverged, Journal, due_now
from mollification.training.outputs import Outputs
from mollification.training.state import is_finite
from mollification.training.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How training ended: 'finished', 'early' (stopping) or 'preempted', and with which state.

  `evaluating` are the seconds that its evaluations took, compiling and refreshing included.
  """
  state: Any
  reason: str
  evaluating: float = 0.


def train(run, workdir, *, stop=None, label=''):
  """Train `run` in `workdir` from its newest checkpoint, or from the start; returns an Outcome.

  `stop` (a preemption.Stop) is looked at after each call of the compiled update, and cuts an
  evaluation short; `armed` is set on it while there is something new to save. The caller holds the
  workdir's lock; of several processes each calls this. Raises Diverged after `run.max_nonfinite`
  non-finite updates in a row, and before a state would be saved that is not finite.
  """
  with Watchdog(run.watchdog) as watchdog, Outputs(run, workdir) as outputs:
    state = outputs.restore(run.create_state())
    first = int(state.step)
    progress = metrics.Progress(run.total_steps, first, label, run.batch_size)
    try:
      journal = Journal(run, outputs, progress, first)
      _set_best_right(outputs, journal, first, state)
      training = _Training(run, outputs, journal, stop, watchdog)
      outcome = training.until_end(state)
      if outcome.reason == 'early':
        outputs.wait()   # the word counts on the last checkpoint
        outputs.end(outcome.reason)
      return dataclasses.replace(outcome, evaluating=training.evaluating)
    except Diverged:   # in all processes: a save under way is to count
      outputs.wait()
      outputs.end('diverged')
      raise
    finally:
      progress.close()


def _set_best_right(outputs, journal, first, state):
  """Have the `state` after `first` updates, which a run goes on from, in best/ as its rows say."""
  if is_best(journal.scores, first) and first not in outputs.best_steps:
    outputs.save_best(first, state)   # damage set the run back to it
  elif not journal.owed and first not in dict(journal.scores):
    outputs.drop_best(first)   # its score went with the row, or was never written


class _Training:
  """A run from a state on: calls of the compiled update, and what is due after some of them."""

  def __init__(self, run, outputs, journal, stop, watchdog):
    self._run, self._outputs, self._journal = run, outputs, journal
    self._watchdog, self._stops = watchdog, Agreement(stop)
    self._uncompiled = {'evaluation', 'pictures'}   # what this process has not been through yet
    self.evaluating = 0.   # seconds

  def until_end(self, state):
    """The Outcome of going on from `state`."""
    run, journal = self._run, self._journal
    first, size, pending = int(state.step), run.steps_per_call, None
    if first and not self._catch_up(first, state):
      return Outcome(state, 'preempted')
    call = compiled_update(run)
    for done in range(first + size, run.total_steps + 1, size):
      if early_stop(journal.scores, run.patience):
        return Outcome(state, 'early')
      state, values = call(state, done - size)
      if pending is not None:
        self._watchdog.alive(f'update {pending[0]:,}')
        journal.take(*pending)   # one call behind: the device has its next one to do meanwhile
      pending = done, values
      if done == first + size:
        jax.block_until_ready(state)
        self._stops.arm()
        journal.progress.restart(done)   # compiling is no part of the rate

      preempted = self._stops.after(done, size, self._outputs.failed)
      if preempted or any(due_now(run, done)):
        jax.block_until_ready(state)   # so that the pause counts nothing of the update
        with journal.progress.paused():
          left = self._pause(done, state, values, preempted)
        pending = None
        if left and (done < run.total_steps or journal.owed or journal.undrawn):
          return Outcome(state, 'preempted')
    if pending is not None:
      journal.take(*pending)
    return Outcome(state, 'finished')

  def _pause(self, done, state, values, preempted):
    """What is due after `done` updates; whether to leave then.

    An evaluation takes long: in a pre-emption it is left, or cut short, and owed, and so are grids,
    whose programs may have to be compiled. The run that goes on from here makes up for both.
    """
    run, journal, outputs = self._run, self._journal, self._outputs
    evaluate, save, sample = due_now(run, done)
    compiles = ((evaluate and 'evaluation' in self._uncompiled)
                or (sample and 'pictures' in self._uncompiled))
    if compiles and not preempted:
      return self._first_pause(done, state, values, evaluate, sample)
    found = self._evaluated(done, state) if evaluate and not preempted else None
    journal.owed = evaluate and found is None
    journal.take(done, values, found)
    best = found is not None and is_best(journal.scores, done)
    save |= preempted or journal.owed or early_stop(journal.scores, run.patience)
    if best or save:
      _check_finite(done, state)
    if best:
      outputs.save_best(done, state)
    if save:
      outputs.save(done, state)
      self._alive(done, 'the save')
    left = preempted and (done < run.total_steps or 'pictures' in self._uncompiled)
    journal.undrawn = sample and (left or journal.owed)
    if sample and not journal.undrawn:
      journal.complete(None, self._drawn(done, state))
    return preempted or journal.owed or (save and self._stops.meanwhile())

  def _first_pause(self, done, state, values, evaluate, sample):
    """`_pause` in which programs are compiled, which cannot be cut short and may take minutes.

    So the state is on disk first, due or not, and a signal ends the process, which then owes the
    rest. Of several processes none goes on, armed again, before the one that draws has drawn.
    """
    journal, outputs = self._journal, self._outputs
    journal.owed, journal.undrawn = evaluate, sample
    journal.take(done, values)
    _check_finite(done, state)
    outputs.save(done, state)
    outputs.wait()
    self._alive(done, 'the save')
    self._stops.arm(False)
    leave = self._stops.asked() or not self._catch_up(done, state) or self._stops.asked()
    self._stops.arm()
    return leave

  def _catch_up(self, done, state):
    """What is missing of what was due after `done` updates; False where it is again cut short.

    The row says what is not owed, so it comes last: whoever dies before does that again.
    """
    journal, outputs = self._journal, self._outputs
    if journal.owed:
      found = self._evaluated(done, state)
      if found is None:
        return False
      if is_best(journal.scores_with(found), done):
        outputs.save_best(done, state)
        outputs.wait_for_best()
      journal.complete(found, {})
    if journal.undrawn:
      journal.complete(None, self._drawn(done, state))
      journal.undrawn = False
    return True

  def _evaluated(self, done, state):
    """What an evaluation finds; None where it was cut short."""
    def hear():
      self._alive(done, 'a batch of the evaluation')
      self._stops.between()

    start = time.monotonic()
    with batching.heard(hear):
      found = self._stops.unless_stopped(functools.partial(self._run.evaluate, state))
    self.evaluating += time.monotonic() - start
    self._alive(done, 'the evaluation')
    self._uncompiled.discard('evaluation')
    return found

  def _drawn(self, done, state):
    """Figures of the samples in the pictures that are written."""
    with batching.heard(functools.partial(self._alive, done, 'a batch of the pictures')):
      figures = self._outputs.grids(done, functools.partial(self._run.sample, state))
    self._alive(done, 'the pictures')
    self._uncompiled.discard('pictures')
    return figures

  def _alive(self, done, what):
    """A sign of life for the watchdog: evaluations, pictures and saves take long, and well so."""
    self._watchdog.alive(f'{what} after update {done:,}')


def _check_finite(done, state):
  """Raise Diverged for a state that no update can be added to: it must not be the newest saved.

  The update itself looks at loss and gradient. Looking at what comes of them as well would be
  another pass over all parameters each time, for an overflow that only absurd rates bring about;
  here it is one next to the sha256 of the same bytes.
  """
  if not is_finite(state):
    raise Diverged(
      f'parameters or optimizer are not finite after update {done}: an update overflowed whose '
      'loss and gradient were finite, and nothing has been saved since; lower the learning rate, '
      'set optimizer.clip_norm, or raise optimizer.eps.')


def compiled_update(run):
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
