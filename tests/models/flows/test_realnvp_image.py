"""RealNVP on images: its couplings, widths and splits, by hand and as published; the penalty."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import celeba64_realnvp, cifar10_realnvp
from mollification import build, data, models
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.flow import Flow
from mollification.models.flows.image_coupling import ImageCoupling, ResidualNet, WeightNormConv
from mollification.models.flows.multiscale import ByPosition, Squeeze
from mollification.models.flows.repeat import Repeat
from tests.models.support import draw, forward_of, jit, num_parameters, random_variables

PUBLISHED = {'doubling': True, 'double_at_squeeze': True, 'skips': True, 'ordered_split': True}


def _layers(level):
  """Layers by name, of couplings (mask, how many in a row, channels of t, features)."""
  for layer in level.bijectors:
    if not isinstance(layer, Repeat):
      yield {Squeeze: 'squeeze', ByPosition: 'by position'}[type(layer)]
      continue
    # The masks of a row alternate, beginning with the first part kept; a BatchNorm follows each.
    coupling = layer.bijector
    assert layer.alternate
    assert (type(coupling), type(coupling.norm)) == (ImageCoupling, BatchNorm)
    yield (coupling.mask, layer.count, coupling.net.outputs, coupling.net.features)


def _nets(flow):
  return [layer.bijector.net for level in flow.bijector.levels for layer in level.bijectors
          if isinstance(layer, Repeat)]


def _couplings_are(flow, widths, squeezed, ordered):
  """That `flow` has the paper's couplings, so wide before and after the squeeze of each scale."""
  levels, channels = flow.bijector.levels, flow.event_shape[-1]
  assert len(levels) == len(widths)
  for level, width, wide in zip(levels[:-1], widths[:-1], squeezed, strict=True):
    # A squeeze makes four times the channels, of which a coupling changes half, and so many go on.
    assert list(_layers(level)) == [
      ('checkerboard', 3, channels, width), 'squeeze', ('half', 3, 2 * channels, wide),
      *['by position'] * ordered]
    channels *= 2
  assert list(_layers(levels[-1])) == [('checkerboard', 4, channels, widths[-1])]


@pytest.mark.parametrize(('options', 'widths', 'squeezed'), [
    ({}, (64, 64), (64,)), ({'doubling': True}, (64, 128), (64,)),
    ({'doubling': True, 'double_at_squeeze': True}, (64, 128), (128,)),
    ({'scales': 4, 'features': 32, 'blocks': 4} | PUBLISHED, (32, 64, 128, 256), (64, 128, 256))],
    ids=['default', 'doubling', 'doubling_at_the_squeeze', 'generic_32'])
def test_realnvp_has_the_couplings_of_the_paper(options, widths, squeezed):
  flow = models.create('realnvp_image', (32, 32, 3), **options)
  _couplings_are(flow, widths, squeezed, options.get('ordered_split', False))
  assert all(isinstance(net, ResidualNet) for net in _nets(flow))
  assert {(net.blocks, net.skips) for net in _nets(flow)} == {
    (options.get('blocks', 8), options.get('skips', False))}


@pytest.mark.parametrize(('module', 'widths', 'squeezed', 'blocks'), [
    (cifar10_realnvp, (64, 128), (128,), 8),
    (celeba64_realnvp, (32, 64, 128, 256, 512), (64, 128, 256, 512), 2)])
def test_configs_at_full_size_are_the_published_forms(module, widths, squeezed, blocks):
  config = module.get_config()
  flow = build.model(config, data.spec(config.data.name)[0])
  _couplings_are(flow, widths, squeezed, ordered=True)
  assert {(net.blocks, net.skips) for net in _nets(flow)} == {(blocks, True)}


def test_doubling_at_the_squeeze_takes_doubling():
  with pytest.raises(ValueError, match=r'^double_at_squeeze says .* takes doubling=True'):
    models.create('realnvp_image', (8, 8, 1), double_at_squeeze=True)


@pytest.mark.parametrize('published', [False, True])
def test_full_size_realnvp_has_the_parameters_of_its_layers(published):
  def coupling(seen, changed, channels, width=64, blocks=8):
    conv = lambda size, a, b: size**2 * a * b + b     # a kernel and its gains
    block = 2 * (2 * width + conv(3, width, width))   # each convolution behind a BatchNorm
    net = 2 * seen + conv(3, 2 * seen, width) + blocks * block + 2 * width
    net += (blocks + 1) * (conv(1, width, width) + width) if published else 0   # with a bias
    return net + conv(1, width, 2 * changed) + 2 * changed + 2 * changed + 2 * channels
  wide = {'width': 128} if published else {}
  expected = 3 * coupling(3, 3, 3) + 3 * coupling(6, 6, 12, **wide) + 4 * coupling(6, 6, 6, **wide)
  options = PUBLISHED if published else {}
  assert num_parameters('realnvp_image', (32, 32, 3), **options) == expected


@pytest.mark.parametrize('ordered', [False, True])
def test_the_ordered_split_keeps_half_of_every_channel(ordered):
  """Of a flow without parameters, which only moves numbers: where do they go?"""
  flow = models.create('realnvp_image', (4, 4, 3), features=2, blocks=1, ordered_split=ordered)
  x = jnp.arange(48.).reshape(1, 4, 4, 3)
  variables = jax.tree.map(jnp.zeros_like, flow.bind(random_variables(lambda: flow.init(
      jax.random.key(0), x, None, train=True, method='loss'))).variables)
  variables['batch_stats'] = traverse_util.path_aware_map(
      lambda path, a: a + (path[-1] == 'var'), variables['batch_stats'])
  run = nn.apply(lambda f, x: f.bijector.forward_and_log_det(x)[0], flow)
  z = np.asarray(jit(lambda x: run(variables, x))(x))[0].astype(int)
  np.testing.assert_array_equal(np.sort(z), np.arange(48))
  i, j, c = np.unravel_index(z, (4, 4, 3))
  place = 2 * (i % 2) + j % 2
  to_base = {(int(channel), int(p)) for channel, p in zip(c[:24], place[:24])}
  if ordered:   # of red, green and blue those off the diagonal
    assert to_base == {(channel, p) for channel in range(3) for p in (1, 2)}
    kept = z[24:].reshape(2, 2, 6)   # of red, green, blue at (0, 0), and at (1, 1)
    np.testing.assert_array_equal(kept[0, 0], [0, 1, 2, 15, 16, 17])
  else:         # all of blue and half of green
    assert to_base == {(1, 2), (1, 3), *((2, p) for p in range(4))}


def test_channels_by_position_are_ordered_as_stated():
  x = jnp.arange(2 * 1 * 3 * 12.).reshape(2, 1, 3, 12)
  z, _ = ByPosition().apply({}, x, **forward_of())
  for k, (a, b) in enumerate([(0, 0), (1, 1), (0, 1), (1, 0)]):
    for c in range(3):
      np.testing.assert_array_equal(z[..., 3 * k + c], x[..., 4 * c + 2 * a + b])
  for method in ('forward_and_log_det', 'inverse_and_log_det'):
    for shape in ((2, 8), (1, 2, 2, 6)):
      with pytest.raises(ValueError, match=r'need events \[H, W, 4C\], got .*; squeeze first'):
        ByPosition().apply({}, jnp.zeros(shape), method=method)


@pytest.mark.parametrize(('options', 'count'), [({}, 4), ({'skips': True}, 6)])
def test_gain_penalty_is_on_the_gains_of_weight_normalisation(options, count):
  flow = models.create('realnvp_image', (4, 4, 1), scales=1, features=2, blocks=1,
                       gain_penalty=.5, **options)
  x = draw(2, 4, 4, 1)
  variables = random_variables(lambda: flow.init(
      jax.random.key(0), x, None, train=True, method='loss'))
  flat = jax.tree_util.tree_leaves_with_path(variables['params'])
  gains = [leaf for path, leaf in flat if path[-1].key == 'gain']
  assert len(gains) == count    # of the first, of two in the block, of the last, of two skips
  expected = .5 * sum((g**2).sum() for g in gains)
  np.testing.assert_allclose(flow.apply(variables, method='penalty'), expected, rtol=1e-6)


FLOWS = {'maf': ((3,), {'num_blocks': 1, 'hidden': 4, 'learned_base': True}),
         'realnvp_tabular': ((3,), {'num_blocks': 1, 'hidden': 4, 'learned_base': True}),
         'glow_tabular': ((3,), {'num_blocks': 1, 'hidden': 4, 'learned_base': True}),
         'glow': ((4, 4, 1), {'levels': 2, 'steps': 1, 'hidden': 4}),
         'realnvp_image': ((4, 4, 1), {'features': 2, 'blocks': 1} | PUBLISHED)}


@pytest.mark.parametrize('name', FLOWS)
def test_nothing_but_a_weight_normalised_kernel_has_a_parameter_called_gain(name):
  """`Flow.penalty` knows gains by that name alone."""
  event, options = FLOWS[name]
  flow, normalised = models.create(name, event, classes=2, **options), set()

  def watch(call, args, kwargs, context):
    if isinstance(context.module, WeightNormConv):
      normalised.add(context.module.path)
    return call(*args, **kwargs)

  with nn.intercept_methods(watch):
    shapes = jax.eval_shape(lambda: flow.init(
        jax.random.key(0), jnp.zeros((2, *event)), None, train=True, cond=jnp.eye(2),
        method='loss'))
  paths = traverse_util.flatten_dict(shapes['params'])
  assert {path[:-1] for path in paths if path[-1] == 'gain'} == normalised
  assert bool(normalised) == (name == 'realnvp_image')


def test_every_flow_has_a_case_above():
  made = {name for name in models.MODELS if isinstance(_smallest(name), Flow)}
  assert made == set(FLOWS)


def _smallest(name):
  event, options = FLOWS.get(name, ((8, 8, 1), {}))
  return models.create(name, event, **options)
