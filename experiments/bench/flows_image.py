"""Image rows of `experiments.bench.flows`: GLOW against PyTorch, memory, roofline.

glow_step     One update of GLOW (3 levels × 8 steps × 512, 32×32×3, batch 16) as `build` makes it,
              Adamax and mollification included, against PyTorch with torch.optim.Adamax on the same
              numbers: the fastest of normflows and a hand-written GLOW, channels first and channels
              last (`glow_torch.py`), in-memory tensors, as many threads as there are cores. Its
              reference text has the roofline: FLOPs of the update's matrix products as
              `experiments.estimate` counts them, FLOPs by XLA's cost analysis (which takes in all
              else, but the body of a loop once, and GLOW is loops), the rate at which the first
              ran, and, in pairs with the update, the share of the rate of a 2048² float32 matmul.
glow_compile  Seconds to trace, lower and compile the update of 3 × 20; reference 40.
glow_depth    1.2 times those of 3 × 4 over those of 3 × 20, in the same pairs.
glow_sample   100 images of the same model, without gradients, against normflows.
glow_sample_hand_written
              The same against the faster of the hand-written ones; no bar.
glow_memory   Memory of the compiled update of configs/celeba64_glow.py (4 levels × 20 steps, 64 px,
              batch 64) for each `memory`, against `store`: arguments, outputs and temporaries, the
              donated state once; no bar.

All use the cores that the process may run on; `taskset -c 0 python -m experiments.bench.flows`
pins both sides to one.
"""
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from configs import celeba64_glow, cifar10_glow
from experiments import estimate
from experiments.bench import rows, step
from mollification import build, parallel

EVENT, LEVELS, BATCH = (32, 32, 3), 3, 16
SAMPLES = 100


def _config(steps, hidden=512):
  return cifar10_glow.get_config(
    f'batch_size={BATCH},model.levels={LEVELS},model.steps={steps},model.hidden={hidden}')


def _torch_glows(steps, hidden):
  """({name: GLOW in PyTorch}, torch) of the same sizes, on as many threads as there are cores."""
  import torch

  from experiments.bench import glow_golden, glow_torch
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  event = (3, 32, 32)
  ours = functools.partial(glow_torch.Glow, LEVELS, steps, hidden, event)
  return {'normflows': glow_golden.make(LEVELS, steps, hidden, event),
          'PyTorch, hand-written': ours(torch.contiguous_format),
          'PyTorch, hand-written, channels last': ours(torch.channels_last)}, torch


def _torch_step(steps, hidden):
  """(name, () -> None: one update) of the fastest GLOW in PyTorch, on a batch in memory."""
  from experiments.bench import flows_torch
  flows, torch = _torch_glows(steps, hidden)
  batches = [torch.randn(BATCH, 3, 32, 32)]
  return rows.fastest({name: flows_torch.update(
    lambda x, flow=flow: flow.log_prob(x, None),
    torch.optim.Adamax(flow.parameters(), lr=1e-3, weight_decay=1e-5), batches)
    for name, flow in flows.items()})


def _torch_samples(steps, hidden):
  """[(name, () -> None: SAMPLES images)]: of normflows, and of the faster hand-written GLOW."""
  flows, torch = _torch_glows(steps, hidden)

  def samples(flow):
    flow.log_prob(torch.randn(BATCH, 3, 32, 32), None)   # initialises its ActNorm

    def call():
      with torch.no_grad():
        flow.sample(SAMPLES)

    return call

  calls = {name: samples(flow) for name, flow in flows.items()}
  library = 'normflows'
  return [(library, calls.pop(library)), rows.fastest(calls)]


def _batch():
  return np.random.default_rng(0).integers(0, 256, (BATCH, *EVENT), dtype=np.uint8)


def _our_step(config):
  """() -> None: one update as `build` makes it, compiled on the first call."""
  state = build.create_state(config, _batch(), 256, step.LEVEL)
  update = build.train_step(config, EVENT, 256)
  return step.calls(update, 1, state, parallel.shard(_batch(), axis=0), np.float32(step.LEVEL))


def roofline(config, call, updates=1, size=2048, seconds=10.):
  """Words on the FLOPs of a config's update, of which `call` makes so many.

  Its rate is compared with that of a float32 matmul of `size` in pairs: on a shared machine that
  of the matmul alone has been 98 to 144 GFLOP/s within minutes.
  """
  cost = estimate.of_config(config)
  gflop, counted = 1e-9 * cost.flops, 1e-9 * cost.xla_flops
  a, multiply = jnp.ones((size, size)), jax.jit(jnp.matmul)
  timed = rows.interleaved(lambda: multiply(a, a).block_until_ready(), call, 9, seconds=seconds)
  share = lambda ratio: updates * gflop / (2e-9 * size**3) * ratio
  low, high = map(share, timed.quartiles)
  return (f'{gflop:.3g} GFLOP of matmuls ({counted:.3g} by XLA, which counts a loop once) at '
          f'{updates * gflop / timed.b:.0f} GFLOP/s, {share(timed.ratio):.0%} of the rate of a '
          f'{size}² matmul ({low:.0%} to {high:.0%})')


def glow_step(steps=8, hidden=512, pairs=7):
  """Seconds of an update against PyTorch; bar 1.0."""
  config = _config(steps, hidden)
  ours, (name, theirs) = _our_step(config), _torch_step(steps, hidden)
  timed = rows.interleaved(theirs, ours, pairs, seconds=90)
  text = f'{name}, {timed.words}; {roofline(config, ours, seconds=30.)}'
  return [rows.Row('glow_step', timed.b, 's/update', text, timed.a, timed.ratio, 1., True)]


def _compiling(config):
  """() -> None: trace, lower and compile the update, from shapes alone."""
  state = jax.eval_shape(lambda b: build.create_state(config, b, 256, step.LEVEL), _batch())
  update = build.train_step(config, EVENT, 256)
  mapped = jax.jit(jax.vmap(parallel.with_global_keys(update), axis_name=parallel.AXIS,
                            in_axes=(None, 0, None, None, None, None), out_axes=None))
  args = (state, jax.ShapeDtypeStruct((1, BATCH, *EVENT), np.uint8),
          jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), np.float32),
          None, None)

  def run():
    jax.clear_caches()
    mapped.lower(*args).compile()

  return run


def glow_compile(deep=20, shallow=4, hidden=512):
  """Seconds to compile the full model; bars 40 s, and 1.2 times the shallow one."""
  timed = rows.interleaved(*(_compiling(_config(n, hidden)) for n in (shallow, deep)), 5)
  return [
    rows.Row('glow_compile', timed.b, 's', 'the allowed time', 40., 40. / timed.b, 1., True),
    rows.Row('glow_depth', timed.b, 's', f'1.2 × that of 3 × {shallow}, {timed.words}',
             1.2 * timed.a, 1.2 * timed.ratio, 1., True)]


def glow_sample(steps=8, hidden=512, pairs=5):
  """Seconds of 100 images against normflows, bar 1.0, and against hand-written PyTorch."""
  config = _config(steps, hidden)
  net = build.model(config, EVENT)
  state = build.create_state(config, _batch(), 256, step.LEVEL)
  sample = jax.jit(functools.partial(net.apply, method='sample'))
  keys = jax.random.split(jax.random.key(0), SAMPLES)
  variables = {'params': state.params, **state.model_state}
  found = []
  for (name, theirs), row, bar in zip(_torch_samples(steps, hidden),
                                      ('glow_sample', 'glow_sample_hand_written'), (1., None)):
    timed = rows.interleaved(theirs, lambda: sample(variables, keys).block_until_ready(), pairs,
                             seconds=60)
    found.append(rows.Row(row, timed.b, f's/{SAMPLES} images', f'{name}, {timed.words}', timed.a,
                          timed.ratio, bar, True))
  return found


def glow_memory(*options):
  """Megabytes of the compiled update for each memory mode; no bar."""
  found = {}
  for memory in ('store', 'remat', 'invertible'):
    config = celeba64_glow.get_config(','.join([f'model.memory={memory}', *options]))
    found[memory] = estimate.of_config(config).memory / 1e6
  return [rows.Row(f'glow_memory_{memory}', value, 'MB', 'store', found['store'],
                   found['store'] / value, None, True) for memory, value in found.items()]


MEASURES = {'glow_step': glow_step, 'glow_compile': glow_compile, 'glow_sample': glow_sample,
            'glow_memory': glow_memory}
SMOKE = {
  'glow_step': functools.partial(glow_step, steps=1, hidden=8, pairs=5),
  'glow_compile': functools.partial(glow_compile, deep=2, shallow=1, hidden=8),
  'glow_sample': functools.partial(glow_sample, steps=1, hidden=8, pairs=5),
  'glow_memory': functools.partial(
    glow_memory, 'model.levels=2', 'model.steps=2', 'model.hidden=8', 'batch_size=4'),
}
