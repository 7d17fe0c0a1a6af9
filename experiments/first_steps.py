"""A few real updates of every family at the paper's full width: does the loss fall, does it fit?

  python -m experiments.first_steps [--cells=vae,...] [--smoke] [--record]

The nets of the CIFAR-10 configs, vanilla, on one small batch of photo_patches, which have the shape
of CIFAR-10 and need no download. Its loss should fall; the memory that a process of its own holds
at its peak, beyond what it held before the first update, is held against what `estimate` says of
arguments, outputs and temporaries of the update. --record writes
experiments/results/first_steps.json. Some minutes a family on a CPU.
"""
import concurrent.futures
import dataclasses
import importlib
import json
import multiprocessing
import pathlib
import resource

from experiments import command, estimate, image_cells
from mollification import files

FLAGS = command.FLAGS
FAMILIES = (*image_cells.MODELS, 'nvae')
UPDATES, BATCH = 12, 8
RESULTS = pathlib.Path(__file__).parent / 'results' / 'first_steps.json'


def run(root):
  """One family after the other; prints a line each."""
  del root
  found = {}
  for family in command.chosen_cells(FAMILIES):
    updates = 2 if FLAGS.smoke else UPDATES
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
  config.data.name, config.batch_size, config.total_steps = 'photo_patches', BATCH, updates
  config.mollify.fraction, config.steps_per_call = 0., 1
  config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 1)
  return config


def estimated(family):
  """What `estimate` says of an update."""
  cost = estimate.of_config(config_of(family, UPDATES))
  return {'parameters': cost.parameters, 'estimated_gb': round(cost.memory / 1e9, 2)}


def measure(family, updates):
  """Losses and memory of the first updates, in this process."""
  from mollification import build
  from mollification.training import loop
  run = build.build(config_of(family, updates))
  before, first = _held(), run.batch
  call = loop.compiled_update(dataclasses.replace(run, batch=lambda step, count: first(0, count)))
  state, losses = run.create_state(), []
  for step in range(updates):
    state, metrics = call(state, step)
    losses.append(round(float(metrics['loss']), 1))
  return {'losses': losses, 'grown_gb': round((_peak() - before) / 1e9, 2),
          'skipped': int(state.skipped), 'batch': BATCH}


def _held():
  """Bytes that this process holds now."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * resource.getpagesize()


def _peak():
  """Bytes that it held at most."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def markdown():
  """The table for a page."""
  lines = [('model', 'parameters', 'loss (nats)', 'memory, estimated', 'measured'), ('---',) * 5]
  for family, found in json.loads(RESULTS.read_text()).items():
    lines.append((family, f'{found["parameters"] / 1e6:.1f} M',
                  f'{found["losses"][0]:,.0f} → {found["losses"][-1]:,.0f}',
                  f'{found["estimated_gb"]} GB', f'{found["grown_gb"]} GB'))
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


if __name__ == '__main__':
  command.define_flags('first_steps', cells='Families')
  command.run(run)
