"""A few real updates of every family at the paper's full width: does the loss fall, does it fit?

  python -m experiments.first_steps [--cells=vae,...] [--smoke] [--record]

The nets of the CIFAR-10 configs, vanilla, on one small batch of photo_patches, which have the shape
of CIFAR-10 and need no download. Its loss should fall; the state and what the process holds beyond
it while updates run, once they are compiled, is held against what `estimate` says of arguments,
outputs and temporaries. --record writes experiments/results/first_steps.json. Linux alone; some
minutes a family on a CPU.
"""
import concurrent.futures
import ctypes
import dataclasses
import importlib
import json
import multiprocessing
import pathlib
import re

from experiments import command, comparison, estimate, image_cells, names
from mollification import files

FLAGS = command.FLAGS
FAMILIES = (*image_cells.MODELS, 'nvae')
BATCH = 8
# ActNorm starts GLOW where the batch has the density that it is normalised to, and Adam's first
# full steps lose that: it takes more of them to come back.
UPDATES = dict.fromkeys(FAMILIES, 8) | {'glow': 32}
RESULTS = pathlib.Path(__file__).parent / 'results' / 'first_steps.json'


def run(root):
  """One family after the other; prints a line each."""
  del root
  found = {}
  for family in command.chosen_cells(FAMILIES):
    updates = 2 if FLAGS.smoke else UPDATES[family]
    # Compiling for the estimate would count as memory of the run.
    found[family] = _apart(estimated, family) | _apart(measure, family, updates)
    print(family, json.dumps(found[family]), flush=True)
  if FLAGS.record:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with files.replacing(RESULTS) as part:
      part.write_text(json.dumps(known | found, indent=1, sort_keys=True) + '\n')


def _apart(fn, *args):
  """`fn(*args)` in a process of its own."""
  with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
    return process.submit(fn, *args).result()


def config_of(family, updates):
  """The CIFAR-10 config of a family on patches, so many vanilla updates of 8 images."""
  config = importlib.import_module(f'configs.cifar10_{family}').get_config()
  warmup = config.optimizer.warmup_steps   # of the whole run: it follows total_steps
  config.data.name, config.batch_size, config.total_steps = 'photo_patches', BATCH, updates
  config.mollify.fraction, config.steps_per_call = 0., 1
  if warmup:   # NVAE's first rates, where they would be in the whole run
    config.optimizer.learning_rate *= updates / warmup
    config.optimizer.warmup_steps, config.optimizer.schedule = 0, 'constant'
  return config


def estimated(family):
  """What `estimate` says of an update."""
  cost = estimate.of_config(config_of(family, UPDATES[family]))
  return {'parameters': cost.parameters, 'estimated_gb': round(cost.memory / 1e9, 2)}


def measure(family, updates):
  """Losses and memory of the first updates, in this process."""
  import jax

  from mollification import build
  from mollification.training import loop
  run = build.build(config_of(family, updates))
  first = run.batch
  call = loop.compiled_update(dataclasses.replace(run, batch=lambda step, count: first(0, count)))
  state, losses, held = run.create_state(), [], 0
  for step in range(updates):
    state, metrics = call(state, step)
    losses.append(round(float(metrics['loss']), 1))
    if step == 0:   # it compiled, which took memory of its own; free what is free
      ctypes.CDLL(None).malloc_trim(0)
      held = _bytes('VmRSS')
      pathlib.Path('/proc/self/clear_refs').write_text('5')   # the peak begins anew
  own = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  return {'losses': losses, 'measured_gb': round((_bytes('VmHWM') - held + own) / 1e9, 2),
          'skipped': int(state.skipped), 'batch': BATCH}


def _bytes(name):
  """A line of /proc/self/status: VmRSS, held now, or VmHWM, at most since it was reset."""
  text = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(rf'^{name}:\s+(\d+) kB$', text, re.M)[1]) * 1024


def markdown():
  """The table for a page."""
  lines = [('model', 'parameters', 'updates', 'loss (nats)', 'highest', 'memory, estimated',
            'measured'), ('---',) * 7]
  for family, found in json.loads(RESULTS.read_text()).items():
    lines.append((names.model(family), f'{found["parameters"] / 1e6:.1f} M',
                  f'{len(found["losses"])}',
                  f'{found["losses"][0]:,.0f} → {found["losses"][-1]:,.0f}',
                  f'{max(found["losses"]):,.0f}',
                  f'{found["estimated_gb"]} GB', f'{found["measured_gb"]} GB'))
  return comparison.as_markdown(lines)


if __name__ == '__main__':
  command.define_flags('first_steps', cells='Families', workers=0)
  command.run(run)
