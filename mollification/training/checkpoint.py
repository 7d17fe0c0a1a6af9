"""Checkpoints through Orbax: asynchronous, the newest N, every K-th for good, and the best.

Each holds the state and a sha256 of its bytes: Orbax itself does not see a flipped bit. Both are
written in the background, and Orbax renames a checkpoint into place once all of it is written: one
without its sha256 is never there. Of several processes all call these functions, on a folder that
all see; each writes a part and reads the whole by itself, so that none waits for one that cannot.
"""
import asyncio
import atexit
import dataclasses
import errno
import functools
import gc
import hashlib
import os
import pathlib
import sys
import time
import warnings
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mollification import files, parallel
from mollification.causes import causes

DAMAGED = '.damaged'   # suffix of the folder beside a manager's, where what cannot be read is put
# In errors that say nothing of a checkpoint: of memory (JAX, TensorStore), and of the system.
_NO_DAMAGE = ('RESOURCE_EXHAUSTED', *map(os.strerror, (
  errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ESTALE,
  errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH)))
_PAUSE = .01   # seconds between two looks at a save that is waited for


def manager(folder, *, keep=None, keep_every=None, read_only=False):
  """A CheckpointManager for `folder`; `keep` newest, and each multiple of `keep_every`.

  A context manager; leaving it waits for saves under way. Half-written checkpoints that a killed
  process has left are removed before the first save. `failed` says whether one of this process
  has failed, `wait` why. Raises ValueError in all processes where they do not come to list the same
  checkpoints.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, keep_period=keep_every or None, create=not read_only,
    read_only=read_only, enable_async_checkpointing=True,
    # What a save left that was killed; nobody else saves there, by the lock of the workdir.
    cleanup_tmp_directories=not read_only,
    # Two managers of a run may save at the same time: neither waits at a barrier of the other's.
    multiprocessing_options=ocp.options.MultiprocessingOptions(
      barrier_sync_key_prefix=pathlib.Path(folder).name))
  made = _Manager(pathlib.Path(folder).resolve(), options)
  _list_alike(made)
  return made


class _Manager(ocp.CheckpointManager):
  """Orbax' own, but that a process whose save has failed waits for no other one to hear of it.

  The others wait for it before the checkpoint counts, for 20 minutes, unless they are told.
  """
  failed = False   # whether a save of this process has failed

  def __init__(self, folder, options):
    self._wait_for_others = ocp.multihost.get_barrier_sync_fn()
    options.async_options = ocp.options.AsyncOptions(barrier_sync_fn=self._meet)
    super().__init__(folder, options=options)

  def _meet(self, **barrier):
    if sys.exception() is None:
      self._wait_for_others(**barrier)
    else:   # in the `finally` of Orbax' thread that failed
      self.failed = True


def steps(folder):
  """Steps of the checkpoints in `folder` at present, ascending, as a new manager would list them.

  One that is being saved has another name until all of it is there. Looking by the names alone
  costs nothing where it is done every few seconds, for days.
  """
  try:
    return sorted(int(path.name) for path in pathlib.Path(folder).iterdir()
                  if path.name.isdecimal() and path.is_dir())
  except (FileNotFoundError, NotADirectoryError):
    return []


def _list_alike(manager):
  """Wait until all processes list the same checkpoints; ValueError where they never do.

  A file system may show a change to some of them late. Orbax lists a folder once and then keeps
  count, so what they save and delete by these lists they do together from here on.
  """
  for look in range(1, files.LOOKS + 1):
    try:
      return parallel.check_same(f'checkpoints in {manager.directory}', sorted(manager.all_steps()))
    except ValueError:
      if look == files.LOOKS:
        raise
    time.sleep(1)
    manager.reload()


def save(manager, step, state):
  """Start saving `state` after `step` updates, unless it is there; then it may be donated.

  The save before is waited for.
  """
  if step in manager.all_steps():
    return
  wait(manager)
  # Host views hold their buffers, as Orbax' own do: where the update is given them, JAX copies.
  # The first alone writes the digest; on other hosts nothing need come off the device for it.
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)] if parallel.is_first() else []
  manager.save(step, force=True, args=ocp.args.Composite(
    state=ocp.args.StandardSave(parallel.to_global(state)), sha256=_Digest(leaves)))


def wait(manager):
  """Until a save under way is on disk; all processes leave it, or none: as `parallel.together`."""
  saving, failed = True, False
  while jax.process_count() > 1 and saving and not failed:
    # In this order: where a process saves no more and has not failed, its save is on disk.
    found = parallel.all_processes(np.array([manager.is_saving_in_progress(), manager.failed]))
    saving, failed = np.any(found, axis=0)
    time.sleep(_PAUSE)
  with parallel.together():
    if manager.failed or not failed:   # else it would wait for those that have failed
      manager.wait_until_finished()


def restore(manager, template, step=None, *, set_aside=False):
  """(step, state) of the checkpoint of `step`, laid out like `template`; None if there is none.

  `template` is a placed state or its shapes with shardings. Without a `step` it is the newest that
  can be read: with a warning, damaged ones after it are passed over and, with `set_aside`, moved to
  a folder beside the manager's, so that their steps can be saved again. Raises FileNotFoundError
  where a named step is not there, ValueError where it is damaged, or where all are; then nothing is
  moved. Too little memory, too many open files, a file that may not be read or whose server does
  not answer are no damage: such an error ends the search as it comes.
  """
  steps = sorted(manager.all_steps(), reverse=True)
  if step is not None and step not in steps:
    raise FileNotFoundError(f'no checkpoint of step {step} in {manager.directory}; there are '
                            f'{", ".join(map(str, reversed(steps))) or "none"}.')
  if step is not None:
    return step, _read_by_all(manager, template, step)
  failures = {}
  for candidate in steps:
    try:
      state = _read_by_all(manager, template, candidate)
    except ValueError as error:
      if _is_no_damage(error):   # of TensorStore
        raise
      _collect_before_exit()
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


@functools.cache
def _collect_before_exit():
  """Have the garbage of failed reads collected while the interpreter still stands.

  Orbax leaves coroutines behind that TensorStore ends later; collected by the interpreter's own
  end, they were seen to abort it.
  """
  atexit.register(gc.collect)


def _read_by_all(manager, template, step):
  """The same in all processes: `_read`, or its error where one of them meets any.

  In the others that is a ValueError where it is damage, else a RuntimeError: they stop, too.
  """
  try:
    with parallel.together():
      return _read(manager, template, step)
  except Exception as error:   # in all processes
    if not np.any(parallel.all_processes(np.array(_is_no_damage(error)))):
      if not isinstance(error, RuntimeError):
        raise
      raise ValueError(f'checkpoint {step} in {manager.directory} can be read here, but not by all '
                       f'processes: {error}') from error
    if _is_no_damage(error):
      raise
    raise RuntimeError(f'checkpoint {step} in {manager.directory} is not damaged, but was not read '
                       f'by all processes: {error}') from error


def _read(manager, template, step):
  """The state of one checkpoint; ValueError where it is not as it was saved.

  What is no damage is raised as it comes; what may be is read a second time, since a network may
  fail once. No process waits for another one here: damage may be seen by one host alone.
  """
  wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
  for last in (False, True):
    try:
      return _checked(manager, step, wanted)
    except Exception as error:   # whatever the format's readers may raise
      if _is_no_damage(error):
        raise
      if last:
        reason = ' '.join(str(error).split())[:120]
        others = ', '.join(str(s) for s in sorted(manager.all_steps()) if s != step) or 'none'
        raise ValueError(
          f'checkpoint {step} in {manager.directory} cannot be read ({type(error).__name__}: '
          f'{reason}); it is damaged, or of another model: move it away, or take another '
          f'({others}).') from error


def _checked(manager, step, wanted):
  """The state as it was saved, by its digest."""
  state, digest = _state_and_digest(manager, step, wanted)
  if digest != _sha256(jax.tree.leaves(jax.device_get(state))):
    raise ValueError('its bytes are not those that were saved')
  return state


def _is_no_damage(error):
  """Whether a host or a device has too little memory, or the system does not let a file be read.

  An error of a disk's own (EIO) is damage where it comes again.
  """
  return any(isinstance(one, MemoryError) or any(words in str(one) for words in _NO_DAMAGE)
             for one in causes(error))


def _state_and_digest(manager, step, wanted):
  """(state, hex sha256) as they are found."""
  alone = ocp.options.MultiprocessingOptions(
    primary_host=jax.process_index(), active_processes={jax.process_index()})
  handler = ocp.CompositeCheckpointHandler(
    composite_options=ocp.CompositeOptions(multiprocessing_options=alone))
  with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
    found = reader.restore(manager.directory / str(step), args=ocp.args.Composite(
      state=ocp.args.StandardRestore(wanted), sha256=_Digest()))
  return found['state'], found['sha256']


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
  _list_alike(manager)


class _DigestHandler(ocp.AsyncCheckpointHandler):
  """Saves the sha256 of arrays as a text file, computed in a thread of Orbax' own."""
  _NAME = 'sha256'

  async def async_save(self, directory, args):
    """[future] of the file; an error in the thread is raised where the save is waited for."""
    # It begins once Orbax has made the folder, and is waited for before the checkpoint counts.
    return [ocp.future.CommitFutureAwaitingContractedSignals(
      self._write(directory, args.arrays), name=self._NAME)]

  async def _write(self, directory, arrays):
    if parallel.is_first():   # the state is the same in all processes
      (directory / self._NAME).write_text(_sha256(arrays))

  def save(self, directory, args):
    """The same in the foreground, as Orbax wants of every handler; managers do not call it."""
    asyncio.run(self._write(directory, args.arrays))

  def restore(self, directory, args=None):
    """The hex digest that was saved."""
    return (directory / self._NAME).read_text()


@ocp.args.register_with_handler(_DigestHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Digest(ocp.args.CheckpointArgs):
  """The arrays to take the digest of; to restore it, none."""
  arrays: Any = ()


def _sha256(arrays):
  """Hex sha256 of the bytes of host arrays, in order."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(np.ascontiguousarray(array).view(np.uint8).data)
  return digest.hexdigest()
