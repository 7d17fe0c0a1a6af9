"""RealNVP's coupling net by hand, and programs of deep flows: one body, no convolution on CPU."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models.flows.image_coupling import ResidualNet, WeightNormConv
from tests.models.support import draw, jit, random_variables


def _convolved(x, params):
  """x with the kernel gain v / ||v||, plus a bias if there is one, in float64."""
  kernel = params['kernel'] * params['gain'] / np.sqrt((params['kernel']**2).sum((0, 1, 2)))
  pad, size = kernel.shape[0] // 2, x.shape
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  out = sum(padded[:, i:i + size[1], j:j + size[2]] @ kernel[i, j]
            for i, j in np.ndindex(kernel.shape[:2]))
  return out + params.get('bias', 0.)


def _normalised(x, params, moments):
  return (x - moments['mean']) / np.sqrt(moments['var']) * params['scale'] + params['bias']


@pytest.mark.parametrize('skips', [False, True])
def test_the_residual_net_is_that_of_the_paper(skips):
  """Batch normalised input as (h, -h), pre-activation blocks, log s = scale tanh(r) + shift.

  Or, in place of the last block's output, a 1×1 of the first convolution and of each output.
  """
  x = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
  net = ResidualNet(outputs=2, features=3, blocks=2, skips=skips)
  variables = random_variables(lambda: net.init(jax.random.key(0), jnp.asarray(x)))
  relu = lambda h: np.maximum(h, 0.)
  params, stats = (jax.tree.map(lambda a: np.asarray(a, np.float64), variables[kind])
                   for kind in ('params', 'batch_stats'))

  def normalised(h, name, params=params, stats=stats):
    return _normalised(h, params[name], stats[name]['RunningMoments_0'])

  h = normalised(x, 'BatchNorm_0')
  h = _convolved(relu(np.concatenate([h, -h], -1)), params['WeightNormConv_0'])
  total = _convolved(h, params['skip']) if skips else 0.
  for i in range(2):
    block, moments = (jax.tree.map(lambda a, i=i: a[i], tree['blocks']) for tree in (params, stats))
    inner = h
    for j in range(2):
      inner = relu(normalised(inner, f'BatchNorm_{j}', block, moments))
      inner = _convolved(inner, block[f'WeightNormConv_{j}'])
    h = h + inner
    total = total + _convolved(h, block['skip']) if skips else h
  out = _convolved(relu(normalised(total, 'BatchNorm_1')), params['WeightNormConv_1'])
  log_scale, shift = jit(net.apply)(variables, x)
  np.testing.assert_allclose(shift, out[..., :2], atol=1e-5)
  np.testing.assert_allclose(log_scale, params['log_scale'] * np.tanh(out[..., 2:])
                             + params['log_scale_shift'], atol=1e-5)
  half = jit(net.clone(dtype='bfloat16').apply)(variables, x)
  for rough, exact in zip(half, (log_scale, shift)):
    assert rough.dtype == jnp.float32
    assert 0. < np.abs(rough - exact).max() < .1 * np.abs(exact).max()


def test_skips_sum_1x1s_of_the_first_convolution_and_of_every_block():
  """With skips that are a multiple of the identity and blocks that add nothing: 1 + 2 times it.

  The net's tail is that of one without skips, whose input is so many times the same.
  """
  x = draw(2, 3, 2, 2)
  plain, net = (ResidualNet(outputs=2, features=3, blocks=2, skips=skips)
                for skips in (False, True))
  variables = random_variables(lambda: net.init(jax.random.key(0), x))
  params = variables['params']
  blocks = params['blocks']
  blocks['WeightNormConv_1']['gain'] = jnp.zeros_like(blocks['WeightNormConv_1']['gain'])
  for skip, gain in ((params['skip'], 2.), (blocks['skip'], .5)):
    skip['kernel'] = jnp.broadcast_to(jnp.eye(3), skip['kernel'].shape)
    skip['gain'], skip['bias'] = jnp.full_like(skip['gain'], gain), jnp.zeros_like(skip['bias'])
  without = {name: value for name, value in params.items() if name != 'skip'}
  without['blocks'] = {name: value for name, value in blocks.items() if name != 'skip'}
  without['WeightNormConv_0'] = {
    **without['WeightNormConv_0'], 'gain': 3. * without['WeightNormConv_0']['gain']}
  expected = jit(plain.apply)({**variables, 'params': without}, x)
  for found, wanted in zip(jit(net.apply)(variables, x), expected):
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_every_residual_block_starts_from_draws_of_its_own():
  net = ResidualNet(outputs=1, features=2, blocks=2)
  params = jit(lambda: net.init(jax.random.key(0), jnp.ones((1, 2, 2, 1))))()['params']['blocks']
  for layer in ('WeightNormConv_0', 'WeightNormConv_1'):
    first, second = params[layer]['kernel']
    assert (first != second).all()


def test_the_length_of_a_weight_normalised_kernel_does_not_matter():
  x, layer = jnp.ones((1, 2, 2, 3)), WeightNormConv(2, 1)
  variables = random_variables(lambda: layer.init(jax.random.key(0), x))
  params = variables['params']
  longer = {'params': {**params, 'kernel': 5. * params['kernel']}}
  np.testing.assert_allclose(layer.apply(longer, x), layer.apply(variables, x), rtol=1e-5)


def _update(name, **options):
  """The gradient of a flow's mean loss by its parameters, traced on images of 4×4."""
  flow = models.create(name, (4, 4, 1), **options)
  x = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
  init = lambda x: flow.init(jax.random.key(0), x, None, train=True, method='loss')
  variables = jax.eval_shape(init, x)

  def loss(params, others, x):
    (loss, _), _ = flow.apply({'params': params, **others}, x, None, train=True, method='loss',
                              mutable=list(others))
    return loss.mean()
  others = {kind: value for kind, value in variables.items() if kind != 'params'}
  return jax.jit(jax.grad(loss)).trace(variables['params'], others, x)


@pytest.mark.parametrize('memory', ['store', 'remat', 'invertible'])
def test_depth_adds_nothing_to_the_program(memory):
  def lines(steps):
    traced = _update('glow', levels=1, steps=steps, hidden=4, memory=memory)
    return len(traced.lower(lowering_platforms=('cpu',)).as_text().splitlines())
  assert lines(2) == lines(20) > 100


@pytest.mark.parametrize(('name', 'options'), [
    ('glow', {'levels': 1, 'steps': 2, 'hidden': 4}),
    ('realnvp_image', {'scales': 1, 'features': 2, 'blocks': 1, 'skips': True})])
def test_no_convolution_stands_in_the_scanned_steps_on_cpu(name, options):
  """XLA's kernel gradients of convolutions within loops take a hundred times as long there."""
  traced = _update(name, **options)
  assert 'convolution' in traced.lower(lowering_platforms=('tpu',)).as_text()
  text = traced.lower(lowering_platforms=('cpu',)).as_text()
  assert 'stablehlo.while' in text
  assert 'convolution' not in text
