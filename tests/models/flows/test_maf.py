"""MADE's masks and kernel blocks, MAF and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mollification.models.base import refresh
from mollification.models.flows import made
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.flow import Flow
from mollification.models.flows.maf import MaskedAutoregressive, maf
from mollification.models.flows.permutation import RandomPermutation
from mollification.models.matmul import matmul
from tests.models.support import equations, jit, random_variables


def _made(size, widths, outputs=2, condition=None):
  """(net, variables, x [3, size], cond) with random variables."""
  net, x = made.MADE(outputs, widths), jax.random.normal(jax.random.key(0), (3, size))
  cond = None if condition is None else jax.random.normal(jax.random.key(1), (3, condition))
  return net, random_variables(lambda: net.init(jax.random.key(2), x, cond)), x, cond


def _by_hand(variables, x, widths, outputs):
  """The network as the paper of Germain et al. has it: full kernels times full masks."""
  size, params = x.shape[1], jax.tree.map(np.asarray, variables['params'])
  spread = lambda w: (np.sort(np.arange(w) % (size - 1)) if w >= size - 1
                      else np.arange(1, w + 1) * (size - 2) // w)
  degrees = [np.arange(size), *map(spread, widths),
             np.tile(np.arange(size) - 1, outputs)]
  layers = ['first', *(f'hidden_{i}' for i in range(len(widths) - 1)), 'last']
  h = x
  for i, name in enumerate(layers):
    kernel, bias = params[name]['kernel'], params[name]['bias']
    if isinstance(kernel, dict):
      full = np.full((widths[i - 1], widths[i]), 7., np.float32)   # what is not stored is masked
      for g, (seen, start, end) in enumerate(made.groups(degrees[i], degrees[i + 1])):
        full[:seen, start:end] = kernel[f'group_{g}']
      kernel = full
    h = h @ (kernel * (degrees[i + 1][None] >= degrees[i][:, None])) + bias[None]
    h = np.maximum(h, 0.) if name != 'last' else h
  return h.reshape(len(x), outputs, size)


@pytest.mark.parametrize(('size', 'widths', 'outputs', 'width'), [
    (2, (6, 5), 2, 128), (5, (12, 9), 3, 3), (11, (40, 30), 2, 8), (6, (3, 10, 4), 1, 4)])
def test_made_is_the_masked_network(size, widths, outputs, width, monkeypatch):
  monkeypatch.setattr(made, 'GROUP_WIDTH', width)
  net, variables, x, _ = _made(size, widths, outputs)
  found = jit(net.apply)(variables, x)
  np.testing.assert_allclose(found, _by_hand(variables, np.asarray(x), widths, outputs), atol=1e-5)


@pytest.mark.parametrize('condition', [None, 2])
def test_output_i_depends_on_all_coordinates_before_i_and_on_no_other(condition, monkeypatch):
  monkeypatch.setattr(made, 'GROUP_WIDTH', 16)   # blocks of several degrees
  net, variables, x, cond = _made(6, (40, 40), condition=condition)
  one = lambda v, c: net.apply(variables, v[None], None if c is None else c[None])[0]
  by_x = jit(jax.jacrev(one))(x[0], None if cond is None else cond[0])
  expected = np.arange(6)[None] < np.arange(6)[:, None]
  for output in np.asarray(by_x):
    np.testing.assert_array_equal(output != 0., expected)
  if cond is not None:
    assert (np.asarray(jit(jax.jacrev(one, argnums=1))(x[0], cond[0])) != 0.).all()


def test_masked_weights_never_matter_and_get_no_gradient(monkeypatch):
  monkeypatch.setattr(made, 'GROUP_WIDTH', 8)
  net, variables, x, _ = _made(6, (20, 20))
  gradient = jit(jax.grad(lambda v: (net.apply(v, x)**2).sum()))(variables)
  flat = traverse_util.flatten_dict(gradient)
  idle = {path: np.asarray(g) == 0. for path, g in flat.items() if 'kernel' in path}
  # Units that no example activates have none either: what counts is that these are not all.
  assert 0. < sum(i.sum() for i in idle.values()) < sum(i.size for i in idle.values())
  large = traverse_util.unflatten_dict({
      path: jnp.where(idle[path] & _mask_of(path), 1e6, v) if path in idle else v
      for path, v in traverse_util.flatten_dict(variables).items()})
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(large), jax.tree.leaves(variables)))
  np.testing.assert_array_equal(jit(net.apply)(variables, x), jit(net.apply)(large, x))


def _mask_of(path):
  """Where the mask of a kernel of the net of the test above is 0."""
  inputs, hidden, last = np.arange(6), made.hidden_degrees(20, 6), np.tile(np.arange(6) - 1, 2)
  if path[1] in ('first', 'last'):
    return made.below(*((inputs, hidden) if path[1] == 'first' else (hidden, last))) == 0.
  return made.to_blocks(made.below(hidden, hidden), made.groups(hidden, hidden))[path[-1]] == 0.


def test_a_kernel_is_stored_without_most_of_what_its_mask_leaves_out():
  degrees = made.hidden_degrees(512, 11)
  blocks = jax.eval_shape(lambda k: made.to_blocks(k, made.groups(degrees, degrees)),
                          jax.ShapeDtypeStruct((512, 512), jnp.float32))
  stored = sum(b.size for b in jax.tree.leaves(blocks))
  assert made.below(degrees, degrees).sum() < stored < .78 * 512**2


def test_kernels_start_as_parts_of_orthogonal_ones():
  net, x = made.MADE(2, (24, 24)), jnp.zeros((1, 4))
  params = jit(lambda: net.init(jax.random.key(0), x))()['params']
  (block,) = params['hidden_0']['kernel'].values()
  np.testing.assert_allclose(block @ block.T, np.eye(24), atol=1e-5)
  assert all((layer['bias'] == 0.).all() for layer in params.values())


@pytest.mark.parametrize('size', [2, 15, 43])
def test_maf_and_its_inverse_agree(size):
  flow = maf((size,), 2, 64).bijector
  z = jax.random.normal(jax.random.key(0), (4, size))
  variables = random_variables(lambda: flow.init(
      jax.random.key(1), z, method='forward_and_log_det'), scale=.1)
  x, inverse_log_det = jit(lambda z: flow.apply(
      variables, z, method='inverse_and_log_det'))(z)
  back, log_det = jit(lambda x: flow.apply(variables, x, method='forward_and_log_det'))(x)
  assert np.abs(x - z).max() > .1
  np.testing.assert_allclose(back, z, atol=1e-4)
  np.testing.assert_allclose(log_det, -inverse_log_det, rtol=1e-4, atol=1e-3)


def test_maf_and_its_inverse_agree_where_products_are_rounded_by_default(monkeypatch):
  """As on a TPU: to bfloat16, unless the precision is 'highest'. Else some rows are off by 7e-3."""
  plain = jnp.matmul

  def rounded(a, b, precision=None):
    if precision != 'highest':
      a, b = (jax.lax.reduce_precision(v, 8, 7) for v in (a, b))
    return plain(a, b, precision=precision)

  flow, z = maf((43,), 5, 128).bijector, jax.random.normal(jax.random.key(0), (2_048, 43))
  variables = random_variables(lambda: flow.init(
      jax.random.key(1), z, method='forward_and_log_det'), scale=.1)
  monkeypatch.setattr(jnp, 'matmul', rounded)
  apply = lambda x, method: jit(lambda x: flow.apply(variables, x, method=method)[0])(x)
  back = apply(apply(z, 'inverse_and_log_det'), 'forward_and_log_det')
  np.testing.assert_allclose(back, z, atol=1e-4)


def test_every_product_of_a_maf_has_the_highest_precision():
  """Those with its condition, too; derivatives by its masked kernels have the default one."""
  layer, x, cond = MaskedAutoregressive((8, 8)), jnp.ones((2, 5)), jnp.ones((2, 3))
  variables = random_variables(lambda: layer.init(
      jax.random.key(0), x, cond=cond, method='forward_and_log_det'))
  highest = (jax.lax.Precision.HIGHEST,) * 2
  for method in ('forward_and_log_det', 'inverse_and_log_det'):
    jaxpr = jax.make_jaxpr(lambda x, method=method: layer.apply(
      variables, x, cond=cond, method=method))(x).jaxpr
    found = [e.params['precision'] for e in equations(jaxpr) if e.primitive.name == 'dot_general']
    assert set(found) == {highest}
    assert len(found) >= 5
  loss = lambda v: layer.apply(v, x, method='forward_and_log_det')[1].sum()
  jaxpr = jax.make_jaxpr(jax.grad(loss))({'params': {'net': {
    name: own for name, own in variables['params']['net'].items() if 'condition' not in name}}})
  found = [e.params['precision'] for e in equations(jaxpr.jaxpr)
           if e.primitive.name == 'dot_general']
  assert 3 <= found.count(highest) < len(found)


def test_the_inverse_is_one_scan_over_the_coordinates_and_its_log_det_takes_no_other_pass():
  layer, z = MaskedAutoregressive((8, 8)), jnp.zeros((2, 5))
  variables = random_variables(lambda: layer.init(
      jax.random.key(0), z, method='forward_and_log_det'))
  jaxpr = jax.make_jaxpr(lambda z: layer.apply(variables, z, method='inverse_and_log_det'))(z).jaxpr
  (scan,) = (equation for equation in equations(jaxpr) if equation.primitive.name == 'scan')
  assert scan.params['length'] == 5
  products = lambda jaxpr: sum(e.primitive.name == 'dot_general' for e in equations(jaxpr))
  assert products(jaxpr) == products(scan.params['jaxpr'].jaxpr) == 3   # one pass, of three layers


def test_the_shift_and_the_log_scale_are_those_of_the_paper():
  layer, x = MaskedAutoregressive((8, 8)), jax.random.normal(jax.random.key(0), (3, 4))
  variables = random_variables(lambda: layer.init(
      jax.random.key(1), x, method='forward_and_log_det'))
  z, log_det = layer.apply(variables, x, method='forward_and_log_det')
  shift, log_scale = np.moveaxis(
      _by_hand({'params': variables['params']['net']}, np.asarray(x), (8, 8), 2), 1, 0)
  np.testing.assert_allclose(z, (x - shift) * np.exp(-log_scale), atol=1e-5)
  np.testing.assert_allclose(log_det, -log_scale.sum(1), atol=1e-5)


def test_a_batchnorm_variance_of_1e_6_is_seen_through_epsilon():
  """The epsilon of 1e-5 is eleven times the variance: a log-det without it would be off by 1.2."""
  layer, x = BatchNorm(), 1e-3 * np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
  x = (x - x.mean(0, keepdims=True)) / x.std(0, keepdims=True) * np.float32(1e-3)
  variables = layer.init(jax.random.key(0), x, method='forward_and_log_det')
  (z, log_det), _ = jit(lambda x: layer.apply(
      variables, x, train=True, method='forward_and_log_det', mutable=['batch_stats']))(x)
  np.testing.assert_allclose(log_det, -np.log(1.1e-5), rtol=1e-5)
  np.testing.assert_allclose(z, x / np.sqrt(1.1e-5), rtol=1e-3, atol=1e-5)


def test_a_batchnorm_variance_of_1e_6_is_seen_through_epsilon_in_evaluation_and_inverse():
  """What is stored has the epsilon in it: neither left out nor added once more."""
  rng = np.random.default_rng(0)
  flow = Flow(event_shape=(2,), bijector=Chain((BatchNorm(momentum=0.),)))
  x = rng.normal(size=(64, 2))
  x = np.float32((x - x.mean(0)) / x.std(0) * [1e-3, 1.] + [.5, -2.])
  variables = flow.init(jax.random.key(0), x, None, train=True, method='loss')
  state = refresh(flow, variables, [(x, None)])
  layer = BatchNorm()
  own = {kind: value['bijector']['bijectors_0'] for kind, value in
         {'params': variables['params'], **state}.items()}
  z, log_det = layer.apply(own, x, method='forward_and_log_det')
  scale = np.sqrt([1e-6 + 1e-5, 1. + 1e-5])
  np.testing.assert_allclose(log_det, -np.log(scale).sum(), rtol=1e-4)
  np.testing.assert_allclose(z, (x - x.mean(0, keepdims=True)) / scale[None], atol=1e-3)
  back, inverse_log_det = layer.apply(own, z, method='inverse_and_log_det')
  np.testing.assert_allclose(back, x, atol=1e-6)
  np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-6)
  # A latent of 1 is a standard deviation, of what was seen and the epsilon.
  one, _ = layer.apply(own, jnp.ones((1, 2)), method='inverse_and_log_det')
  np.testing.assert_allclose(one[0] - x.mean(0), scale, rtol=1e-3)


def test_random_permutations_are_of_their_seed():
  x = jnp.arange(20.)[None]
  order = lambda seed: np.asarray(
      RandomPermutation(seed).apply({}, x, method='forward_and_log_det')[0][0])
  assert (order(0) == order(0)).all()
  assert (order(0) != order(1)).any()
  np.testing.assert_array_equal(np.sort(order(0)), np.arange(20))


def test_matmul_has_the_derivatives_of_a_matmul():
  a, b = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(3, 4), (4, 2)]))
  for derivative in (jax.jacrev, jax.jacfwd, lambda f, n: jax.jacfwd(jax.jacrev(f, n), n)):
    of = lambda f: jit(derivative(lambda a, b: (f(a, b)**2).sum(0), (0, 1)))(a, b)
    for found, known in zip(jax.tree.leaves(of(matmul)), jax.tree.leaves(of(jnp.matmul))):
      np.testing.assert_allclose(found, known, atol=1e-4)


@pytest.mark.parametrize('shape', [(512, 40), (512, 24), (1_024, 70), (272, 40)],
                         ids=['lengthened', 'turned', 'of 4 KB', 'plain'])
def test_matmul_of_wide_rows_has_the_derivatives_of_a_matmul(shape):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  args, tangents = (draw(5, shape[0]), draw(*shape)), (draw(5, shape[0]), draw(*shape))

  def derivatives(product):
    gradient = jax.grad(lambda x, kernel: jnp.tanh(.1 * product(x, kernel)).sum(), (0, 1))
    return jax.jvp(product, args, tangents), jax.jvp(gradient, args, tangents)

  found, known = jit(lambda: derivatives(matmul))(), jit(lambda: derivatives(jnp.matmul))()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, known)


def test_bad_input_names_the_rule():
  for event in ((1,), (1, 1)):
    with pytest.raises(ValueError, match='an autoregressive flow needs events of at least 2 num'):
      maf(event)
  with pytest.raises(ValueError, match='num_blocks must be at least 1, got 0'):
    maf((3,), 0)
  init = lambda net, shape: net.init(jax.random.key(0), jnp.zeros(shape))
  with pytest.raises(ValueError, match=r'vectors \[B, D\], got shape \(2, 3, 1\)'):
    init(made.MADE(), (2, 3, 1))
  with pytest.raises(ValueError, match='at least 2 numbers, got 1'):
    init(made.MADE(), (2, 1))
  with pytest.raises(ValueError, match='at least one hidden layer'):
    init(made.MADE(2, ()), (2, 3))


@pytest.mark.parametrize('width', [1, 3, 5, 6, 20])
def test_every_input_but_the_last_is_read_however_few_units_there_are(width):
  size = 7
  net = made.MADE(1, (width, width), activation=jnp.tanh)   # of which none dies
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, size)), jnp.float32)
  variables = random_variables(lambda: net.init(jax.random.key(0), x))
  jacobian = jax.vmap(jax.jacfwd(lambda x: net.apply(variables, x[None])[0, 0]))(x)
  seen = np.abs(jacobian).max((0, 1)) > 0.
  np.testing.assert_array_equal(seen, [True] * 6 + [False])
  np.testing.assert_array_equal(np.triu(np.abs(jacobian).max(0)), 0.)
