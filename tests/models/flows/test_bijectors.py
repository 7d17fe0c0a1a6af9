"""Contract of every bijector, with random parameters and running statistics."""
import functools
import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models import flows
from mollification.models.flows.actnorm import ActNorm
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Bijector, Chain, Reshape
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.linear import LULinear
from mollification.models.flows.multiscale import GaussianBase
from mollification.models.flows.permutation import RandomPermutation, Reverse
from mollification.models.flows.realnvp import realnvp_tabular
from tests.models.flows import image_bijectors, tabular_bijectors
from tests.models.support import jit, random_variables

# Name -> (constructor, event, size of the condition or None). Assembled flows stand here too.
BIJECTORS = {
    'coupling_even': (lambda: MaskedAffineCoupling(0, 8), (5,), None),
    'coupling_odd': (lambda: MaskedAffineCoupling(1, 8), (2,), None),
    'coupling_conditioned': (lambda: MaskedAffineCoupling(0, 8), (3,), 2),
    'batchnorm_vector': (BatchNorm, (4,), None),
    'batchnorm_image': (BatchNorm, (2, 3, 2), None),
    'reshape': (lambda: Reshape((2, 3, 1), (6,)), (2, 3, 1), None),
    'chain': (lambda: Chain((BatchNorm(), MaskedAffineCoupling(0, 8), BatchNorm())), (3,), None),
    'realnvp_tabular': (lambda: realnvp_tabular((5,), 3, 8).bijector, (5,), None),
    'realnvp_of_an_image': (lambda: realnvp_tabular((2, 2, 2), 2, 8).bijector, (2, 2, 2), None),
    **image_bijectors.BIJECTORS,
    **tabular_bijectors.BIJECTORS,
}
# They compile for long, and `make test` has all that they are made of.
SLOW = ('realnvp_image', 'realnvp_image_as_published', 'realnvp_image_of_classes',
        'glow_of_classes')
# Its backward pass is its own: there is no forward mode (see `Repeat`).
REVERSE_MODE = ('repeat_invertible',)
ALL = pytest.mark.parametrize('name', [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BIJECTORS])


def _setup(make, event, condition):
  """(forward, inverse, x [3, *event], cond) of one bijector with random variables."""
  bijector, x = make(), jax.random.normal(jax.random.key(0), (3, *event))
  cond = None if condition is None else jax.random.normal(jax.random.key(3), (3, condition))
  variables = random_variables(lambda: bijector.init(
      jax.random.key(1), x, cond=cond, method='forward_and_log_det'))

  def forward(v, cond=cond):
    return bijector.apply(variables, v, cond=cond, method='forward_and_log_det')

  def inverse(v):
    return bijector.apply(variables, v, cond=cond, method='inverse_and_log_det')
  return forward, inverse, x, cond


@functools.cache
def _measured(name):
  """(x, log det, Jacobian [3, D, D], inverse of forward, its log det) by one compiled program."""
  forward, inverse, x, cond = _setup(*BIJECTORS[name])
  derivative = jax.jacrev if name in REVERSE_MODE else jax.jacfwd

  def flat(v, c):
    return forward(v.reshape(1, *x.shape[1:]), None if c is None else c[None])[0].ravel()

  def run(x, cond):
    z, log_det = forward(x)
    # Not to be merged with what came before: each way is a computation of its own.
    back, inverse_log_det = inverse(jax.lax.optimization_barrier(z))
    return log_det, jax.vmap(derivative(flat))(x.reshape(3, -1), cond), back, inverse_log_det
  return x, *jit(run)(x, cond)


@ALL
def test_log_det_is_that_of_the_jacobian(name):
  _, log_det, jacobian, _, _ = _measured(name)
  assert log_det.shape == (3,)
  np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-4)


@ALL
def test_inverse_inverts_and_log_dets_are_opposite(name):
  x, log_det, _, back, inverse_log_det = _measured(name)
  np.testing.assert_allclose(back, x, atol=1e-5)
  np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-5)


def _modules(value):
  """All modules in the fields of `value`, itself among them."""
  if isinstance(value, tuple):
    return [module for entry in value for module in _modules(entry)]
  if not isinstance(value, nn.Module):
    return []
  fields = (getattr(value, name) for name in value.__dataclass_fields__ if name != 'parent')
  return [value, *(module for field in fields for module in _modules(field))]


def test_every_bijector_and_every_flow_of_the_package_has_a_case_here():
  for module in pkgutil.iter_modules(flows.__path__, flows.__name__ + '.'):
    importlib.import_module(module.name)
  own = lambda kind: kind.__module__.startswith(flows.__name__)
  written = set(filter(own, Bijector.__subclasses__()))
  tested = {type(module) for make, _, _ in BIJECTORS.values() for module in _modules(make())}
  assert written <= tested, written - tested
  assembled = {name for name, make in models.MODELS.items() if own(make)}
  assert assembled <= set(BIJECTORS), assembled - set(BIJECTORS)


def test_couplings_alternate_and_leave_the_masked_half_alone():
  for parity, kept in ((0, [1, 3]), (1, [0, 2, 4])):
    forward, _, x, _ = _setup(lambda p=parity: MaskedAffineCoupling(p, 8), (5,), None)
    z, _ = jit(forward)(x)
    moved = [i for i in range(5) if i not in kept]
    np.testing.assert_array_equal(z[:, kept], x[:, kept])
    assert (z[:, moved] != x[:, moved]).all()


@pytest.mark.parametrize('method', ['forward_and_log_det', 'inverse_and_log_det'])
@pytest.mark.parametrize('make', [
  ActNorm, BatchNorm, LULinear, Reverse, RandomPermutation, GaussianBase])
def test_a_layer_of_what_is_no_batch_is_an_error(make, method):
  with pytest.raises(ValueError, match=r'a batch of events \[B, ..., C\], got shape \(4,\); the'):
    make().init(jax.random.key(0), jnp.zeros(4), method=method)


@pytest.mark.parametrize('shape', [(4,), (1, 2, 2, 4)])
def test_a_masked_coupling_of_what_is_no_vector_is_an_error(shape):
  with pytest.raises(ValueError, match=r'needs vectors \[B, D\], got shape .*4.*; flatten'):
    MaskedAffineCoupling().init(jax.random.key(0), jnp.zeros(shape), method='forward_and_log_det')


def test_a_coupling_uses_its_condition():
  forward, _, x, cond = _setup(*BIJECTORS['coupling_conditioned'])
  forward = jit(forward)
  assert (forward(x)[0] != forward(x, cond + 1.)[0]).any()


def test_coupling_nets_start_orthogonal_with_tanh_and_relu():
  x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
  layer = MaskedAffineCoupling(0, 8)
  variables = jit(lambda: layer.init(jax.random.key(1), x, method='forward_and_log_det'))()
  variables = jax.tree.map(np.asarray, variables)

  def net(name, activation, v):
    for i in range(3):
      dense = variables['params'][name][f'Dense_{i}']
      gram = dense['kernel'] @ dense['kernel'].T if i == 0 else dense['kernel'].T @ dense['kernel']
      np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
      assert (dense['bias'] == 0.).all()
      v = v @ dense['kernel'] if i == 0 else activation(v) @ dense['kernel']
    return v
  keep = np.array([[0., 1., 0., 1.]])
  log_scale = net('scale', np.tanh, x * keep) * (1. - keep)
  shift = net('translate', lambda v: np.maximum(v, 0.), x * keep) * (1. - keep)
  z, log_det = jit(lambda x: layer.apply(variables, x, method='forward_and_log_det'))(x)
  np.testing.assert_allclose(z, x * np.exp(log_scale) + shift, atol=1e-5)
  np.testing.assert_allclose(log_det, log_scale.sum(1), atol=1e-5)


def _batchnorm(x, **options):
  layer = BatchNorm(**options)
  variables = random_variables(lambda: layer.init(
      jax.random.key(1), x, method='forward_and_log_det'))
  return jax.tree.map(np.asarray, variables), lambda v: layer.apply(
      variables, v, train=True, method='forward_and_log_det', mutable=['batch_stats'])


def test_batchnorm_in_training_is_its_formula_and_moves_the_running_statistics():
  x = np.random.default_rng(0).normal(1., 2., (6, 4)).astype(np.float32)
  variables, forward = _batchnorm(x, momentum=.75)
  (z, log_det), state = jit(forward)(x)
  mean, v = x.mean(0), x.var(0) + 1e-5
  params = variables['params']
  expected = np.exp(params['log_gamma'])[None] * (x - mean[None]) / np.sqrt(v)[None]
  np.testing.assert_allclose(z, expected + params['beta'][None], atol=1e-5)
  np.testing.assert_allclose(log_det, (params['log_gamma'] - .5 * np.log(v)).sum(), atol=1e-5)
  old, new = variables['batch_stats']['moments'], state['batch_stats']['moments']
  np.testing.assert_allclose(new['mean'], .75 * old['mean'] + .25 * mean, atol=1e-6)
  np.testing.assert_allclose(new['var'], .75 * old['var'] + .25 * v, atol=1e-6)


def test_batchnorm_passes_gradients_through_the_batch_statistics():
  x = jax.random.normal(jax.random.key(0), (6, 4))
  _, forward = _batchnorm(x)
  # A shift of the whole batch, or its scale, does not change the output.
  def outputs(shift, scale):
    (z, log_det), _ = forward(x * scale + shift)
    return (z**3).sum(), log_det.sum()
  (shift, scale), (_, log_det) = jit(jax.jacrev(outputs, argnums=(0, 1)))(0., 1.)
  np.testing.assert_allclose([shift, scale], 0., atol=1e-2)
  np.testing.assert_allclose(log_det, -6 * 4, rtol=1e-3)


def test_reshape_to_another_size_is_an_error():
  with pytest.raises(ValueError, match='differ in size'):
    Reshape((2, 3), (5,)).apply({}, jnp.zeros((1, 2, 3)), method='forward_and_log_det')
