"""What a process holds in memory, as the kernel (Linux) says; and what Orbax alone keeps of saves.

  python -m tests.memory FOLDER COUNT SAVES

saves a state of 400 kB and a few words beside it so many times into FOLDER, with nothing of this
project, and writes a letter into the file COUNT after each.
"""
import pathlib
import sys


def own_mb(process='self'):
  """MB of a process (its id) itself: without pages of mapped files, which the kernel takes back.

  0 of one that has ended.
  """
  lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
  return sum(int(line.split()[1]) for line in lines if line.startswith('RssAnon:')) / 1e3


def _save_over_and_over(folder, count, saves):
  import jax.numpy as jnp
  import orbax.checkpoint as ocp
  state = {f'{i}': jnp.zeros(100_000 // 24) for i in range(24)}   # as many leaves as a small VAE's
  options = ocp.CheckpointManagerOptions(max_to_keep=2)
  with (pathlib.Path(count).open('w') as file,
        ocp.CheckpointManager(pathlib.Path(folder).resolve(), options=options) as manager):
    for step in range(int(saves)):
      manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), words=ocp.args.JsonSave({'step': step})))
      manager.wait_until_finished()
      file.write('.')
      file.flush()


if __name__ == '__main__':
  _save_over_and_over(*sys.argv[1:])
