"""What stays float32 where nets compute in bfloat16, and how far that moves the losses."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from mollification import build, data
from mollification.models.convolution import Conv, ConvTranspose, conv, conv_transpose
from mollification.models.dense import Dense
from mollification.models.matmul import dot_general
from mollification.training import loop
from tests import updates
from tests.models.support import draw, equations
from tests.training import tiny

UPDATES = 40
NETS = {'mlp': ('vae', {}), 'conv': ('conv', {}),
        'resnet': ('conv', {'model__net': 'resnet', 'model__widths': (4, 4)}),
        'iaf': ('iaf', {}), 'hvae': ('hvae', {}), 'nvae': ('nvae', {}), 'glow': ('glow', {}),
        'realnvp': ('realnvp_image', {})}
TABULAR = {'table': ('flow', {})}   # its loss is no sum of many, over which rounding averages
FLOWS = {'glow', 'realnvp'}
PRODUCTS = {'dot_general', 'conv_general_dilated'}
SUMS = {'reduce_sum', 'reduce_window_sum', 'cumsum', 'cumlogsumexp', 'psum', 'psum_invariant',
        'scatter-add'}


def _losses(folder, name, dtype):
  """float64 [UPDATES] of a run whose noise and data are those of the other one.

  Nets of flows begin with last layers of zeros, of which bfloat16 moves nothing: those of this run
  begin with noise in all of their parameters.
  """
  family, options = NETS[name]
  run = tiny.run(family, model__dtype=dtype, total_steps=UPDATES, eval__every=0,
                 checkpoint__every=0, **options)
  if name in FLOWS:
    run = dataclasses.replace(run, create_state=lambda make=run.create_state: _stirred(make()))
  loop.train(run, folder / dtype)
  return np.array([row['train/loss'] for row in tiny.rows(folder / dtype)])


def _stirred(state):
  """`state` with noise of std .05 added to its parameters."""
  leaves, tree = jax.tree.flatten(state.params)
  rng = np.random.default_rng(0)
  leaves = [leaf + rng.normal(0., .05, leaf.shape).astype(np.float32) for leaf in leaves]
  return state.replace(params=jax.tree.unflatten(tree, leaves))


@pytest.mark.parametrize('name', [
  'mlp', *(pytest.param(name, marks=pytest.mark.slow) for name in list(NETS)[1:])])
def test_losses_move_by_less_than_bfloat16_rounds_and_stay_near(name, tmp_path, record_property):
  """Of the first update by less than one unit of bfloat16's last place, 2^-8 of the loss.

  Rounding is within half of one for each number, and averages over a loss that sums many. Over the
  last ten updates of forty, when parameters have gone their own way, by less than 2 % in the mean;
  other seeds differ by 1 to 12 %.
  """
  half, full = (_losses(tmp_path, name, dtype) for dtype in ('bfloat16', 'float32'))
  first, last = abs(half[0] / full[0] - 1), abs(half[-10:].mean() / full[-10:].mean() - 1)
  record_property('loss of the first update moves by', f'{first:.1e}')
  record_property('mean of updates 31 to 40 by', f'{last:.1e}')
  assert first < 2**-8
  assert half[0] != full[0]
  assert full[-10:].mean() < (.8 if name in FLOWS else .6) * full[0]   # there was much to learn
  assert 0 < last < .02


def _config(name):
  family, options = (NETS | TABULAR)[name]
  return tiny.config(family, model__dtype='bfloat16', **options)


@pytest.mark.parametrize('name', [
  'mlp', 'conv', 'hvae', 'table', *(pytest.param(name, marks=pytest.mark.slow) for name in (
    'iaf', 'resnet', 'nvae', 'glow', 'realnvp'))])
def test_sums_of_an_update_are_float32(name):
  """Those that are written down: what a product sums is the platform's, see the next test."""
  config = _config(name)
  config.batch_size = 8
  event_shape, dtype, levels = data.spec(config.data.name)
  batch = np.zeros((8, *event_shape), dtype)
  state = jax.eval_shape(lambda: build.create_state(config, batch, levels, 1.))
  update = updates.mapped(build.train_step(config, event_shape, levels), 2)
  args = state, batch, jax.random.key(0), jnp.float32(.5), None
  found = list(equations(jax.make_jaxpr(update)(*args).jaxpr))
  halves = lambda equation: any(v.aval.dtype == jnp.bfloat16 for v in equation.invars)
  assert any(e.primitive.name in PRODUCTS and halves(e) for e in found)   # there are such nets
  assert not [e for e in found if e.primitive.name in SUMS and halves(e)]


@pytest.mark.parametrize('layer, shape', [
  (Dense(1, 'bfloat16'), (1, 4_096)), (Dense(1, 'bfloat16', dot_general=dot_general), (1, 4_096)),
  (Conv(1, 4), (1, 4, 4, 256)), (ConvTranspose(1, 1), (1, 1, 1, 4_096))],
  ids=['Dense', 'Dense of an MLP', 'Conv', 'ConvTranspose'])
def test_a_product_sums_in_float32(layer, shape):
  """4,096 ones: a sum in bfloat16 stays at 256, to which it cannot add a one."""
  def total(params, x):
    return layer.apply(params, x).astype(jnp.float32).sum()

  x = jnp.ones(shape, jnp.bfloat16)
  params = jax.tree.map(jnp.ones_like, layer.init(jax.random.key(0), x))
  assert jit(layer.apply)(params, x).astype(jnp.float32).item() == 4_096   # 4,097 rounded
  x = jnp.ones((4_096, *shape[1:]), jnp.bfloat16)
  for grad in jax.tree.leaves(jit(jax.grad(total))(params, x)):
    np.testing.assert_array_equal(grad, 4_096.)


@pytest.mark.parametrize('layer, size, stride, features', [
  (conv, 3, 1, 4), (conv, 3, 1, 16), (conv_transpose, 4, 2, 4)])
def test_taps_of_a_convolution_are_summed_in_float32(layer, size, stride, features):
  """What it gives, and the gradient of its input, are those of float32, rounded once."""
  apply = functools.partial(layer, stride=stride, padding=1)
  x, kernel = (draw(*shape, seed=i).astype(jnp.bfloat16) for i, shape in enumerate(
    ((4, 8, 8, 8), (size, size, 8, features))))
  weights = draw(*jax.eval_shape(apply, x, kernel).shape, seed=2).astype(jnp.bfloat16)

  def both(x, kernel):
    out, pullback = jax.vjp(apply, x, kernel)
    return out, pullback(weights.astype(out.dtype))[0]
  half = jit(both)(x, kernel)
  full = jit(both)(x.astype(jnp.float32), kernel.astype(jnp.float32))
  for a, b in zip(half, full):
    assert a.dtype == jnp.bfloat16
    assert (a != b.astype(jnp.bfloat16)).mean() < .01   # float32 sums in another order
