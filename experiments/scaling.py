"""A model of data-parallel training on 8 to 1,024 accelerators: on paper, nothing was run there.

  python -m experiments.scaling [--cells=vae,...] [--record]

Each device takes the published batch, so that n devices train on n times as many images (weak
scaling). An update is the program's FLOPs at a stated share of the data sheet's peak, and its
all-reduces, which nothing hides:

  t(n) = F / (u peak) + 2 (n - 1)/n S / B(n) + 2 C log2(n) a(n),   efficiency = t(1) / t(n)

with F FLOPs, S bytes that are summed, nearly all of them gradients in float32, C all-reduces of
which each waits for the one before (collectives.py: four of each BatchNorm, whose statistics are
those of the whole batch, and one of all gradients), and the bandwidth B and latency a of the
slowest link that n devices share (Thakur et al. 2005, Optimization of collective communication
operations in MPICH: ring for bytes, tree for latency). --record writes the counts, of the traced
updates of the CIFAR-10 configs, to experiments/results/scaling.json.
"""
import importlib
import json
import math
import pathlib

import jax

from experiments import accelerators, collectives, command, comparison, estimate

FLAGS = command.FLAGS
MODELS = ('vae', 'glow', 'realnvp')
COUNTS = (1, 8, 64, 256, 1024)
RESULTS = pathlib.Path(__file__).parent / 'results' / 'scaling.json'
UTILISATION = .3   # of the peak; what 'core' reaches here is .6 to .7
# Of an A100: NVLink in a host of 8 (600 GB/s in both directions together), beyond it one HDR
# InfiniBand port of 200 Gb/s a device; bytes and seconds per hop. Data sheets; latencies are
# assumed.
IN_HOST, HOST = (300e9, 5e-6), 8
ACROSS = (25e9, 1e-5)


def run(root):
  """Count, and print the table."""
  del root
  found = {}
  for model in command.chosen_cells(MODELS):
    found[model] = counts(importlib.import_module(f'configs.cifar10_{model}').get_config())
  if FLAGS.record:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | found, indent=1, sort_keys=True) + '\n')
  print(table(found))


def counts(config):
  """What the model knows of a config's update."""
  update, shapes = estimate.update_of(config)
  jaxpr = jax.make_jaxpr(update)(*shapes)
  return {'parameters': estimate.parameters_of(shapes[0]),
          'flops': jax.local_device_count() * estimate.matmul_flops(jaxpr),
          'bytes': collectives.sent(jaxpr), 'collectives': collectives.rounds(jaxpr)}


def seconds(counts, n):
  """(of compute, of the bytes of all-reduces, of their latency) of an update on n devices."""
  compute = counts['flops'] / (UTILISATION * accelerators.ACCELERATORS['a100'].flops)
  if n == 1:
    return compute, 0., 0.
  bandwidth, latency = IN_HOST if n <= HOST else ACROSS
  return (compute, 2 * (n - 1) / n * counts['bytes'] / bandwidth,
          2 * counts['collectives'] * math.log2(n) * latency)


def efficiency(counts, n):
  """Time of an update on one device over that on n, each with the same batch."""
  return seconds(counts, n)[0] / sum(seconds(counts, n))


def table(found):
  """The table for a page, of {model: counts}."""
  lines = [('model', 'sent and received by each device', 'all-reduces, one after another',
            'compute', *(f'bytes + latency, efficiency on {n}' for n in COUNTS[1:]))]
  lines.append(('---',) * len(lines[0]))
  for model, counts in found.items():
    cells = []
    for n in COUNTS[1:]:
      compute, sending, waiting = seconds(counts, n)
      cells.append(f'{sending * 1e3:.1f} + {waiting * 1e3:.1f} ms, {efficiency(counts, n):.1%}')
    lines.append((model, f'{2 * counts["bytes"] / 1e6:,.0f} MB', f'{counts["collectives"]:,}',
                  f'{compute * 1e3:.0f} ms', *cells))
  return comparison.as_markdown(lines)


def markdown():
  """The table of the committed counts."""
  return table(json.loads(RESULTS.read_text()))


if __name__ == '__main__':
  command.define_flags('scaling', cells='Models', workers=0)
  command.run(run)
