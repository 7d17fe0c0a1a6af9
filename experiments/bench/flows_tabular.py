"""Tabular rows of `experiments.bench.flows`: one update at D = 11, batch 100, five blocks of 512.

maf_step_torch, realnvp_tabular_step_torch, glow_tabular_step_torch
    The update of configs/uci_redwine_*.py as `build` makes it, 13 to a call, mollification, masks
    of padded rows and Adam included, against PyTorch on as many threads as there are cores: the
    faster of a hand-written loop and one of libraries' layers (`flows_torch.py`), both with fused
    Adam.
maf_step_flowjax
    The same MAF against FlowJAX's own training step on a masked autoregressive flow of five
    layers, width 512, depth 2, with the same optimiser.

References have the roofline, as that of `glow_step`. These flows are no loops: XLA's cost analysis
counts all there is, optimiser and masks included.

Two bars are missed against PyTorch, MAF's 2.0 by 1.91 and RealNVP's 1.3 by 1.28; GLOW reaches its
1.3 by 1.35. What moves from day to day is PyTorch's time: before what is told at the end the same
updates gave 1.63 to 1.78, 1.08 to 1.29 and 1.09 to 1.33. The loops of libraries' layers are slower
than the hand-written ones. Products of these shapes by themselves on an idle core (20 of them with
kernels of their own, 100 rows, 512 to 512; what is freed stays with the process), in GFLOP/s, XLA's
and then PyTorch's: 71 to 83 and 99 to 114 forwards, 77 to 82 and 90 to 94 for an input's gradient,
84 to 89 and 78 to 85 for a kernel's. With operands swapped and the result transposed XLA's are no
faster (73 to 83, 83 to 87). RealNVP and GLOW are these products; MAF makes 77 % of them, and is
ahead by that. Other forms of the same forwards, a chain of 20, in processor time of theirs as they
are (112 GFLOP/s on a quieter day): rows padded to 104, 112 or 128 .94, .92 and .82 of the rate
(rows that are there cost no more: 144 run at 1.07 times it), the kernel in two or four blocks of
its outputs .95, s and t of a coupling as one product of twice the outputs .96, as one batched
product of two .06 (XLA on CPU has no fast batched product). There is nothing left in the form of
the products; what is, is in XLA's kernels, of which a program has one for all its products. By
themselves on another day (GFLOP/s forwards, for an input's gradient, for a kernel's; PyTorch 99,
113, 112): YNN's, which is JAX's own choice, 77, 77 and 90; Eigen's 96 to 101, 54 and 91; oneDNN's
78 to 83, 71 and 75. Eigen's is as fast forwards as PyTorch's, and loses that on the transposed
kernel: whole updates take 1.06 (MAF), 1.11 (RealNVP) and 1.17 (GLOW) of their time. Neither
precision, nor algorithm, nor a batch dimension moves one product to another kernel than the rest.

Where MAF's time goes on one core (profile of the compiled update, 8.7 ms): 5.4 are matrix products
(55 % of the full kernels would do, blocks of 256 leave 77 %), 1.5 Adam, 12 passes over 4.4 MB,
since XLA on CPU makes m, v and p in a loop each, .4 masks, .3 rows put together, .1 random numbers,
1 activations and sums. Tried without gain: Adam in one pass (XLA's option
`xla_cpu_use_multi_output_fusion`: 1.09 times its time; blocks of 32 or 64 rows in a loop: 5 to 8
times, `lax.scan` over them: 2.7), one division in it in place of two (1.00 of the update), x^T
copied by panels (XLA fuses the copies into the slow one), other kernels of XLA's (the update of MAF
and of RealNVP, of their time as they are: `xla_cpu_use_xnnpack` .98 and 1.18, its fused graphs 1.03
and 1.14, YNN's products 1.15 and 1.33, the fusion emitters of before MLIR 1.44 and 1.56).

On a Xeon with AVX-512, whole updates one after the other in two processes, three things were gained
(the time of an update, of its time before): the mean over devices is left out where there is one,
which XLA makes copies of all gradients for (`parallel.alone`: MAF .98, RealNVP .94, GLOW .92; in
sweeps .86 to .89); rows of 2 KB are no longer made longer by a line of the cache for kernels'
gradients, which an EPYC with AVX2 had gained by (MAF .92, RealNVP .88); blocks of MAF's kernels are
multiplied whole (.84 to .89). Without gain there: products of hidden layers as convolutions of one
tap, which XLA turns into products after it has chosen YNN's for the others, so that they alone go
to Eigen's, .97 to 1.0 (forwards 126 GFLOP/s in place of 90 by themselves), and 20 times as long in
a layout in which they stayed convolutions; x copied transposed for kernels' gradients, 1.03 of
plain; Adam of ten kernels of 512 by 512, 4.8 ms at 26 GB/s where PyTorch's fused one takes 1.8, in
blocks of 32 to 128 rows with a `cond` that keeps apart what it makes of them, 1.2 to 1.5 times as
long, in pages of 2 MB and with vectors of 512 bits the same.
"""
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import uci_redwine_glow, uci_redwine_maf, uci_redwine_realnvp
from experiments.bench import flows_image, rows, step
from mollification import build, parallel

SIZE, BATCH, BLOCKS = 11, 100, 5
CONFIGS = {'maf': uci_redwine_maf, 'realnvp_tabular': uci_redwine_realnvp,
           'glow_tabular': uci_redwine_glow}


def _batches(count):
  return np.random.default_rng(0).normal(size=(count, BATCH, SIZE)).astype(np.float32)


def _ours(name, hidden):
  """(() -> None: 13 updates in one compiled call, their config)."""
  config = CONFIGS[name].get_config(f'model.hidden={hidden}')
  count = config.steps_per_call
  x = _batches(count)
  state = build.create_state(config, x[0], None, step.LEVEL)
  call = step.calls(
    build.train_step(config, (SIZE,), None), count, state, parallel.shard(x, axis=1),
    np.full(count, step.LEVEL, np.float32), None,
    parallel.shard(np.ones(x.shape[:2], bool), axis=1))
  return call, config


def torch_loop(name, hidden, count, tables=()):
  """(name, () -> None: so many updates) of the faster loop in PyTorch.

  With `tables`, of training data and of others, an evaluation on the others follows.
  """
  import torch

  from experiments.bench import flows_torch
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  batches = list(torch.from_numpy(_batches(count)))
  tables = [torch.from_numpy(table) for table in tables]
  loops = {}
  for kind in ('hand_written', 'library'):
    flow = getattr(flows_torch, kind)(name, SIZE, hidden, BLOCKS)
    update = flows_torch.update(flow.log_prob, flows_torch.adam(flow), batches)
    loops[kind] = functools.partial(_then_evaluate, update, flow, tables) if tables else update
  kind, loop = rows.fastest(loops)
  return f'PyTorch, {kind.replace("_", "-")}', loop


def _then_evaluate(update, flow, tables):
  from experiments.bench import flows_torch
  update()
  flows_torch.evaluate(flow, tables[0], tables[1:])


def torch_step(name, bar, hidden=512, seconds=25.):
  """Milliseconds of an update against PyTorch."""
  ours, config = _ours(name, hidden)
  kind, theirs = torch_loop(name, hidden, config.steps_per_call)
  timed = rows.interleaved(theirs, ours, 9, seconds=seconds)
  return [_row(f'{name}_step_torch', kind, timed, ours, config, bar)]


def flowjax_loop(hidden, count, held_out=()):
  """() -> None: so many updates of FlowJAX's own step on the MAF.

  With tables `held_out`, their likelihoods follow.
  """
  import equinox
  import flowjax.distributions
  import flowjax.flows
  import paramax
  from flowjax.train.losses import MaximumLikelihoodLoss
  from flowjax.train.train_utils import step as update
  flow = flowjax.flows.masked_autoregressive_flow(
    jax.random.key(0), base_dist=flowjax.distributions.Normal(jnp.zeros(SIZE)),
    flow_layers=BLOCKS, nn_width=hidden, nn_depth=2)
  params, static = equinox.partition(
    flow, equinox.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable))
  optimizer = optax.chain(optax.add_decayed_weights(1e-6), optax.adam(1e-4))
  state, loss, batches = optimizer.init(params), MaximumLikelihoodLoss(), list(_batches(count))

  @jax.jit
  def evaluate(params, tables):
    flow = paramax.unwrap(equinox.combine(params, static))
    return [flow.log_prob(x).mean() for x in tables]

  def theirs():
    nonlocal params, state
    for x in batches:
      params, state, value = update(params, static, x, optimizer=optimizer, opt_state=state,
                                    loss_fn=loss, key=jax.random.key(0))
    jax.block_until_ready((value, evaluate(params, held_out) if held_out else None))

  return theirs


def flowjax_step(hidden=512, seconds=25.):
  """Milliseconds of an update of MAF against FlowJAX; bar 1.2."""
  ours, config = _ours('maf', hidden)
  timed = rows.interleaved(flowjax_loop(hidden, config.steps_per_call), ours, 9, seconds=seconds)
  return [_row('maf_step_flowjax', 'FlowJAX', timed, ours, config, 1.2)]


def _row(name, reference, timed, ours, config, bar):
  count = config.steps_per_call
  text = (f'{reference}, {count} updates each, {timed.words}; '
          f'{flows_image.roofline(config, ours, count)}')
  return rows.Row(name, 1e3 * timed.b / count, 'ms/update', text, 1e3 * timed.a / count,
                  timed.ratio, bar, True)


BARS = {'maf': 2., 'realnvp_tabular': 1.3, 'glow_tabular': 1.3}
MEASURES = {f'{name}_step_torch': functools.partial(torch_step, name, bar)
            for name, bar in BARS.items()} | {'maf_step_flowjax': flowjax_step}
SMOKE = {name: functools.partial(measure, hidden=16, seconds=0.)
         for name, measure in MEASURES.items()}
