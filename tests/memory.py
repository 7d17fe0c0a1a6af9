"""What a process holds in memory, as the kernel (Linux) says."""
import pathlib


def own_mb(process='self'):
  """MB of a process (its id) itself: without pages of mapped files, which the kernel takes back.

  0 of one that has ended.
  """
  lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
  return sum(int(line.split()[1]) for line in lines if line.startswith('RssAnon:')) / 1e3
