"""glibc's allocator in programs that train on CPUs: what an update frees, the next one finds.

XLA allocates what an update needs, often hundreds of megabytes, and frees it at its end. glibc maps
such blocks from the system one by one and hands them back, so that the next update finds pages that
have yet to be made and zeroed. What that costs: experiments/bench/allocator.py.
"""
import ctypes
import os

# Numbers of malloc.h. Blocks of any size come from the heap, which does not shrink below 2 GB of
# free memory, and threads have none of their own, of which each would be limited to 64 MB.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8
_SETTINGS = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2 ** 31 - 1, _M_ARENA_MAX: 1}


def keep_freed():
  """Have glibc keep freed memory in the process; whether it does.

  Call it before threads start. Nothing happens under another allocator, and where the environment
  sets glibc's own (GLIBC_TUNABLES, MALLOC_ARENA_MAX and others): what it says stands.
  """
  if any(name == 'GLIBC_TUNABLES' or name.startswith('MALLOC_') for name in os.environ):
    return False
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if os.name == 'posix' else None
  return mallopt is not None and all([mallopt(*setting) for setting in _SETTINGS.items()])
