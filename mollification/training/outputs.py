"""What a training run writes into its workdir: checkpoints, rows, TensorBoard, sample grids."""
import contextlib
import pathlib

import jax

from mollification import metrics, parallel
from mollification.evaluation import sampling
from mollification.training import checkpoint
from mollification.training import workdir as run_folder


class Outputs:
  """The open files of one run, as a context; on leaving it, saves under way are waited for.

  `best/` holds one state between two runs, or two, where the last update was the best; while one
  trains, every state that was the best since the checkpoint before the last, since a crash may set
  the run back there.

  Of several processes all save and restore; the first alone writes the rest (`writes`).
  """

  def __init__(self, run, workdir):
    self._workdir = pathlib.Path(workdir)
    self._tensorboard, self._total_steps = run.tensorboard, run.total_steps
    self.writes = parallel.is_first()
    self._rows = self._events = None
    with contextlib.ExitStack() as stack:
      self._checkpoints = self._manager(stack, 'checkpoints', run.keep, run.keep_every)
      # All that a crash may still make the best: `save` thins them out.
      self._best = self._manager(stack, 'best', None, 0) if run.best_metric else None
      self._stack = stack.pop_all()

  def _manager(self, stack, name, keep, keep_every):
    return stack.enter_context(
      checkpoint.manager(self._workdir / name, keep=keep, keep_every=keep_every))

  def __enter__(self):
    return self

  def __exit__(self, kind, *exception):
    if jax.process_count() == 1:
      with self._stack:
        self._finish()
    elif kind is None:   # else the others are elsewhere, and what is done here all do together
      self._finish()
      self._stack.close()

  def _finish(self):
    self.wait()
    self._thin_out_best()

  def restore(self, state):
    """The newest checkpoint laid out like `state`, or `state` itself where there is none."""
    restored = checkpoint.restore(self._checkpoints, state, set_aside=True)
    _, state = restored or (0, state)
    self._drop_best(lambda step: step > int(state.step))
    return state

  @property
  def best_steps(self):
    """Steps of the states in `best/`."""
    return list(self._best.all_steps()) if self._best else []

  def drop_best(self, step):
    """Delete the best state of `step`, if there is one."""
    self._drop_best(lambda one: one == step)

  def _drop_best(self, unwanted):
    for step in self.best_steps:
      if unwanted(step):
        self._best.delete(step)

  def start(self, cut):
    """Open the writers; of the rows that are there `cut(rows)` stay, and are returned."""
    with parallel.together():
      rows = self._open_writers(cut) if self.writes else []
    return parallel.of_first(rows)

  def _open_writers(self, cut):
    run_folder.go_on(self._workdir)
    path = self._workdir / 'metrics.jsonl'
    rows = metrics.cut_rows(path, cut)
    self._rows = metrics.JsonlWriter(path)
    self._stack.callback(self._rows.close)
    if self._tensorboard:
      self._events = metrics.TensorBoardWriter(self._workdir / 'tensorboard')
      self._stack.callback(self._events.close)
    return rows

  def end(self, reason):
    """Leave a word that the run is over before its last update."""
    if self.writes:
      run_folder.end(self._workdir, reason)

  def row(self, step, values):
    """Write one row of numbers."""
    if self._rows:
      self._rows.write(step, values)
    if self._events:
      self._events.write(step, metrics.figures(values))

  def replace_row(self, row, added):
    """Write a row that has its step in place of the one of that step; `added` is new in it."""
    if self._rows:
      self._rows.replace(row)
    if self._events:
      self._events.write(row['step'], metrics.figures(added))
      self._events.flush()

  def grids(self, step, draw):
    """Write one picture into each folder of `draw()`; returns its figures.

    `draw()` is ({folder: uint8 [H, W, C]}, {name: figure}), `Run.sample` of a state; where another
    process draws there are no figures.
    """
    images, figures = draw() if self.writes else ({}, {})
    for name, image in images.items():
      scale = max(1, sampling.GRID_PIXELS // image.shape[1])
      sampling.save_png(self._workdir / name / f'{step:08d}.png', image, scale)
      if self._events:
        self._events.write_image(step, name, image)
    return figures

  def save(self, step, state):
    """Start saving a checkpoint; the rows before it are on disk first."""
    if self._rows:
      self._rows.sync()
    if self._events:
      self._events.flush()
    # A checkpoint makes the rows before it final, and these say which step is the best: that one
    # must be on disk first, and the best of the checkpoint before until this one is complete.
    if self._best:
      checkpoint.wait(self._best)
    self._finish()
    checkpoint.save(self._checkpoints, step, state)

  def _thin_out_best(self):
    """Of the best states up to the newest complete checkpoint, leave the last.

    And the one before, where the last is that of the last update: a longer run may never have
    evaluated there.
    """
    newest = max(self._checkpoints.all_steps(), default=0)
    final = sorted(step for step in self.best_steps if step <= newest)
    left = 2 if self._total_steps in final else 1
    self._drop_best(lambda step: step in final[:-left])

  @property
  def failed(self):
    """Whether a save of this process has failed; the next `save` says why."""
    return self._checkpoints.failed or (self._best is not None and self._best.failed)

  def wait(self):
    """Until what `save` has started is on disk."""
    checkpoint.wait(self._checkpoints)

  def save_best(self, step, state):
    """Start saving the best checkpoint so far."""
    checkpoint.save(self._best, step, state)

  def wait_for_best(self):
    """Until what `save_best` has started is on disk."""
    checkpoint.wait(self._best)
