"""Files that are there completely or not at all, whatever happens to the process."""
import contextlib
import os
import pathlib
import socket
import uuid


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


@contextlib.contextmanager
def replacing(path):
  """Context with the path of a file that takes the place of `path` in one move at its end.

  An error inside, or a crash, leaves what was there; a crash may leave a hidden `.part` beside it.
  No two share one, on whatever hosts: in containers the ids of processes are often equal.
  """
  path = pathlib.Path(path)
  part = path.with_name(f'.{path.name}.{socket.gethostname()}-{uuid.uuid4().hex}.part')
  try:
    yield part
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)
