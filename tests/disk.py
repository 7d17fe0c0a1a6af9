"""Small disks that tests fill, and one that never ends to write."""
import contextlib
import subprocess

import pytest

# Programs for `python -c`: the training binary, and the same where the digest of a checkpoint, the
# last part of it, is never written.
TRAIN = 'from mollification import main\nmain.run()\n'
HANGING = ('import asyncio\n'
           'from mollification.training import checkpoint\n'
           'checkpoint._DigestHandler._write = lambda *args: asyncio.sleep(10**6)\n'
           f'{TRAIN}')


@contextlib.contextmanager
def mounted(folder, megabytes):
  """`folder`, a disk of its own of that size; the test is skipped where it may not mount one."""
  folder.mkdir()
  done = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)],
    capture_output=True, check=False)
  if done.returncode:
    pytest.skip(f'no disk to fill: {done.stderr.decode().strip()}')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def fill(folder):
  """Leave no byte free in the disk of `folder`."""
  with (folder / 'filler').open('ab', buffering=0) as file:
    for size in (1 << 20, 4096, 1):   # until even a byte fails
      while True:
        try:
          file.write(b'0' * size)
        except OSError:
          break


def free(folder):
  """Take away what `fill` left."""
  (folder / 'filler').unlink()
