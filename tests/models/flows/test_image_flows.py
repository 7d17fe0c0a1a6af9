"""Layers and flows on images: initialisation from data, masks, sizes that fit."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models.flows import multiscale
from mollification.models.flows.actnorm import ActNorm
from mollification.models.flows.bijector import Chain, Reshape
from mollification.models.flows.glow import glow
from mollification.models.flows.image_coupling import GlowNet, ImageCoupling
from mollification.models.flows.linear import LULinear, decompose
from mollification.models.flows.repeat import Repeat
from tests.models.support import (
  draw,
  equations,
  forward_of,
  jit,
  num_parameters,
  random_variables,
)


def _initialised(layer, x, shards):
  """Variables of `layer` from x [B, ...] on so many shards of the axis 'batch'."""
  init = jax.vmap(lambda x: layer.init(jax.random.key(1), x, **forward_of()), axis_name='batch')
  return jax.tree.map(lambda a: a[0], jit(init)(x.reshape(shards, -1, *x.shape[1:])))


@pytest.mark.parametrize('shards', [1, 4])
def test_actnorm_starts_with_mean_0_and_variance_1_also_within_repeated_steps(shards):
  x = 3. + 2. * draw(8, 3, 3, 4)
  step = Chain((ActNorm('batch'), LULinear()))
  variables = _initialised(Repeat(step, 2), x, shards)
  for copy in range(2):
    copied = lambda tree, copy=copy: jax.tree.map(lambda a: a[copy], tree)
    layers = {kind: copied(variables[kind]['bijector']) for kind in ('params', 'fixed')}
    z, _ = ActNorm().apply({'params': layers['params']['bijectors_0']}, x, **forward_of())
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0., atol=1e-5)
    np.testing.assert_allclose(z.var((0, 1, 2)), 1., atol=1e-4)
    # The next copy starts from what this one makes of the data.
    x, _ = LULinear().apply({kind: layers[kind]['bijectors_1'] for kind in layers}, z,
                            **forward_of())


def test_actnorm_leaves_masked_rows_out_and_survives_a_constant_channel():
  x = draw(6, 4).at[:, 2].set(7.)
  keep = jnp.arange(6) < 4
  variables = ActNorm().init(jax.random.key(0), x, mask=keep, **forward_of())
  np.testing.assert_allclose(variables['params']['mean'], x[:4].mean(0), atol=1e-6)
  assert jnp.exp(-variables['params']['log_std'][2]) <= 1001.


def test_the_linear_layer_starts_as_a_rotation_and_is_its_matrix():
  x = draw(2, 3, 3, 5)
  variables = LULinear().init(jax.random.key(0), x, **forward_of())
  z, log_det = LULinear().apply(variables, x, **forward_of())
  np.testing.assert_allclose((z**2).sum(-1), (x**2).sum(-1), rtol=1e-4)
  np.testing.assert_allclose(log_det, 0., atol=1e-4)
  weight = -np.asarray(draw(5, 5, seed=1))    # negative pivots
  params, fixed = decompose(weight)
  z, log_det = LULinear().apply({'params': params, 'fixed': fixed}, x, **forward_of())
  np.testing.assert_allclose(z, np.asarray(x) @ weight.T, atol=1e-5)
  np.testing.assert_allclose(log_det, 9. * np.linalg.slogdet(weight)[1], rtol=1e-5)


@pytest.mark.parametrize(('weight', 'message'), [
    (np.ones((3, 3)), 'not singular, got pivots from 0 to 1'), (np.zeros((2, 2)), 'not singular'),
    (np.full((2, 2), np.nan), r'a finite matrix, got NaN or infinity in \(2, 2\)'),
    (np.ones((2, 3)), r'square matrix, got \(2, 3\)')])
def test_matrices_that_cannot_be_inverted_are_errors(weight, message):
  with pytest.raises(ValueError, match=message):
    decompose(weight)


@pytest.mark.parametrize(('mask', 'kept'), [
    ('half', lambda i, j, c: c < 2), ('alternating', lambda i, j, c: c % 2 == 0),
    ('checkerboard', lambda i, j, c: (i + j) % 2 == 0)])
@pytest.mark.parametrize('swap', [False, True])
def test_a_coupling_keeps_its_part_and_changes_the_other(mask, kept, swap):
  x = draw(1, 3, 3, 4)
  layer = ImageCoupling(GlowNet(4 if mask == 'checkerboard' else 2, 4), mask)
  variables = random_variables(lambda: layer.init(jax.random.key(0), x, **forward_of()))
  keep = np.fromfunction(kept, (3, 3, 4)) != swap
  run = lambda swap: layer.apply(variables, x, swap=swap, **forward_of())[0]
  for z in (run(swap), jit(run)(jnp.asarray(swap))):    # static, and traced as within Repeat
    np.testing.assert_array_equal((z == x)[0], np.broadcast_to(keep, (3, 3, 4)))


@pytest.mark.parametrize('mask', ['half', 'alternating', 'checkerboard'])
def test_a_coupling_refuses_a_net_that_returns_other_channels(mask):
  """One channel would spread over all of them, with the log-determinant of one alone."""
  x, changed = draw(2, 2, 2, 4), 4 if mask == 'checkerboard' else 2
  for outputs in (1, changed + 1):
    layer = ImageCoupling(GlowNet(outputs, 4), mask)
    for method in ('forward_and_log_det', 'inverse_and_log_det'):
      with pytest.raises(ValueError, match=rf'changes, \(2, 2, {changed}\), got \(2, 2, {outputs}\)'
                         rf' and \(2, 2, {outputs}\); give it outputs={changed}\.'):
        layer.init(jax.random.key(0), x, method=method)


def test_couplings_of_glow_start_as_a_scaling_by_sigmoid_of_2():
  x = draw(2, 2, 2, 4)
  layer = ImageCoupling(GlowNet(2, 4))
  z, _ = layer.init_with_output(jax.random.key(0), x, **forward_of())[0]
  np.testing.assert_allclose(z[..., 2:], x[..., 2:] / (1. + np.exp(-2.)), rtol=1e-5)


def test_scales_of_glow_that_are_bounded_cannot_blow_an_inverse_up():
  """Where r is far below zero the published scale is none, and the inverse divides by it."""
  z = draw(2, 2, 2, 4)
  found = {}
  for least in (0., .5):
    layer = ImageCoupling(GlowNet(2, 4, min_scale=least))
    variables = layer.init(jax.random.key(0), z, **forward_of())
    conv, = (name for name in variables['params']['net'] if name.endswith('_2'))
    bias = variables['params']['net'][conv]['bias']
    variables['params']['net'][conv]['bias'] = jnp.where(jnp.arange(len(bias)) < 2, 1., -1e4)
    found[least] = layer.apply(variables, z, method='inverse_and_log_det')
    _, log_det = layer.apply(variables, z, **forward_of())
    scale = np.exp(np.asarray(log_det) / 8)   # of the 8 numbers that are changed
    np.testing.assert_allclose(scale, least, rtol=1e-5)
  assert not np.isfinite(found[0.][0]).all()
  np.testing.assert_allclose(found[.5][0][..., 2:], 2. * z[..., 2:] + 1., rtol=1e-5)
  with pytest.raises(ValueError, match=r'min_scale must lie in \[0, 1\), got 1\.0; 0 is as'):
    GlowNet(2, 4, min_scale=1.)


def test_squeeze_orders_its_channels_as_stated():
  x = jnp.arange(2 * 4 * 6 * 3.).reshape(2, 4, 6, 3)
  z, _ = multiscale.Squeeze().apply({}, x, **forward_of())
  for c, a, b in np.ndindex(3, 2, 2):
    np.testing.assert_array_equal(z[..., 4 * c + 2 * a + b], x[:, a::2, b::2, c])


@pytest.mark.parametrize('shape', [(1, 3, 4, 1), (1, 4, 3, 1), (1, 4)])
def test_a_squeeze_of_odd_sides_or_of_no_images_is_an_error(shape):
  with pytest.raises(ValueError, match=r'events \[H, W, C\] of even sides, got'):
    multiscale.Squeeze().apply({}, jnp.zeros(shape), **forward_of())
  with pytest.raises(ValueError, match=r'\[H, W, 4C\], got \(2, 2, 3\)'):
    multiscale.Squeeze().apply({}, jnp.zeros((1, 2, 2, 3)), method='inverse_and_log_det')


def test_a_coupling_by_channels_needs_an_even_number_of_them():
  layer = ImageCoupling(GlowNet(1, 4))
  with pytest.raises(ValueError, match=r'an even number of them, got 3 in \(2, 2, 3\); squeeze'):
    layer.init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), **forward_of())
  with pytest.raises(ValueError, match=r'events \[H, W, C\], got \(4,\)'):
    layer.init(jax.random.key(0), jnp.zeros((1, 4)), **forward_of())
  with pytest.raises(ValueError, match=r"mask must be one of .*got 'rows'"):
    ImageCoupling(GlowNet(1, 4), 'rows')


@pytest.mark.parametrize(('name', 'event', 'options', 'message'), [
    ('glow', (28, 28, 1), {'levels': 3},
     '^levels=3 needs sides that are multiples of 8, got 28×28; take 32×32, or levels=2 or less'),
    ('glow', (32, 30, 3), {}, 'multiples of 8, got 32×30; take 32×32, or levels=1\\.'),
    ('glow', (31, 31, 3), {'levels': 1}, 'of 2, got 31×31; take 32×32, or a tabular flow'),
    ('glow', (8, 8, 0), {}, r'images that are not empty, got \(8, 8, 0\)'),
    ('glow', (8, 8, 1), {'levels': 1, 'hidden': 0}, 'hidden must be at least 1, got 0'),
    ('glow', (8, 8, 1), {'dtype': 'float16'}, r"one of \('float32', 'bfloat16'\), got 'float16'"),
    ('realnvp_image', (8, 8, 1), {'blocks': 0}, 'at least 1 block, got blocks 0'),
    ('realnvp_image', (1, 1, 3), {'scales': 1}, 'scales=1 leaves 1×1 of 1×1.*a tabular flow'),
    ('realnvp_image', (4, 4, 3), {'scales': 3}, 'scales=3 leaves 1×1 of 4×4.*scales=2 or less'),
    ('glow', (64,), {}, r'needs images \[H, W, C\], got \(64,\); use a tabular flow'),
    ('glow', (8, 8, 1), {'levels': 0}, 'levels must be at least 1, got 0'),
    ('realnvp_image', (28, 28, 1), {'scales': 4},
     '^scales=4 needs sides that are multiples of 8, got 28×28; take 32×32, or scales=3 or less')])
def test_events_that_do_not_fit_name_the_sizes_that_do(name, event, options, message):
  with pytest.raises(ValueError, match=message):
    models.create(name, event, **options)


def test_levels_refuse_what_is_not_theirs():
  """Single layers are anybody's; flows look at their events before."""
  levels = multiscale.MultiScale(
    (multiscale.Squeeze(), multiscale.Squeeze()),
    multiscale.latent_shapes((4, 4, 1), 2, squeezes=2))
  forward = lambda *shape: levels.apply({}, jnp.zeros((2, *shape)), method='forward_and_log_det')
  inverse = lambda size: levels.apply({}, jnp.zeros((2, size)), method='inverse_and_log_det')
  assert forward(4, 4, 1)[0].shape == (2, 16)
  assert inverse(16)[0].shape == (2, 4, 4, 1)
  for shape in ((4, 4, 2), (8, 8, 1)):
    with pytest.raises(ValueError, match=r'level 0 should give \(2, 2, 2\) to its base'):
      forward(*shape)
  for size in (12, 20):
    with pytest.raises(ValueError, match=rf'are \[B, 16\], got \[2, {size}\]'):
      inverse(size)
  reshape = Reshape((2, 3), (6,))
  for shape, method in (((3, 2), 'forward_and_log_det'), ((3, 2), 'inverse_and_log_det')):
    with pytest.raises(ValueError, match=r'events here are of shape .*, got \(3, 2\)'):
      reshape.apply({}, jnp.zeros((2, *shape)), method=method)


def test_a_class_conditional_base_needs_its_condition():
  base, x = multiscale.GaussianBase(3), jnp.zeros((2, 1, 1, 4))
  for cond in (None, jnp.zeros((2, 4))):
    with pytest.raises(ValueError, match=r'3 classes: pass cond, one-hot \[B, 3\]'):
      base.init(jax.random.key(0), x, cond=cond, **forward_of())


@pytest.mark.parametrize('event', [(4,), (2, 3, 4)])
def test_each_class_has_a_mean_and_a_scale_of_its_own(event):
  """And only the classes of a batch get a gradient."""
  base, labels = multiscale.GaussianBase(3), np.array([2, 0, 2])
  x, cond = draw(3, *event), jnp.eye(3)[labels]
  variables = random_variables(lambda: base.init(jax.random.key(0), x, cond=cond, **forward_of()))

  def run(params):
    return base.apply({'params': params}, x, cond=cond, **forward_of())

  p = jax.tree.map(np.asarray, variables['params'])
  mean, log_scale = (np.broadcast_to(
      (p[name] * np.exp(3. * p[f'{name}_logs']) + p[f'{name}_of_class'][labels]).reshape(
          3, *[1] * (len(event) - 1), 4), x.shape) for name in ('mean', 'log_scale'))
  z, log_det = jit(run)(variables['params'])
  np.testing.assert_allclose(z, (x - mean) * np.exp(-log_scale), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(log_det, -log_scale.reshape(3, -1).sum(1), rtol=1e-5, atol=1e-6)
  gradient = jit(jax.grad(lambda p: sum((part**2).sum() for part in run(p))))(variables['params'])
  for name in ('mean_of_class', 'log_scale_of_class'):
    assert (gradient[name][1] == 0.).all()
    assert (gradient[name][jnp.array([0, 2])] != 0.).all()


def test_full_size_glow_has_the_papers_parameters():
  assert round(num_parameters('glow', (32, 32, 3)) / 1e6, 1) == 27.5


def _precisions(fn, *args):
  """Precisions of all matrix products of the program of `fn`, inner ones too."""
  return [equation.params['precision'] for equation in equations(jax.make_jaxpr(fn)(*args).jaxpr)
          if equation.primitive.name == 'dot_general']


def test_matrices_are_multiplied_at_full_precision_where_they_are_to_be_inverted():
  """On a TPU a default product rounds to bfloat16, and W^-1 W would miss 1 by 1e-2."""
  x, layer = draw(2, 3, 3, 4), LULinear()
  variables = random_variables(lambda: layer.init(jax.random.key(0), x, **forward_of()))
  run = lambda method: lambda v, x: layer.apply(v, x, method=method)
  loss = lambda p, x: run('forward_and_log_det')({**variables, 'params': p}, x)[0].sum()
  forward = _precisions(run('forward_and_log_det'), variables, x)
  inverse = _precisions(run('inverse_and_log_det'), variables, x)
  gradient = _precisions(jax.grad(loss, (0, 1)), variables['params'], x)
  assert (len(forward), len(inverse), len(gradient)) == (2, 1, 6)
  base, cond = multiscale.GaussianBase(3), jnp.eye(3)[:2]
  table = random_variables(lambda: base.init(jax.random.key(0), x, cond=cond, **forward_of()))
  classes = _precisions(lambda x: base.apply(table, x, cond=cond, **forward_of()), x)
  highest = (jax.lax.Precision.HIGHEST,) * 2
  assert {*forward, *inverse, *gradient, *classes} == {highest}


def _glow(**options):
  flow = glow((2, 2, 1), 1, 2, 4, **options)
  x = draw(5, 2, 2, 1)
  variables = random_variables(lambda: flow.init(
      jax.random.key(0), x, None, train=True, method='loss'), scale=.2)
  return flow, variables, x


def test_density_of_a_tiny_glow_integrates_to_one():
  """The smallest event of a level has four numbers: too many for a fine grid, so by sampling."""
  flow, variables, _ = _glow()
  sample = jit(lambda k: flow.apply(variables, k, method='sample'))
  samples = np.asarray(sample(jax.random.split(jax.random.key(3), 20_000)))
  # Importance sampling from a Gaussian that is wider than the flow: E_q[p / q] = 1.
  flat = samples.reshape(len(samples), -1)
  mean, root = flat.mean(0), 1.5 * np.linalg.cholesky(np.cov(flat.T))
  noise = np.random.default_rng(1).normal(size=(100_000, 4))
  x = mean + noise @ root.T
  log_q = -.5 * (noise**2).sum(1) - 2. * np.log(2. * np.pi) - np.log(np.diag(root)).sum()
  log_p = jit(lambda x: flow.apply(variables, x, method='log_prob'))(
      x.reshape(-1, 2, 2, 1).astype(np.float32))
  ratio = np.exp(np.asarray(log_p, np.float64) - log_q)
  assert abs(ratio.mean() - 1.) < 4. * ratio.std() / len(ratio)**.5 < .03


def test_inverse_error_is_a_metric_and_small():
  flow, variables, x = _glow(inverse_error=2)
  _, metrics = jit(lambda x: flow.apply(variables, x, None, train=True, method='loss'))(x)
  assert metrics['inverse_error'].shape == (5,)
  assert 0. < float(metrics['inverse_error'][0]) < 1e-4


def test_coupling_nets_in_bfloat16_stay_near_and_keep_float32_parameters_and_inverses():
  flow, variables, x = _glow()
  half = _glow(dtype='bfloat16')[0]
  run = lambda flow: jit(lambda x: flow.apply(variables, x, method='log_prob'))(x)
  np.testing.assert_allclose(run(half), run(flow), atol=.2)
  assert (run(half) != run(flow)).any()
  shapes = jax.eval_shape(lambda: half.init(jax.random.key(0), x, None, train=True, method='loss'))
  assert {a.dtype for a in jax.tree.leaves(shapes['params'])} == {jnp.dtype('float32')}
  back = jit(lambda x: nn.apply(lambda f: f.bijector.inverse_and_log_det(
      f.bijector.forward_and_log_det(x)[0])[0], half)(variables))(x)
  np.testing.assert_allclose(back, x, atol=1e-4)
