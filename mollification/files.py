"""Files that are there completely or not at all, whatever happens to the process."""
import contextlib
import os
import pathlib


@contextlib.contextmanager
def replacing(path):
  """Context with the path of a file that takes the place of `path` in one move at its end.

  An error inside, or a crash, leaves what was there; a crash may leave a hidden `.part` beside it.
  """
  path = pathlib.Path(path)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    yield part
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)
