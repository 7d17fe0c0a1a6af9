"""Random variables, since initial ones make many maps trivial; and a jit that compiles fast."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mollification import models

# Tests compile much and run little: at full optimisation most of their time is LLVM's.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
# Options of a layer's `init` and `apply`.
forward_of = functools.partial(dict, method='forward_and_log_det')


def draw(*shape, seed=0):
  """Standard normal float32 of that shape."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_variables(init, seed=0, scale=.3):
  """Variables of the shapes that `init()` would return, filled with random values.

  Only shapes are taken from `init`, so nothing is compiled. Matrices get the usual spread, all
  other parameters noise of std `scale` (about 1 for scales), running moments values of order 1,
  permutations are drawn, signs too.
  """
  rng = np.random.default_rng(seed)

  def fill(path, shape):
    noise = rng.normal(size=shape)
    if path[-1] == 'permutation':
      return noise.argsort(-1)
    if path[-1] == 'sign':
      return np.sign(noise)
    if path[0] != 'params':
      return np.exp(.5 * noise) if path[-1] == 'var' else noise
    if path[-1] in ('lower', 'upper'):
      return noise / shape[-1]
    if path[-1] == 'kernel':
      return noise / math.sqrt(math.prod(shape[:-1]))
    return (path[-1] == 'scale') + scale * noise
  flat = traverse_util.flatten_dict(jax.eval_shape(init))
  return traverse_util.unflatten_dict(
      {path: jnp.asarray(fill(path, leaf.shape), leaf.dtype) for path, leaf in flat.items()})


def num_parameters(name, event, **options):
  """How many parameters the model `name` has for events of that shape; nothing is computed."""
  model = models.create(name, event, **options)
  variables = jax.eval_shape(lambda: model.init(
      jax.random.key(0), jnp.zeros((2, *event)), None, train=True, method='loss'))
  return sum(a.size for a in jax.tree.leaves(variables['params']))


def equations(jaxpr):
  """All equations of a jaxpr, those of inner ones too."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from equations(inner)
