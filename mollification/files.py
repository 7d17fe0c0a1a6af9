"""Files that are there completely or not at all, whatever happens to the process."""
import contextlib
import fcntl
import glob
import os
import pathlib
import shutil
import socket
import time
import uuid

import numpy as np

LOOKS = 90   # a second apart, at what another host writes: NFS shows a change within 60 s
_STALE = 3600   # seconds after which a file that another host writes, and did not go on with, goes


def checked_output(path, suffix, inputs=()):
  """`path` as a Path, before hours are spent on what is to be written there; nothing is made yet.

  Raises ValueError for another suffix, a folder, and one of the files in `inputs`, OSError where
  nothing can be written.
  """
  path = pathlib.Path(path).expanduser()
  if path.suffix != suffix or path.is_dir():
    raise ValueError(f'the output must be a file called *{suffix}, got {str(path)!r}; rename it.')
  for other in map(pathlib.Path, inputs):
    if path.exists() and other.expanduser().exists() and path.samefile(other.expanduser()):
      raise ValueError(f'{path} is read here, and would be written over; choose another output.')
  folder = next(folder for folder in path.absolute().parents if folder.exists())
  if not (folder.is_dir() and os.access(folder, os.W_OK)):
    raise PermissionError(f'{path} cannot be written in {folder}; choose another output.')
  return path


def write_rows(path, shape, dtype, batches):
  """Writes arrays [n_i, *event] one after another as one .npy of `shape`; OSError on a full disk.

  It has the errno of the disk, which np.save's lacks, and a memory map would die of SIGBUS.
  ValueError if they do not add up to `shape`.
  """
  count = 0
  with open(path, 'wb') as file:
    np.lib.format.write_array_header_1_0(
      file, {'descr': np.dtype(dtype).str, 'fortran_order': False, 'shape': tuple(shape)})
    for batch in batches:
      if batch.shape[1:] != tuple(shape[1:]):
        raise ValueError(f'{path.name}: example {count} has shape {batch.shape[1:]}, '
                         f'{tuple(shape[1:])} expected.')
      file.write(np.ascontiguousarray(batch, dtype).data)
      count += len(batch)
  if count != shape[0]:
    raise ValueError(f'{path.name}: {count} examples came, {shape[0]} announced; the source is '
                     'damaged, prepare it again.')


def reserve(file, size):
  """Have the disk hold `size` bytes of an empty file, or raise OSError.

  A map of a file with holes dies of SIGBUS where the disk is full.
  """
  if hasattr(os, 'posix_fallocate'):   # not on macOS
    os.posix_fallocate(file.fileno(), 0, size)


@contextlib.contextmanager
def replacing(path):
  """Context with the path of a file that takes the place of `path` in one move at its end.

  An error inside, or a crash, of the machine too, leaves what was there or all of what is new; a
  crash may leave a hidden `.part` beside it, which goes when `path` is written the next time.
  No two share one, on whatever hosts: in containers the ids of processes are often equal.
  """
  _remove_leftovers(pathlib.Path(path))
  part = _beside(path)
  try:
    with _held(part):
      yield part
      to_disk(part)   # else the move may be there after a crash of the machine, and the bytes not
      os.replace(part, path)
    with contextlib.suppress(OSError):   # of file systems that know no such thing of a folder
      to_disk(part.parent)
  finally:
    part.unlink(missing_ok=True)


def _held(path):
  """A new file, open, which no other process takes for a leftover while this one lives.

  The lock is the kernel's (flock): it dies with the process, whatever kills it.
  """
  while True:
    file = path.open('ab')
    with contextlib.suppress(OSError):   # of file systems without locks: there nothing is removed
      fcntl.flock(file, fcntl.LOCK_EX)
    if is_at(file, path):
      return file
    file.close()   # it was taken for one before it was locked


def is_at(file, path):
  """Whether the open `file` is still what `path` names."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def _remove_leftovers(path):
  """Remove what killed processes have left of `replacing(path)`.

  Locks may mean nothing from one host to another: what those left is to be old, too.
  """
  own = f'.{path.name}.{socket.gethostname()}'   # and a hyphen and a word without one
  for part in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
    # It may be locked, a folder, or gone meanwhile. NFS locks alone what is open to be written.
    with contextlib.suppress(OSError), part.open('rb+') as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if part.name.rpartition('-')[0] == own or time.time() - part.stat().st_mtime > _STALE:
        part.unlink()


@contextlib.contextmanager
def replacing_folder(path):
  """The same of a folder, empty at first; what stood there is moved aside before it is removed.

  A crash between two moves leaves it whole beside its place, hidden. All files are on disk before.
  """
  path, part, old = pathlib.Path(path), _beside(path), _beside(path)
  part.mkdir(parents=True)
  try:
    yield part
    _all_to_disk(part)
    if path.exists():
      path.rename(old)
    try:
      part.rename(path)
    except OSError:
      if old.exists():
        old.rename(path)
      raise
    with contextlib.suppress(OSError):   # as of a folder in `replacing`
      to_disk(path.parent)
  finally:
    shutil.rmtree(part, ignore_errors=True)
  shutil.rmtree(old, ignore_errors=True)


def _all_to_disk(folder):
  for path in (*folder.rglob('*'), folder):
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
      to_disk(path)


def to_disk(path):
  """Have what was written to a file, or the entries of a folder, survive a crash of the machine."""
  file = os.open(path, os.O_RDONLY)
  try:
    os.fsync(file)
  finally:
    os.close(file)


def _beside(path):
  path = pathlib.Path(path)
  return path.with_name(f'.{path.name}.{socket.gethostname()}-{uuid.uuid4().hex}.part')
