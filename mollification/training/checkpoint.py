"""Checkpoints through Orbax: asynchronous, the newest N, every K-th for good, and the best.

Each holds the state and a sha256 of its bytes: Orbax itself does not see a flipped bit. Of several
processes all call these functions, on a folder that all see; each writes a part.
"""
import hashlib
import pathlib
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp

from mollification import parallel

DAMAGED = '.damaged'   # suffix of the folder beside a manager's, where what cannot be read is put


def manager(folder, *, keep=None, keep_every=None, read_only=False):
  """A CheckpointManager for `folder`; `keep` newest, and each multiple of `keep_every`.

  A context manager; leaving it waits for saves under way.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, keep_period=keep_every or None, create=not read_only,
    read_only=read_only, enable_async_checkpointing=True,
    # Two managers of a run may save at the same time: neither waits at a barrier of the other's.
    multiprocessing_options=ocp.options.MultiprocessingOptions(
      barrier_sync_key_prefix=pathlib.Path(folder).name))
  return ocp.CheckpointManager(pathlib.Path(folder).resolve(), options=options)


def save(manager, step, state):
  """Start saving `state` after `step` updates, unless it is there; then it may be donated."""
  if step in manager.all_steps():
    return
  tree = parallel.to_global({'state': state, 'sha256': _sha256(state)})
  manager.save(step, args=ocp.args.StandardSave(tree), force=True)


def restore(manager, template, step=None, *, set_aside=False):
  """(step, state) of the checkpoint of `step`, laid out like `template`; None if there is none.

  `template` is a placed state or its shapes with shardings. Without a `step` it is the newest that
  can be read: with a warning, damaged ones after it are passed over and, with `set_aside`, moved to
  a folder beside the manager's, so that their steps can be saved again. Raises FileNotFoundError
  where a named step is not there, ValueError where it is damaged, or where all are; then nothing is
  moved.
  """
  steps = parallel.of_first(sorted(manager.all_steps(), reverse=True))
  if step is not None and step not in steps:
    raise FileNotFoundError(f'no checkpoint of step {step} in {manager.directory}; there are '
                            f'{", ".join(map(str, reversed(steps))) or "none"}.')
  if step is not None:
    return step, _read(manager, template, step)
  failures = {}
  for candidate in steps:
    try:
      with parallel.together():
        state = _read(manager, template, candidate)
    except (ValueError, RuntimeError) as error:   # here, or in another process
      failures[candidate] = error
      continue
    for damaged, error in failures.items():
      warnings.warn(f'{error} Going on from step {candidate}.', stacklevel=2)
      if set_aside:
        _set_aside(manager, damaged)
    return candidate, state
  if failures:
    raise failures[steps[0]]
  return None


def _read(manager, template, step):
  """The state of one checkpoint; ValueError where it is not as it was saved."""
  digest = parallel.abstract(jax.ShapeDtypeStruct((32,), np.uint8))
  wanted = {'state': jax.tree.map(ocp.utils.to_shape_dtype_struct, template), 'sha256': digest}
  try:
    found = manager.restore(step, args=ocp.args.StandardRestore(parallel.global_shapes(wanted)))
    if not np.array_equal(found['sha256'], _sha256(found['state'])):
      raise ValueError('its bytes are not those that were saved')
  except Exception as error:   # whatever the format's readers may raise
    reason = ' '.join(str(error).split())[:120]
    others = ', '.join(str(s) for s in sorted(manager.all_steps()) if s != step) or 'none'
    raise ValueError(
      f'checkpoint {step} in {manager.directory} cannot be read ({type(error).__name__}: '
      f'{reason}); it is damaged, or of another model: move it away, or take another ({others}).'
    ) from error
  return parallel.to_local(found['state'])


def _set_aside(manager, step):
  """Move a checkpoint beside the manager's folder, so that its step can be saved again."""
  folder = pathlib.Path(manager.directory)
  target = folder.with_name(folder.name + DAMAGED)
  with parallel.together():
    if parallel.is_first():
      target.mkdir(exist_ok=True)
      count = sum(path.name.split('-')[0] == str(step) for path in target.iterdir())
      (folder / str(step)).rename(target / f'{step}-{count}')
  manager.reload()


def _sha256(tree):
  """uint8 [32] of the bytes of all leaves, in order."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(jax.device_get(tree)):
    digest.update(np.ascontiguousarray(leaf).view(np.uint8).data)
  return np.frombuffer(digest.digest(), np.uint8)
