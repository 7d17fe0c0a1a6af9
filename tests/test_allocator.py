"""Freed memory is kept for what comes next, unless the environment says otherwise."""
import os
import platform
import subprocess
import sys

import pytest

# How many pages have to be made for 20 blocks of 64 MB, one after the other, and from a thread.
PAGES = '''
import resource, threading
from mollification import allocator
print(allocator.keep_freed())
def work():
  for _ in range(20):
    b'x' * 2 ** 26
def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for start in (lambda f: f(), lambda f: (t := threading.Thread(target=f), t.start(), t.join())):
  before = faults()
  start(work)
  print(faults() - before)
'''
BLOCK = 2 ** 26 // os.sysconf('SC_PAGESIZE')   # pages of one block


def _pages(**environment):
  kept = {name: value for name, value in os.environ.items()
          if not name.startswith(('GLIBC_', 'MALLOC_'))}
  done = subprocess.run([sys.executable, '-c', PAGES], env=kept | environment, text=True,
                        capture_output=True, check=True)
  said, *pages = done.stdout.split()
  return said == 'True', [int(count) for count in pages]


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='it is glibc that is told')
def test_freed_memory_is_kept():
  kept, pages = _pages()
  assert kept
  assert max(pages) < 2 * BLOCK
  kept, pages = _pages(GLIBC_TUNABLES='glibc.malloc.arena_max=4')   # the caller's own
  assert not kept
  assert min(pages) > 10 * BLOCK
