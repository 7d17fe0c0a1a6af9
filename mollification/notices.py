"""What is said to people. Nothing that a run is for may end because nobody can read it."""
import contextlib
import os
import sys
import threading


def say(text, stream=None, end='\n'):
  """Write `text` to a stream, stderr where it is None, at once, or not at all.

  It may go to a pipe whose reader has left, to a full disk, or nowhere.
  """
  stream = stream if stream is not None else sys.stderr
  if stream is None or stream.closed:   # Python's own are None where it was started without
    return
  encoding = getattr(stream, 'encoding', None) or 'utf-8'
  with contextlib.suppress(OSError):
    stream.write((text + end).encode(encoding, 'backslashreplace').decode(encoding))
    stream.flush()


def say_at_last(text, end='\n'):
  """`say` it on stderr where the process is to end, whether it is heard within a second or not.

  A pipe that is full, and not read, may take no word for ever.
  """
  saying = threading.Thread(target=say, args=(text,), kwargs={'end': end}, daemon=True)
  saying.start()
  saying.join(1.)


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
      with contextlib.suppress(OSError, ValueError), open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
