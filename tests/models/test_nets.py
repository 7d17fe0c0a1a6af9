"""Networks: shapes, convolutions against XLA's and against their definition, moments."""
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mollification.models import convolution, moments, nets
from tests.models.support import jit

TRANSPOSED = [(4, 2, 1, 0), (4, 2, 1, 1), (4, 1, 2, 0), (5, 2, 2, 0), (5, 2, 1, 0), (5, 2, 2, 1),
              (5, 1, 1, 0)]


def _draw(*shapes):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


def _value_and_gradients(form, x, kernel, cotangent):
  def run(x, kernel, cotangent):
    out, vjp = jax.vjp(form, x, kernel)
    return out, *vjp(cotangent)
  return jit(run)(x, kernel, cotangent)


def _scatter(x, kernel, s, p, op):
  """Transposed convolution by its definition, out[s i + k - p] += x[i] kernel[k], in NumPy."""
  k, height, width = len(kernel), *x.shape[1:3]
  full = np.zeros((len(x), s * height + k + op, s * width + k + op, kernel.shape[-1]))
  for i in range(height):
    for j in range(width):
      full[:, s * i:s * i + k, s * j:s * j + k] += np.einsum('bc,klcf->bklf', x[:, i, j], kernel)
  rows, cols = ((n - 1) * s - 2 * p + k + op for n in (height, width))
  return full[:, p:p + rows, p:p + cols]


@pytest.mark.parametrize(('k', 's', 'p', 'op'), TRANSPOSED)
def test_transposed_convolution_is_the_definition_with_equal_gradients(k, s, p, op):
  x, kernel = _draw((2, 4, 5, 3), (k, k, 3, 2))
  expected = _scatter(np.asarray(x), np.asarray(kernel), s, p, op)
  (cotangent,) = _draw(expected.shape)
  forms = [convolution.matmul_conv_transpose, convolution.dilated_conv_transpose]
  if k == 2 * s:
    forms.append(convolution.karatsuba_conv_transpose)
  found = []
  for form in forms:
    out, *gradients = _value_and_gradients(
        lambda a, b, form=form: form(a, b, s, p, op), x, kernel, cotangent)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    found.append(gradients)
  for ours, *others in zip(*found):
    for theirs in others:
      np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=1e-5)
  if op == 0:
    pads = [(k - 1 - p, k - 1 - p)] * 2
    lax_out = jax.lax.conv_transpose(x, kernel[::-1, ::-1], (s, s), pads)
    np.testing.assert_allclose(lax_out, expected, atol=1e-5)


def test_fewer_products_have_the_gradients_of_forces():
  """Second derivatives, of a curved function of the output; odd sides, which are filled up."""
  x, direction, kernel = _draw((2, 5, 4, 3), (2, 5, 4, 3), (4, 4, 3, 2))

  def along(form):
    def energy(x, kernel):
      return jnp.sum(nn.swish(form(x, kernel, 2, 1, 1)))
    return lambda x, kernel: jnp.sum(direction * jax.grad(energy)(x, kernel))
  wanted, found = (jit(jax.grad(along(form), (0, 1)))(x, kernel) for form in (
      convolution.dilated_conv_transpose, convolution.karatsuba_conv_transpose))
  for a, b in zip(found, wanted):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize(('rows', 'size', 'dtype', 'count'), [
    (128, 4, 'float32', 9), (127, 4, 'float32', 1), (128, 5, 'float32', 1),
    (128, 4, 'bfloat16', 1)])
def test_fewer_products_are_taken_where_they_pay(rows, size, dtype, count):
  """9 with a quarter of the rows each in place of 1 with four times the columns; on CPU alone."""
  x, kernel = jnp.zeros((rows, 2, 2, 3), dtype), jnp.zeros((size, size, 3, 2), dtype)
  traced = jax.jit(lambda x, kernel: convolution.conv_transpose(
      x, kernel, stride=2, padding=1)).trace(x, kernel)
  text = {platform: traced.lower(lowering_platforms=(platform,)).as_text()
          for platform in ('cpu', 'cuda')}
  assert text['cpu'].count('stablehlo.dot_general') == count
  assert f'tensor<{rows if count == 9 else 4 * rows}x3x' in text['cpu']
  assert text['cuda'].count('stablehlo.dot_general') == 0


@pytest.mark.parametrize(('k', 's', 'p', 'shape'), [(4, 2, 1, (8, 6)), (4, 2, 1, (7, 7)),
                                                    (3, 1, 1, (5, 4)), (3, 1, 0, (5, 4))])
def test_matmul_convolution_equals_xlas_with_its_gradients(k, s, p, shape):
  x, kernel = _draw((2, *shape, 3), (k, k, 3, 4))

  def direct(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (s, s), [(p, p)] * 2,
                                        dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  (cotangent,) = _draw(jax.eval_shape(direct, x, kernel).shape)
  ours = _value_and_gradients(lambda a, b: convolution.conv(a, b, stride=s, padding=p),
                              x, kernel, cotangent)
  for a, b in zip(ours, _value_and_gradients(direct, x, kernel, cotangent)):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_convolution_becomes_a_matmul_on_cpu_and_xlas_own_elsewhere():
  x, kernel = jnp.zeros((1, 8, 8, 3)), jnp.zeros((4, 4, 3, 2))

  def both(x, kernel):
    return (convolution.conv(x, kernel, stride=2, padding=1),
            convolution.conv_transpose(x, kernel, stride=2, padding=1))
  traced = jax.jit(both).trace(x, kernel)
  for platform, count in (('cpu', 0), ('cuda', 2), ('tpu', 2)):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count('stablehlo.convolution') == count, platform


def test_output_padding_that_no_input_reaches_is_an_error():
  with pytest.raises(ValueError, match=r'in \[0, stride\), got 2 with stride 2'):
    convolution.conv_transpose(jnp.zeros((1, 4, 4, 1)), jnp.zeros((4, 4, 1, 1)), stride=2,
                               padding=1, output_padding=2)


@pytest.mark.parametrize('event', [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (64, 32, 3)])
def test_convolutional_pair_has_the_shapes_of_its_images(event):
  widths = (4, 4, 4) if event[0] < 16 else (4, 5, 6, 7)
  encoder, decoder = nets.make_encoder('conv', 6, widths=widths), nets.make_decoder(
      'conv', event, widths=widths)
  out = jax.eval_shape(lambda x, z: (
      encoder.init_with_output(jax.random.key(0), x, train=True)[0],
      decoder.init_with_output(jax.random.key(1), z, train=True)[0]),
      jnp.zeros((3, *event)), jnp.zeros((3, 2)))
  assert [o.shape for o in out] == [(3, 6), (3, *event)]


@pytest.mark.parametrize('event', [(8, 8, 1), (28, 28, 1), (64, 32, 3)])
def test_residual_pair_has_the_shapes_of_its_images(event):
  encoder, decoder = nets.make_encoder('resnet', 6, widths=(4, 5)), nets.make_decoder(
      'resnet', event, widths=(4, 5))
  out = jax.eval_shape(lambda x, z: (
      encoder.init_with_output(jax.random.key(0), x, train=True)[0],
      decoder.init_with_output(jax.random.key(1), z, train=True)[0]),
      jnp.zeros((3, *event)), jnp.zeros((3, 2)))
  assert [o.shape for o in out] == [(3, 6), (3, *event)]


def test_images_that_a_residual_pair_cannot_halve_are_errors():
  for event, widths in (((6, 8, 1), (4, 4)), ((8,), (4,)), ((8, 8, 1), ())):
    with pytest.raises(ValueError, match='can be halved once per width'):
      jax.eval_shape(lambda event=event, widths=widths: nets.make_decoder(
          'resnet', event, widths=widths).init(jax.random.key(0), jnp.zeros((1, 2)), train=True))


def test_full_size_pair_has_the_paper_librarys_layers():
  def shapes(net, x):
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=True))
    return {layer['kernel'].shape for layer in variables['params'].values() if 'kernel' in layer}
  assert shapes(nets.make_encoder('conv', 32), jnp.zeros((1, 32, 32, 3))) == {
      (4, 4, 3, 128), (4, 4, 128, 256), (4, 4, 256, 512), (4, 4, 512, 1024), (4096, 32)}
  assert shapes(nets.make_decoder('conv', (32, 32, 3)), jnp.zeros((1, 16))) == {
      (16, 65536), (4, 4, 1024, 512), (4, 4, 512, 256), (4, 4, 256, 3)}
  assert shapes(nets.make_decoder('conv', (64, 64, 3)), jnp.zeros((1, 16))) == {
      (16, 65536), (5, 5, 1024, 512), (5, 5, 512, 256), (5, 5, 256, 128), (5, 5, 128, 3)}


@pytest.mark.parametrize(('event', 'widths', 'message'), [
    ((8,), (4, 4, 4), 'needs images'), ((30, 30, 1), (4, 4, 4), 'multiples of 4'),
    ((8, 8, 1), (4, 4, 4, 4), 'at least 16 px'), ((64, 64, 3), (4, 4, 4), 'must be at least 4 ')])
def test_events_that_do_not_fit_are_errors(event, widths, message):
  with pytest.raises(ValueError, match=message):
    nets.make_decoder('conv', event, widths=widths).init(
        jax.random.key(0), jnp.zeros((1, 2)), train=True)


def test_unknown_net_is_an_error():
  with pytest.raises(ValueError, match=r"one of \['conv', 'mlp', 'resnet'\], got 'cnn'"):
    nets.make_encoder('cnn', 4)


def test_mlp_without_hidden_layers_is_affine():
  x, y = _draw((3, 4), (3, 4))
  net = nets.MLP((), 2)
  variables = net.init(jax.random.key(0), x)
  f = lambda v: net.apply(variables, v)
  np.testing.assert_allclose(f(x) + f(y), f(x + y) + f(0. * x), atol=1e-6)


def test_batch_norm_without_mask_equals_flax():
  (x,) = _draw((6, 5, 5, 3))
  ours, theirs = nets.BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=.9)
  a, state = ours.apply(ours.init(jax.random.key(0), x, train=True), x, train=True,
                        mutable=['batch_stats'])
  b, flax_state = theirs.apply(theirs.init(jax.random.key(0), x), x, mutable=['batch_stats'])
  np.testing.assert_allclose(a, b, atol=1e-5)
  found = state['batch_stats']['RunningMoments_0']
  np.testing.assert_allclose(found['mean'], flax_state['batch_stats']['mean'], atol=1e-6)
  # Ours stores the variance plus epsilon.
  np.testing.assert_allclose(found['var'], flax_state['batch_stats']['var'] + 1e-6, atol=1e-6)


def test_moments_keep_their_digits_far_from_zero():
  (x,) = _draw((1000, 2))
  far = moments.batch_moments(x + 1e4)
  np.testing.assert_allclose(far.var, np.var(np.asarray(x + 1e4), axis=0, dtype=np.float64),
                             rtol=1e-4)


@pytest.mark.parametrize('shards', [1, 2, 4])
def test_moments_of_uneven_shards_are_those_of_the_unpadded_batch(shards):
  (x,) = _draw((8, 2, 2, 3))
  mask = jnp.arange(8) < 5            # on four shards: 2, 2, 1 and 0 rows
  found = jit(jax.vmap(lambda a, m: moments.batch_moments(a, mask=m, axis_name='batch'),
                       axis_name='batch'))(x.reshape(shards, -1, 2, 2, 3), mask.reshape(shards, -1))
  plain = moments.batch_moments(x[:5])
  for shard in range(shards):
    for a, b in zip(found, plain):
      np.testing.assert_allclose(a[shard], b, rtol=1e-5, atol=1e-6)


def test_merged_moments_are_those_of_the_union():
  (x,) = _draw((10, 3))
  parts = [moments.batch_moments(p, epsilon=1e-5) for p in (x[:2], x[2:7], x[7:])]
  merged = moments.merge(moments.merge(*parts[:2]), parts[2])
  for a, b in zip(merged, moments.batch_moments(x, epsilon=1e-5)):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_mask_of_another_size_is_an_error():
  with pytest.raises(ValueError, match=r'one entry per example, \(4,\), got \(3,\)'):
    moments.batch_moments(jnp.zeros((4, 2)), mask=jnp.ones(3, bool))


@pytest.mark.parametrize('net, event, widths', [('mlp', (3, 3, 1), (5,)),
                                                ('conv', (8, 8, 2), (3, 4, 5)),
                                                pytest.param('resnet', (8, 8, 2), (3, 4),
                                                             marks=pytest.mark.slow)])
def test_nets_in_bfloat16_take_and_give_float32_and_keep_it_where_it_counts(net, event, widths):
  """Parameters and statistics; products are of bfloat16, as the traced program says."""
  x, z = _draw((6, *event), (6, 3))
  encoder = lambda dtype: nets.make_encoder(net, 4, widths=widths, dtype=dtype)
  decoder = lambda dtype: nets.make_decoder(net, event, widths=widths, dtype=dtype)
  for make, inputs in ((encoder, x), (decoder, z)):
    half, full = make('bfloat16'), make('float32')
    variables = full.init(jax.random.key(0), inputs, train=True)
    shapes = jax.eval_shape(lambda half=half, x=inputs: half.init(jax.random.key(0), x, train=True))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
    run = lambda net: lambda v, x: net.apply(v, x, train=True, mutable='batch_stats')
    (a, stats), (b, _) = jit(run(half))(variables, inputs), jit(run(full))(variables, inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves((a, stats))} == {jnp.dtype('float32')}
    assert 0 < abs(a - b).max() < .05 * abs(b).max()
    text = str(jax.make_jaxpr(run(half))(variables, inputs))
    convolved = {('f32', 'dot_general'),   # on a CPU, of what is rounded before
                 ('bf16', 'conv_general_dilated')} if net != 'mlp' else set()
    assert set(re.findall(r':(\w+)\[[^]]*\] = (dot_general|conv_general_dilated)', text)) == {
      ('bf16', 'dot_general'), *convolved}


def test_an_unknown_type_of_a_net_is_an_error():
  with pytest.raises(ValueError, match=r"one of \('float32', 'bfloat16'\), got 'float16'"):
    nets.make_decoder('mlp', (4,), dtype='float16')
