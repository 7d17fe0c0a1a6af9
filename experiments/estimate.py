"""What a run will take, before it is begun: FLOPs, memory and hours, of the program itself.

FLOPs are those of matrix products and convolutions, counted in the traced update: XLA's own count
takes the body of a loop once, however often it runs, and the flows and NVAE are loops. Memory is
that of the update as XLA compiles it for this machine; other compilers need another amount.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.extend import core

from mollification import build, data, parallel, rng


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """Peak FLOP/s in float32 and bytes of memory, as the maker's data sheet has them."""
  flops: float
  memory: float


# Data sheets of NVIDIA (V100 SXM2, A100 SXM, H100 SXM: FP32 without sparsity), and one core of the
# machine that the tables of this project were made on: a 2048² matmul there.
ACCELERATORS = {
  'v100': Accelerator(15.7e12, 32e9), 'a100': Accelerator(19.5e12, 80e9),
  'h100': Accelerator(67e12, 80e9), 'core': Accelerator(.1e12, 24e9)}


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one run: parameters, FLOPs of an update, bytes of its program and arguments, updates."""
  parameters: int
  flops: float
  memory: float
  updates: int

  def hours(self, accelerator, utilisation):
    """On one accelerator that reaches a share `utilisation` of its peak."""
    return self.flops * self.updates / (accelerator.flops * utilisation) / 3600


def of_config(config):
  """The `Cost` of a config, of data whose shape is known; nothing is loaded or trained."""
  event_shape, dtype, levels = data.spec(config.data.name)
  batch = jax.ShapeDtypeStruct((config.batch_size, *event_shape), dtype)
  state = jax.eval_shape(lambda b: build.create_state(config, b, levels, 1.), batch)
  update = parallel.pmap_step(build.train_step(config, event_shape, levels))
  devices = jax.local_device_count()
  split = jax.ShapeDtypeStruct((devices, config.batch_size // devices, *event_shape), dtype)
  key = jax.eval_shape(lambda: rng.purpose_key(0, 'train'))
  shapes = state, split, key, jax.ShapeDtypeStruct((), jnp.float32), None, None
  found = update.lower(*shapes).compile().memory_analysis()
  memory = (found.argument_size_in_bytes + found.output_size_in_bytes
            + found.temp_size_in_bytes - found.alias_size_in_bytes)
  return Cost(sum(leaf.size for leaf in jax.tree.leaves(state.params)),
              devices * matmul_flops(jax.make_jaxpr(update)(*shapes)), devices * memory,
              config.total_steps)


def matmul_flops(jaxpr):
  """FLOPs of the matrix products and convolutions of a (closed) jaxpr, loops counted in full.

  Two for a multiplication and addition. Of branches the dearest counts, of a `while` one round.
  """
  total = 0
  for eqn in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    if eqn.primitive.name in _FLOPS:
      total += _FLOPS[eqn.primitive.name](eqn)
      continue
    inner = [matmul_flops(j) for j in _jaxprs(eqn.params)]
    times = eqn.params['length'] if eqn.primitive.name == 'scan' else 1
    total += times * (max(inner, default=0) if eqn.primitive.name == 'cond' else sum(inner))
  return total


def _jaxprs(params):
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, (core.Jaxpr, core.ClosedJaxpr)):
        yield item


def _dot(eqn):
  (contracted, _), _ = eqn.params['dimension_numbers']
  left = eqn.invars[0].aval.shape
  return 2 * eqn.outvars[0].aval.size * math.prod(left[i] for i in contracted)


def _conv(eqn):
  """Zeros that a dilation of the input puts in between are not multiplied."""
  kernel, numbers = eqn.invars[1].aval, eqn.params['dimension_numbers']
  each = kernel.size // kernel.shape[numbers.rhs_spec[0]]
  return 2 * eqn.outvars[0].aval.size * each // math.prod(eqn.params['lhs_dilation'])


_FLOPS = {'dot_general': _dot, 'conv_general_dilated': _conv}
