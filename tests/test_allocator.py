"""Freed memory is kept for what comes next, unless the environment says otherwise."""
import os
import pathlib
import platform
import resource
import subprocess
import sys

import pytest

from experiments import cells

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


GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='it is glibc that is told')
HUGE = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


@GLIBC
def test_freed_memory_is_kept():
  told, pages = _pages()
  assert told
  assert max(pages) < 2 * BLOCK
  told, pages = _pages(GLIBC_TUNABLES='glibc.malloc.arena_max=4')   # the caller's own
  assert not told
  if not HUGE.exists() or '[always]' not in HUGE.read_text():   # a page would be of megabytes
    assert min(pages) > 10 * BLOCK


def _pages_of_blocks(label):
  """Runs in a worker: how many pages had to be made for 20 blocks, the first left out."""
  del label
  made = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  counts = []
  for _ in range(20):
    b'x' * 2 ** 26
    counts.append(made())
  return counts[-1] - counts[0]


@GLIBC
def test_workers_keep_it(tmp_path):
  (_, pages), = cells.run(['a'], workers=1, compiled=tmp_path, work=_pages_of_blocks)
  assert pages < 2 * BLOCK


@pytest.mark.parametrize('module, arguments', [
  ('mollification.main', ''), ('mollification.evaluate', ''), ('experiments.command', 'None')])
def test_binaries_and_commands_keep_it_from_their_start(module, arguments):
  """Each in a process: they have flags of the same names."""
  code = (f'from mollification import allocator\nimport {module} as module\norder = []\n'
          "allocator.keep_freed = lambda: order.append('kept')\n"
          "module.app.run = lambda *args, **options: order.append('begun')\n"
          f'module.run({arguments})\nprint(*order)\n')
  done = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, check=True)
  assert done.stdout.split() == ['kept', 'begun']
