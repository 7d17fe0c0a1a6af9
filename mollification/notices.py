"""What is said to people. Nothing that a run is for may end because nobody can read it."""
import contextlib
import os
import sys


def say(text, stream=None, end='\n'):
  """Write `text` to a stream, stderr where it is None, at once, or not at all.

  It may go to a pipe whose reader has left, to a full disk, or nowhere.
  """
  stream = stream if stream is not None else sys.stderr
  if stream is not None:   # Python's own are None where the process was started without
    with contextlib.suppress(OSError, ValueError):
      stream.write(text + end)
      stream.flush()


def is_terminal(stream):
  """Whether somebody watches the stream."""
  return stream is not None and not stream.closed and stream.isatty()


def let_go():
  """Have stdout and stderr, as the process ends, drop what they cannot write.

  Python would else make its exit status 120.
  """
  for stream in (sys.stdout, sys.stderr):
    try:
      if stream is not None:
        stream.flush()
    except (OSError, ValueError):
      with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
