"""A model of data-parallel training on 8 to 1,024 accelerators: on paper, nothing was run there.

  python -m experiments.scaling [--cells=vae,...] [--record]

Each device takes the published batch, so that n devices train on n times as many images (weak
scaling). An update is the compiled program's FLOPs at a stated share of the data sheet's peak, then
an all-reduce of the gradients, in float32, which nothing hides:

  t(n) = F / (u peak) + 2 (n - 1)/n 4P / B(n) + 2 log2(n) a(n),   efficiency = t(1) / t(n)

with P parameters, F FLOPs, and the bandwidth B and latency a of the slowest link that n devices
share (Thakur et al. 2005, Optimization of collective communication operations in MPICH: ring for
bytes, tree for latency). --record writes the counts, of the CIFAR-10 configs, to
experiments/results/scaling.json.
"""
import importlib
import json
import math
import pathlib

from experiments import command, comparison, estimate

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
    cost = estimate.of_config(importlib.import_module(f'configs.cifar10_{model}').get_config())
    found[model] = {'parameters': cost.parameters, 'flops': cost.flops}
  if FLAGS.record:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | found, indent=1, sort_keys=True) + '\n')
  print(table(found))


def seconds(parameters, flops, n):
  """(of compute, of the all-reduce) of an update on n devices."""
  compute = flops / (UTILISATION * estimate.ACCELERATORS['a100'].flops)
  if n == 1:
    return compute, 0.
  bandwidth, latency = IN_HOST if n <= HOST else ACROSS
  return compute, 2 * (n - 1) / n * 4 * parameters / bandwidth + 2 * math.log2(n) * latency


def efficiency(parameters, flops, n):
  """Time of an update on one device over that on n, each with the same batch."""
  compute, reduce = seconds(parameters, flops, n)
  return compute / (compute + reduce)


def table(found):
  """The table for a page, of {model: counts}."""
  lines = [('model', 'sent and received by each device', 'compute', *(
    f'all-reduce, efficiency on {n}' for n in COUNTS[1:]))]
  lines.append(('---',) * len(lines[0]))
  for model, counts in found.items():
    cells = []
    for n in COUNTS[1:]:
      compute, reduce = seconds(counts['parameters'], counts['flops'], n)
      cells.append(f'{reduce * 1e3:.1f} ms, {compute / (compute + reduce):.1%}')
    lines.append((model, f'{8 * counts["parameters"] / 1e6:,.0f} MB', f'{compute * 1e3:.0f} ms',
                  *cells))
  return comparison.as_markdown(lines)


def markdown():
  """The table of the committed counts."""
  return table(json.loads(RESULTS.read_text()))


if __name__ == '__main__':
  command.define_flags('scaling', cells='Models')
  command.run(run)
