"""What became of each call of the update: rows of metrics.jsonl, scores, what is owed to them."""
import functools
import math

import jax

from mollification import metrics


class Diverged(RuntimeError):
  """Too many non-finite updates in a row, or parameters that are not finite."""


class Journal:
  """What became of each call: fetched, checked, written as a row where one is due, shown."""

  def __init__(self, run, outputs, progress, first):
    self._run, self._outputs, self.progress = run, outputs, progress
    rows = outputs.start(functools.partial(_rows_of, run, first))
    self._row = rows[-1] if rows else {}
    # Whether the evaluation after the last update was cut short, and whether its pictures were not
    # drawn, which come after its checkpoint: the row has no part of either then.
    evaluate, _, sample = due_now(run, first)
    lacks = lambda part: self._row.get('step') == first and not any(
      name.startswith(part) for name in self._row)
    self.owed, self.undrawn = evaluate and lacks('valid/'), sample and lacks('sample/')
    self.scores = _scores(run, rows)

  def take(self, step, values, evaluated=None):
    """Fetch the metrics of the call that ended with `step`; `evaluated` goes into its row.

    The row holds the last update's metrics, no mean over the interval: it is then a function of
    (state, step), the same after a resume at any other step.
    """
    values = jax.device_get(values)
    self._check(step, int(values['skipped_in_row'].max()))
    if _row_due(self._run, step):
      row = {f'train/{name}': float(v if v.ndim == 0 else v[-1]) for name, v in values.items()}
      row |= _part(self._run, step, 'valid', evaluated or {})
      rate = self.progress.rate(step)
      if rate:   # the first call compiles
        row |= {'time/seconds_per_step': 1 / rate,
                'time/examples_per_second': rate * self._run.batch_size}
      row |= {f'memory/{where}_peak_mb': size / 1e6 for where, size in
              metrics.peak_memory().items()}
      self._outputs.row(step, row)
      self._row = {'step': step, **row}
      self.scores += _scores(self._run, [self._row])
      self._print(step, row)
    if self._outputs.writes:
      self.progress.show(step, _note(self._row), force=step == self._run.total_steps)

  def scores_with(self, evaluated):
    """`scores` as `complete` would leave them."""
    found = _part(self._run, self._row['step'], 'valid', evaluated)
    return self.scores + _scores(self._run, [self._row | found])

  def complete(self, evaluated, figures):
    """Put into the last row what it lacks: of an evaluation, if it is not None, and of samples."""
    if evaluated is not None:
      self.scores, self.owed = self.scores_with(evaluated), False
    found = (_part(self._run, self._row['step'], 'valid', evaluated or {})
             | _part(self._run, self._row['step'], 'sample', figures))
    self._row |= found
    self._outputs.replace_row(self._row, found)
    self._print(self._row['step'], found)

  def _print(self, step, values):
    if self._run.log_stdout and self._outputs.writes:   # of several processes one speaks
      found = [f'{name} {value:.4g}' for name, value in metrics.figures(values).items()]
      self.progress.print('  '.join([f'{step:,}', *found]))

  def _check(self, step, skipped_in_row):
    if skipped_in_row >= self._run.max_nonfinite:
      raise Diverged(
        f'{skipped_in_row} updates in a row up to update {step} had a non-finite loss or gradient '
        f'(max_nonfinite {self._run.max_nonfinite}) and were not applied; lower the learning '
        'rate, set optimizer.clip_norm, or go on from an earlier checkpoint.')


def _rows_of(run, first, rows):
  """`rows` as this run has them after `first` updates.

  What a shorter run found because it ended there, one of this length never has, unless its own
  intervals bring it there.
  """
  before = [row for row in rows if row['step'] < first]
  last = [_going_on(run, row) for row in rows if row['step'] == first]
  return before + [row for row in last if _row_due(run, first) or any(
    name.startswith(('valid/', 'sample/')) for name in row)]


def _going_on(run, row):
  """The `row` of the update that a run goes on from; of its last update as it is."""
  if row['step'] == run.total_steps:
    return row
  undue = [part for part in ('valid', 'sample')
           if metrics.MARK + part in row and _is_off(run, row['step'], part)]
  return {name: value for name, value in metrics.figures(row).items()
          if name.split('/')[0] not in undue}


def _part(run, step, part, values):
  """The `values` of an evaluation (`valid`) or of samples (`sample`) as the row of `step` has them.

  With a mark, end/valid or end/sample, where they are there since the run ends, off their interval.
  """
  found = {f'{part}/{name}': float(value) for name, value in values.items()}
  ends = step == run.total_steps and _is_off(run, step, part)
  return found | ({metrics.MARK + part: 1.} if found and ends else {})


def _is_off(run, step, part):
  """Whether `step` is none of those that a part of the rows has all along; False where none is."""
  every = {'valid': run.eval_every, 'sample': run.sample_every}[part]
  return bool(every) and step % every != 0


def _scores(run, rows):
  """[(step, score)] of the evaluations in `rows` since the mollified phase ended."""
  name = f'valid/{run.best_metric}'
  found = [(row['step'], float(row[name])) for row in rows
           if name in row and row['step'] >= run.mollified_steps]
  return [(step, -math.inf if math.isnan(score) else score) for step, score in found]


def due_now(run, step):
  """(evaluate, save, sample): what is due after `step` updates."""
  return (_due(step, run.eval_every, run),
          step == run.total_steps or _due(step, run.save_every, run),
          run.sample is not None and _due(step, run.sample_every, run))


def _row_due(run, step):
  """Whether the updates until `step` end with a row: one that is logged, or gets what is found."""
  evaluate, _, sample = due_now(run, step)
  return evaluate or sample or _due(step, run.log_every, run)


def _due(step, every, run):
  return bool(every) and (step % every == 0 or step == run.total_steps)


def _note(row):
  words = {'loss': 'train/loss', 'level': 'train/level', **{
    name: name for name in row if name.startswith('valid/')}}
  shown = [f'{word} {float(row[name]):.4g}' for word, name in words.items() if name in row]
  return '  '.join(shown[:4])
