"""Assembled flows: density, score, sampling."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Bijector, Reshape
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.flow import Flow
from mollification.models.flows.linear import LULinear
from mollification.models.flows.maf import MaskedAutoregressive
from mollification.models.flows.multiscale import GaussianBase
from mollification.models.flows.permutation import Reverse
from mollification.models.flows.realnvp import realnvp_tabular
from tests.models.support import draw, equations, jit, random_variables


def _flow(event, name='realnvp_tabular', **options):
  flow = models.create(name, event, **{'num_blocks': 2, 'hidden': 8, **options})
  x = jax.random.normal(jax.random.key(0), (3, *event))
  variables = random_variables(lambda: flow.init(
      jax.random.key(1), x, None, train=True, method='loss'), scale=.2)
  return flow, variables, x


def _jitted(flow, variables, method):
  return jit(lambda *args, **kwargs: flow.apply(variables, *args, method=method, **kwargs))


@pytest.mark.parametrize('name', ['realnvp_tabular', 'maf', 'glow_tabular'])
def test_density_of_a_two_dimensional_flow_integrates_to_one(name):
  flow, variables, _ = _flow((2,), name)
  keys = jax.random.split(jax.random.key(3), 2000)
  samples = np.asarray(_jitted(flow, variables, 'sample')(keys))
  low, high = samples.min(0) - 4., samples.max(0) + 4.
  axes = [np.linspace(a, b, 600) for a, b in zip(low, high)]
  grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 2)
  density = np.exp(_jitted(flow, variables, 'log_prob')(grid.astype(np.float32)))
  cell = np.prod([a[1] - a[0] for a in axes])
  np.testing.assert_allclose(density.sum() * cell, 1., atol=5e-3)


@pytest.mark.parametrize('name', ['realnvp_tabular', 'glow_tabular'])
def test_coupling_nets_of_tables_in_bfloat16_stay_near_and_keep_the_rest_float32(name):
  """Parameters, likelihoods and the inverse; products inside the nets are of bfloat16."""
  (full, variables, x), (half, _, _) = _flow((6,), name), _flow((6,), name, dtype='bfloat16')
  shapes = jax.eval_shape(lambda: half.init(jax.random.key(0), x, None, train=True, method='loss'))
  assert {a.dtype for a in jax.tree.leaves(shapes['params'])} == {jnp.dtype('float32')}
  layer = MaskedAffineCoupling(0, 8, dtype='bfloat16')
  (z, log_det), _ = jax.eval_shape(lambda: layer.init_with_output(
    jax.random.key(0), x, method='forward_and_log_det'))
  assert z.dtype == log_det.dtype == jnp.float32   # what is summed, too
  found, known = (_jitted(flow, variables, 'log_prob')(x) for flow in (half, full))
  np.testing.assert_allclose(found, known, atol=.1, rtol=.01)
  assert (found != known).any()
  jaxpr = jax.make_jaxpr(lambda x: half.apply(variables, x, method='log_prob'))(x).jaxpr
  kinds = [str(e.invars[0].aval.dtype) for e in equations(jaxpr)
           if e.primitive.name == 'dot_general']
  assert kinds.count('bfloat16') >= 12   # two blocks of two nets of three layers
  assert ('float32' in kinds) == (name == 'glow_tabular')   # of its linear maps
  back = jit(lambda x: nn.apply(lambda f: f.bijector.inverse_and_log_det(
    f.bijector.forward_and_log_det(x)[0])[0], half)(variables))(x)
  np.testing.assert_allclose(back, x, atol=1e-4)
  with pytest.raises(ValueError, match=r"one of \('float32', 'bfloat16'\), got 'float16'"):
    models.create(name, (6,), dtype='float16')


def test_samples_follow_the_density():
  flow, variables, _ = _flow((2,))
  x = _jitted(flow, variables, 'sample')(jax.random.split(jax.random.key(3), 20_000))
  log_prob = np.asarray(_jitted(flow, variables, 'log_prob')(x))
  x = np.asarray(x)
  # E_p[f q / p] = integral of f q, here with q = N(m, 1/9 I) inside the bulk of p and f = 1.
  log_q = -4.5 * ((x - np.median(x, axis=0))**2).sum(1) + np.log(9. / (2. * np.pi))
  ratio = np.exp(log_q - log_prob)
  assert abs(ratio.mean() - 1.) < 5. * ratio.std() / len(ratio)**.5 < .5


@pytest.mark.parametrize('event', [(3,), (2, 2, 1)])
def test_score_is_the_finite_difference_of_the_log_density(event):
  flow, variables, x = _flow(event)
  step = 1e-5
  with jax.enable_x64(True):
    variables, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (variables, x))
    score = np.asarray(_jitted(flow, variables, 'score')(x))
    log_prob = _jitted(flow, variables, 'log_prob')
    assert score.shape == x.shape
    for index in np.ndindex(*event):
      delta = np.zeros(x.shape)
      delta[(slice(None), *index)] = step
      slope = (log_prob(x + delta) - log_prob(x - delta)) / (2. * step)
      np.testing.assert_allclose(score[(slice(None), *index)], slope, atol=1e-5, rtol=1e-5)


def test_score_is_jittable_and_can_be_differentiated_by_the_parameters():
  flow, variables, x = _flow((3,), num_blocks=1)
  norm = lambda v: (flow.apply(v, x, method='score')**2).sum()
  gradient = jit(jax.grad(norm))(variables)
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_loss_is_minus_log_prob_and_its_metrics_add_up():
  flow, variables, x = _flow((3,))
  loss, metrics = jit(lambda x: flow.apply(variables, x, None, train=False, method='loss'))(x)
  np.testing.assert_allclose(-loss, _jitted(flow, variables, 'log_prob')(x), rtol=1e-6)
  np.testing.assert_allclose(-loss, metrics['log_base'] + metrics['log_det'], rtol=1e-6)


def test_temperature_scales_the_base():
  flow, variables, _ = _flow((2, 2, 1))
  sample = _jitted(flow, variables, 'sample')
  latent = _jitted(flow, variables, lambda flow, x: flow.bijector.forward_and_log_det(x)[0])
  z = lambda t: latent(sample(jax.random.split(jax.random.key(6), 5), temperature=t))
  np.testing.assert_allclose(z(.5), .5 * z(1.), atol=1e-5)


def test_a_conditioned_flow_is_a_density_for_each_condition():
  flow, (x, cond) = realnvp_tabular((2,), 1, 8, classes=3), (jnp.ones((3, 2)), jnp.eye(3))
  variables = random_variables(lambda: flow.init(
      jax.random.key(1), x, None, train=True, cond=cond, method='loss'))
  log_prob = _jitted(flow, variables, 'log_prob')(x, cond)
  assert len(set(np.asarray(log_prob).tolist())) == 3


def test_released_layers_at_full_size():
  flow = models.create('realnvp_tabular', (11,))
  variables = jax.eval_shape(lambda: flow.init(
      jax.random.key(0), jnp.zeros((2, 11)), None, train=True, method='loss'))
  # Per block two nets 11 -> 512 -> 512 -> 11 and a BatchNorm of 2 × 11 parameters.
  nets = 2 * ((11 + 1) * 512 + (512 + 1) * 512 + (512 + 1) * 11)
  assert sum(p.size for p in jax.tree.leaves(variables['params'])) == 5 * (nets + 22)


NORM = BatchNorm('batch', .5)


@pytest.mark.parametrize(('name', 'block'), [
    # The masks of couplings alternate; MAF reverses the order of the coordinates instead.
    ('realnvp_tabular', lambda parity: [MaskedAffineCoupling(parity, 8, .1), NORM]),
    ('glow_tabular', lambda parity: [NORM, LULinear(), MaskedAffineCoupling(parity, 8, .1)]),
    ('maf', lambda _: [MaskedAutoregressive((8, 8), .1), NORM, Reverse()])])
def test_the_layers_of_tables_stand_in_their_order(name, block):
  """From the data on, with the options that they were given; a learned base is the last."""
  options = {'num_blocks': 3, 'hidden': 8, 'momentum': .5, 'dropout': .1}
  expected = [Reshape((2, 2, 1), (4,)), *block(0), *block(1), *block(0)]
  for extra, base in (({}, []), ({'learned_base': True}, [GaussianBase()]),
                      ({'classes': 3}, [GaussianBase(3)])):
    flow = models.create(name, (2, 2, 1), 'batch', **options, **extra)
    assert list(flow.bijector.bijectors) == expected + base


def test_a_one_hot_condition_may_be_of_whole_numbers():
  """Also where the backward pass inverts, which has a gradient by the condition."""
  flow = models.create('glow', (4, 4, 1), None, levels=1, steps=2, hidden=4, classes=3,
                       memory='invertible')
  x, cond = draw(3, 4, 4, 1), jnp.eye(3)
  variables = random_variables(lambda: flow.init(jax.random.key(1), x, cond, method='log_prob'))

  @jit
  def gradient(cond):
    return jax.grad(lambda params: flow.apply(
      {**variables, 'params': params}, x, cond, method='log_prob').sum())(variables['params'])
  jax.tree.map(np.testing.assert_array_equal, gradient(cond.astype(int)), gradient(cond))


def test_events_without_a_second_number_are_an_error():
  with pytest.raises(ValueError, match=r'at least 2 numbers, got 1 in shape \(1,\)'):
    realnvp_tabular((1,))
  with pytest.raises(ValueError, match='num_blocks must be at least 1, got 0'):
    realnvp_tabular((2,), 0)
  with pytest.raises(ValueError, match='hidden must be at least 1, got 0'):
    realnvp_tabular((2,), hidden=0)


def test_a_learned_base_is_scaled_by_the_temperature_about_its_mean():
  flow, variables, _ = _flow((3,), learned_base=True)
  sample = _jitted(flow, variables, 'sample')
  keys = lambda: jax.random.split(jax.random.key(6), 5)
  # At temperature 0 all samples are the image of the base's mean, whatever the key.
  still = np.asarray(sample(keys(), temperature=0.))
  np.testing.assert_allclose(still, np.broadcast_to(still[:1], still.shape), atol=1e-6)
  before_base = lambda flow, x: _to_base(flow.bijector, x)
  latent = _jitted(flow, variables, before_base)
  mean, one, half = (np.asarray(latent(v)) for v in (
      still, sample(keys()), sample(keys(), temperature=.5)))
  assert np.abs(mean).max() > .01
  np.testing.assert_allclose(half - mean, .5 * (one - mean), atol=1e-5)


def _to_base(chain, x):
  for bijector in chain.bijectors[:-1]:
    x, _ = bijector.forward_and_log_det(x)
  return x


def test_bits_per_dim_are_nats_over_log_2_and_size():
  flow, variables, x = _flow((2, 2, 1))
  bits = _jitted(flow, variables, 'bits_per_dim')(x)
  np.testing.assert_allclose(bits, -_jitted(flow, variables, 'log_prob')(x) / (4 * np.log(2.)),
                             rtol=1e-6)


def test_a_batch_of_another_shape_is_an_error():
  flow, variables, _ = _flow((3,))
  for shape in ((3,), (2, 4), (2, 3, 1)):
    for method in ('log_prob', 'score'):
      with pytest.raises(ValueError, match=r'events \(3,\), got a batch of shape'):
        flow.apply(variables, jnp.zeros(shape), method=method)


@pytest.mark.parametrize('name', ['realnvp_tabular', 'maf', 'glow_tabular', 'glow',
                                  'realnvp_image'])
def test_a_condition_that_would_be_ignored_or_is_missing_is_an_error(name):
  """Before anything is computed, by every method."""
  event = (8, 8, 1) if name in ('glow', 'realnvp_image') else (3,)
  x, keys = jnp.zeros((2, *event)), jax.random.split(jax.random.key(0), 2)

  def calls(flow, cond):
    yield lambda: flow.apply({}, x, None, train=True, cond=cond, method='loss')
    yield lambda: flow.apply({}, x, None, cond, method='log_likelihood')
    yield lambda: flow.apply({}, x, cond, method='score')
    yield lambda: flow.apply({}, keys, cond=cond, method='sample')

  for call in calls(models.create(name, event), jnp.eye(2)):
    with pytest.raises(ValueError, match=r'takes no condition, got cond of shape \(2, 2\); leave'):
      call()
  for cond, found in ((None, 'None'), (jnp.eye(2), r'\(2, 2\)'), (jnp.ones(2), r'\(2,\)'),
                      (jnp.eye(3)[:1], r'\(1, 3\) for B = 2')):
    for call in calls(models.create(name, event, classes=3), cond):
      with pytest.raises(ValueError, match=rf'of 3 numbers: pass cond \[B, 3\], got {found}'):
        call()


@pytest.mark.parametrize(('name', 'options', 'message'), [
    *((name, {'momentum': value}, rf'^momentum must lie in \[0, 1\), got {value}; 0 keeps')
      for name in ('realnvp_tabular', 'maf', 'glow_tabular') for value in (2., 1., -.5)),
    *((name, {'inverse_error': -1}, '^inverse_error must not be negative, got -1; 0 is without')
      for name in ('realnvp_tabular', 'maf', 'glow_tabular', 'glow', 'realnvp_image')),
    *((name, {'classes': -1}, '^classes must not be negative, got -1; 0 is without')
      for name in ('realnvp_tabular', 'maf', 'glow_tabular', 'glow', 'realnvp_image')),
    ('realnvp_image', {'gain_penalty': -1.}, '^gain_penalty must not be negative, got -1.0'),
    ('realnvp_image', {'memory': 'invertible'}, "^memory 'invertible' is not for .*; use remat"),
    ('realnvp_image', {'memory': 'disk'}, "^memory must be one of .*, got 'disk'"),
    ('realnvp_image', {'scales': 0}, '^scales must be at least 1, got 0'),
    ('glow', {'steps': 0}, '^steps must be at least 1, got 0')])
def test_bad_options_begin_with_their_name(name, options, message):
  """`build` puts the config's group before it: model.momentum."""
  event = (8, 8, 1) if name in ('glow', 'realnvp_image') else (3,)
  with pytest.raises(ValueError, match=message):
    models.create(name, event, **options)


class _Doubling(Bijector):
  """z = x, with an 'inverse' that is off by |x|, and NaN where x is 99."""

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    return x, jnp.zeros(x.shape[0])

  def inverse_and_log_det(self, z, *, cond=None):
    return jnp.where(z == 99., jnp.nan, 2. * z), jnp.zeros(z.shape[0])


def test_inverse_error_is_the_largest_of_the_first_examples_on_any_number_of_devices():
  x = np.array([[1., -2.], [7., 0.], [-5., 3.], [8., 8.], *[[50., 50.]] * 4], np.float32)
  flow = Flow(event_shape=(2,), bijector=_Doubling(), inverse_error=3, axis_name='batch')

  loss = lambda x, mask: flow.apply({}, x, None, train=True, mask=mask, method='loss')[1]
  run = jit(jax.vmap(loss, axis_name='batch'))

  def error(x, mask, shards):
    split = lambda a: a.reshape(shards, -1, *a.shape[1:])
    found = np.asarray(run(split(x), split(mask))['inverse_error']).ravel()
    assert found.shape == (8,)
    # As an update makes one number of it: the mean over the rows that are not padded.
    return found[mask].mean()

  everything, some, poisoned = np.ones(8, bool), np.arange(8) != 1, x.copy()
  poisoned[2] = 99.
  for shards in (1, 2, 4):
    assert error(x, everything, shards) == 7.
    assert error(x, some, shards) == 5.
    assert error(poisoned, everything, shards) == np.inf


@pytest.mark.parametrize('name', ['realnvp_tabular', 'maf', 'glow_tabular'])
def test_inverse_error_of_a_table_is_small_and_has_no_gradient(name):
  _, variables, x = _flow((3,), name, num_blocks=1)
  flow = models.create(name, (3,), 'batch', num_blocks=1, hidden=8, inverse_error=2)

  def error(params, x):
    _, metrics = flow.apply({**variables, 'params': params}, x, None, train=True, method='loss')
    return metrics['inverse_error'].mean()

  found, gradient = jit(jax.vmap(jax.value_and_grad(error), (None, 0), axis_name='batch'))(
      variables['params'], x[None])
  assert 0. <= found[0] < 1e-4
  assert all((g == 0.).all() for g in jax.tree.leaves(gradient))
