"""Checkpoints through Orbax: asynchronous, the newest N, every K-th for good, and the best."""
import pathlib

import jax
import orbax.checkpoint as ocp


def manager(folder, *, keep=None, keep_every=None, read_only=False):
  """A CheckpointManager for `folder`; `keep` newest, and each multiple of `keep_every`.

  A context manager; leaving it waits for saves under way.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, keep_period=keep_every or None, create=not read_only,
    read_only=read_only, enable_async_checkpointing=True)
  return ocp.CheckpointManager(pathlib.Path(folder).resolve(), options=options)


def save(manager, step, state):
  """Start saving `state` after `step` updates, unless it is there; then it may be donated."""
  if step in manager.all_steps():
    return
  manager.save(step, args=ocp.args.StandardSave(state), force=True)


def restore(manager, template, step=None):
  """The state saved at `step` (the newest by default), laid out like `template`, or None.

  `template` is a placed state or its shapes with shardings; raises FileNotFoundError where a
  named step is not there.
  """
  steps = sorted(manager.all_steps())
  if step is None:
    if not steps:
      return None
    step = steps[-1]
  if step not in steps:
    raise FileNotFoundError(f'no checkpoint of step {step} in {manager.directory}; there are '
                            f'{", ".join(map(str, steps)) or "none"}.')
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
  try:
    return manager.restore(step, args=ocp.args.StandardRestore(abstract))
  except Exception as error:   # whatever the format's readers may raise
    reason = ' '.join(str(error).split())[:120]
    others = ', '.join(str(s) for s in steps if s != step) or 'none'
    raise ValueError(
      f'checkpoint {step} in {manager.directory} cannot be read ({type(error).__name__}: '
      f'{reason}); it is damaged, or of another model: move it away, or take another ({others}).'
    ) from error
