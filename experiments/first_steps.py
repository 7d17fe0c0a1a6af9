"""A few real updates of every family at the paper's full width: does the loss fall, does it fit?

  python -m experiments.first_steps [--cells=vae,...] [--smoke] [--record]

The nets of the CIFAR-10 configs, vanilla, in small batches of photo_patches, which have the shape
of CIFAR-10 and need no download; each family in a process of its own, whose memory at its peak is
held against what `estimate` says of arguments, outputs and temporaries of the update. --record
writes experiments/results/first_steps.json. Some minutes a family on a CPU.
"""
import concurrent.futures
import importlib
import json
import multiprocessing
import pathlib
import resource

from experiments import command, estimate, image_cells

FLAGS = command.FLAGS
FAMILIES = (*image_cells.MODELS, 'nvae')
UPDATES, BATCH = 12, 8
RESULTS = pathlib.Path(__file__).parent / 'results' / 'first_steps.json'


def run(root):
  """One family after the other; prints a line each."""
  del root
  found = {}
  for family in command.chosen_cells(FAMILIES):
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context('spawn')) as process:
      found[family] = process.submit(measure, family, 2 if FLAGS.smoke else UPDATES).result()
    print(family, json.dumps(found[family]), flush=True)
  if FLAGS.record:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | found, indent=1, sort_keys=True) + '\n')


def config_of(family, updates):
  """The CIFAR-10 config of a family on patches, so many vanilla updates of 8 images."""
  config = importlib.import_module(f'configs.cifar10_{family}').get_config()
  config.data.name, config.batch_size, config.total_steps = 'photo_patches', BATCH, updates
  config.mollify.fraction, config.steps_per_call = 0., 1
  config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, 1)
  return config


def measure(family, updates):
  """Losses and memory of the first updates, in this process."""
  import jax

  from mollification import build
  from mollification.training import loop
  jax.config.update('jax_platforms', 'cpu')
  config = config_of(family, updates)
  cost, run = estimate.of_config(config), build.build(config)
  before = _peak()
  call, state, losses = loop.compiled_update(run), run.create_state(), []
  for step in range(updates):
    state, metrics = call(state, step)
    losses.append(float(metrics['loss']))
  return {'parameters': cost.parameters, 'losses': [round(loss, 1) for loss in losses],
          'estimated_gb': round(cost.memory / 1e9, 2),
          'grown_gb': round((_peak() - before) / 1e9, 2),
          'skipped': int(state.skipped), 'batch': BATCH}


def _peak():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def markdown():
  """The table for a page."""
  lines = [('model', 'parameters', 'loss, first to last update', 'memory, estimated',
            'grown by, at the peak'), ('---',) * 5]
  for family, found in json.loads(RESULTS.read_text()).items():
    lines.append((family, f'{found["parameters"] / 1e6:.1f} M',
                  f'{found["losses"][0]:,.0f} → {found["losses"][-1]:,.0f} '
                  f'({len(found["losses"])} updates of {found["batch"]})',
                  f'{found["estimated_gb"]} GB', f'{found["grown_gb"]} GB'))
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


if __name__ == '__main__':
  command.define_flags('first_steps', cells='Families')
  command.run(run)
