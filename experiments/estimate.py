"""What a run will take, before it is begun: FLOPs, memory and hours, of the program itself.

FLOPs are those of matrix products and convolutions, counted in the traced programs: XLA's own count
takes the body of a loop once, however often it runs, and the flows and NVAE are loops. Memory is
that of the update as XLA compiles it for this machine; other compilers need another amount.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.extend import core

from mollification import build, parallel, rng
from mollification.evaluation import features, inception


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one run: parameters, FLOPs of an update, its bytes on each of the `devices`, updates.

  `xla_flops` are an update's by the cost analysis of the compiled program: everything is counted
  and not matrix products alone, but the body of a loop once.
  """
  parameters: int
  flops: float
  memory: float
  updates: int
  devices: int = 1
  xla_flops: float = math.nan

  @property
  def training(self):
    """FLOPs of all updates."""
    return self.flops * self.updates


def of_config(config, passes=1, spec=None):
  """The `Cost` of a config, of data whose shape is known; nothing is loaded or trained.

  `spec` is that of `data.spec`, for data that have no name.
  As the devices of this process would share it: ValueError where they do not divide the batch.
  A FLOP of a product of precision 'highest' counts as `passes` FLOPs.
  """
  update, shapes = update_of(config, spec)
  devices = jax.local_device_count()
  compiled = update.lower(*shapes).compile()
  return Cost(parameters_of(shapes[0]),
              devices * matmul_flops(jax.make_jaxpr(update)(*shapes), passes), memory_of(compiled),
              config.total_steps, devices, devices * compiled.cost_analysis()['flops'])


def update_of(config, spec=None):
  """(the mapped update, shapes of its arguments) of a config, as `of_config` takes them."""
  event_shape, dtype, levels = spec = spec or build.spec(config)
  update = parallel.pmap_step(build.train_step(config, event_shape, levels))
  devices = jax.local_device_count()
  parallel.check_batch_size(config.batch_size, devices)
  split = jax.ShapeDtypeStruct((devices, config.batch_size // devices, *event_shape), dtype)
  key = jax.eval_shape(lambda: rng.purpose_key(0, 'train'))
  level = jax.ShapeDtypeStruct((), jnp.float32)
  mask = jax.ShapeDtypeStruct(split.shape[:2], bool) if config.data.remainder == 'pad' else None
  return update, (_state(config, spec), split, key, level, None, mask)


def parameters_of(state):
  """Parameters of a training state."""
  return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def memory_of(compiled):
  """Bytes of a compiled program: arguments, outputs, temporaries.

  Outputs that take the place of donated arguments count once.
  """
  found = compiled.memory_analysis()
  return (found.argument_size_in_bytes + found.output_size_in_bytes
          + found.temp_size_in_bytes - found.alias_size_in_bytes)


def of_sample(config, network, passes=1):
  """FLOPs of one sample of a model and of its features in `network`, without its resizing.

  `network` is a name of `features.NAMES`; Inception's weights need not be there. `passes` is that
  of `of_config`.
  """
  spec, n = build.spec(config), config.eval.batch_size
  net, state = build.model(config, spec[0]), _state(config, spec)
  classes = build.num_classes(config)
  options = {'cond': jnp.zeros((n, classes))} if classes else {}
  drawing = jax.make_jaxpr(
    lambda variables, keys: build.sample_fn(config, net)(variables, keys, **options))(
    {'params': state.params, **state.model_state}, jax.random.split(jax.random.key(0), n))
  return matmul_flops(drawing, passes) / n + matmul_flops(_looking(network), passes)


def _state(config, spec):
  """Shapes of the state that training starts from."""
  event_shape, dtype, levels = spec
  batch = jax.ShapeDtypeStruct((config.batch_size, *event_shape), dtype)
  return jax.eval_shape(lambda b: build.create_state(config, b, levels, 1.), batch)


def _looking(network):
  """The jaxpr of one image's features, whatever Inception's weights are."""
  if network.startswith('inception_'):
    x = jax.ShapeDtypeStruct((1, inception.SIZE, inception.SIZE, 3), jnp.float32)
    return jax.make_jaxpr(lambda x: inception.Inception().init(jax.random.key(0), x))(x)
  extractor = features.load(network)
  side = extractor.resizing[1:] or extractor.image_shape[:1]
  channels = extractor.image_shape[2] if extractor.image_shape else 3
  x = jax.ShapeDtypeStruct((1, *side, *side, channels), jnp.float32)
  return jax.make_jaxpr(extractor.apply)(extractor.variables, x)


def matmul_flops(jaxpr, passes=1):
  """FLOPs of the matrix products and convolutions of a (closed) jaxpr, as `total` counts.

  Two for a multiplication and addition, `passes` times as many where the precision is 'highest'.
  """
  return total(jaxpr, {name: lambda eqn, of=of: of(eqn) * (passes if _is_highest(eqn) else 1)
                       for name, of in _FLOPS.items()})


def total(jaxpr, costs):
  """Sum over a (closed) jaxpr of `costs` {primitive: eqn -> number}, loops counted in full.

  Of branches the dearest counts, of a `while` one round.
  """
  found = 0
  for eqn in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    if eqn.primitive.name in costs:
      found += costs[eqn.primitive.name](eqn)
      continue
    inner = [total(j, costs) for j in inner_jaxprs(eqn.params)]
    times = eqn.params['length'] if eqn.primitive.name == 'scan' else 1
    found += times * (max(inner, default=0) if eqn.primitive.name == 'cond' else sum(inner))
  return found


def _is_highest(eqn):
  precision = eqn.params['precision']   # one, or one of each side
  return jax.lax.Precision.HIGHEST in (precision if isinstance(precision, tuple) else (precision,))


def inner_jaxprs(params):
  """The jaxprs that an equation with these parameters runs: of a loop, of branches, of a call."""
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
