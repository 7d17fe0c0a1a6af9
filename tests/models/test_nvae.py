"""NVAE: KL terms against Monte Carlo, weights, balancing, the penalty, temperature."""
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models import nvae_cells, objectives
from tests.models.support import jit, random_variables

OPTIONS = dict(groups=(1, 2), latents=2, width=4, expansion=2, mixtures=1, levels=17)
DRAWS = 1000


@functools.cache
def _setup():
  model = models.create('nvae', (4, 4, 1), **OPTIONS)
  x = jnp.tanh(jax.random.normal(jax.random.key(0), (1, 4, 4, 1)))
  variables = random_variables(lambda: model.init(
      jax.random.key(1), x, jax.random.key(2), train=True, method='loss'), scale=.2)
  return model, variables, jnp.broadcast_to(x, (DRAWS, 4, 4, 1))


@functools.cache
def _draw():
  model, _, _ = _setup()
  return jit(lambda *args: model.apply(*args, method='draw'))


def test_kl_of_each_group_is_the_monte_carlo_mean_of_its_log_ratio():
  _, variables, x = _setup()
  _, kl, ratio = _draw()(variables, x, jax.random.split(jax.random.key(3), DRAWS))
  assert kl.shape == ratio.shape == (DRAWS, 3)
  assert (kl > 0.).all()
  # Those of later groups depend on the draws before them, so the two are compared draw by draw.
  error = (ratio - kl).std(0) / DRAWS**.5
  assert (error < .25 * kl.mean(0)).all()
  assert (jnp.abs((ratio - kl).mean(0)) < 5 * error).all()


@pytest.mark.slow
def test_training_starts_at_the_prior_however_many_groups():
  """Heads of random kernels made exponentials of exponentials: four groups on digits were NaN."""
  model = models.create('nvae', (4, 4, 1), **OPTIONS | dict(groups=(1, 8)))
  x = jnp.tanh(jax.random.normal(jax.random.key(0), (8, 4, 4, 1)))

  def start():
    (_, metrics), variables = model.init_with_output(
        jax.random.key(1), x, jax.random.key(2), train=True, method='loss')
    sample = model.apply(variables, jax.random.split(jax.random.key(3), 8), method='sample')
    return metrics, sample
  metrics, sample = jit(start)()
  np.testing.assert_array_equal(metrics['kl'], 0.)
  assert (metrics['reconstruction'] > -1000.).all()
  assert jnp.abs(sample).max() < 100.


@functools.cache
def _latents():
  """(encode's two, the image and KL at all means with features, reconstruction, a walk)."""
  model, variables, _ = _setup()
  x = jnp.tanh(jax.random.normal(jax.random.key(8), (3, 4, 4, 1)))

  def run(model, x):
    mean, log_var = model.encode(x)
    features = model.bottom_up(x, train=False)
    out, kl, *_ = model.top_down([0. * n for n in model._noise(jax.random.split(
        jax.random.key(0), 3))], features, train=False)
    return (mean, log_var, model.observation.mean(out), kl, model.reconstruct(x),
            model.interpolate(x, x[::-1], 3))
  return jit(lambda v, x: model.apply(v, x, method=run))(variables, x)


@pytest.mark.slow
def test_reconstruct_follows_the_means_of_all_groups_and_a_walk_ends_there():
  mean, log_var, at_means, _, reconstructed, walk = _latents()
  assert mean.shape == log_var.shape == (3, 2 * 1 * 1 + 2 * 2 * 2 * 2)
  np.testing.assert_allclose(reconstructed, at_means, atol=1e-5)
  assert jnp.abs(reconstructed - reconstructed[::-1]).max() > 1e-3
  np.testing.assert_allclose(walk[0], reconstructed, atol=1e-5)
  np.testing.assert_allclose(walk[2], reconstructed[::-1], atol=1e-5)


@pytest.mark.slow
def test_latents_are_encoded_where_the_prior_is_standard_normal():
  """Their KL from N(0, I), group by group, is that of the groups."""
  mean, log_var, _, kl, *_ = _latents()
  parts = jnp.split(objectives.gaussian_kl_terms(mean, log_var), [2, 10], axis=1)
  np.testing.assert_allclose(jnp.stack([p.sum(1) for p in parts], axis=1), kl, rtol=1e-5)
  assert (kl > .05).all()


def test_importance_bound_is_the_log_mean_weight_of_its_draws_chunk_by_chunk():
  model, variables, x = _setup()
  keys = jax.random.split(jax.random.key(4), 2)
  found = jit(lambda v: model.apply(v, x[:2], jax.random.split(jax.random.key(4), 2), 4, 2,
                                    method='importance_bound'))(variables)
  each = jnp.concatenate([jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(4))
                          for key in keys])
  each = jnp.concatenate([each, jax.random.split(jax.random.key(5), DRAWS - 8)])
  log_prob_x, _, ratio = _draw()(variables, x, each)
  log_w = (log_prob_x - ratio.sum(-1))[:8].reshape(2, 4)
  expected = jax.scipy.special.logsumexp(log_w, axis=1) - np.log(4)
  np.testing.assert_allclose(found, expected, rtol=1e-4)


KL = jnp.array([[1., 2., 6.], [3., 2., 4.], [9., 9., 9.], [5., 2., 1.], [7., 1., 0.], [2., 9., 3.]])


@functools.cache
def _balance(devices):
  """(kl [6, G], mask [6]) -> gamma [6, G], of rows that lie on so many devices."""
  model = models.create('nvae', (4, 4, 1), 'batch', **OPTIONS)
  mapped = jax.pmap(lambda kl, mask: model.apply({}, kl, mask, method='_balance'),
                    axis_name='batch', devices=jax.devices()[:devices])
  shards = lambda a: a.reshape(devices, -1, *a.shape[1:])
  return lambda kl, mask: mapped(shards(kl), shards(mask)).reshape(kl.shape)


@pytest.mark.parametrize('devices', [1, 2, 3])
@pytest.mark.parametrize('kept, means', [
    ([1, 1, 1, 1, 1, 1], [27 / 6, 25 / 6, 23 / 6]), ([1, 1, 0, 0, 0, 0], [2., 2., 5.]),
    ([1, 0, 1, 1, 1, 0], [22 / 4, 14 / 4, 16 / 4])])
def test_balance_weighs_groups_by_their_mean_kl_over_kept_rows_of_all_devices(devices, kept, means):
  """However padding falls on the devices: of two, the second may hold nothing else."""
  found = _balance(devices)(KL, jnp.array(kept, bool))
  np.testing.assert_allclose(found, np.broadcast_to(np.array(means) / np.mean(means), (6, 3)),
                             rtol=1e-6)


def test_balance_is_a_constant_to_the_gradient():
  """Else a group could lower its weight in place of its KL."""
  kept = jnp.arange(6) < 4
  gamma = _balance(2)(KL, kept)
  gradient = jax.grad(lambda kl: (_balance(2)(kl, kept) * kl).sum())(KL)
  np.testing.assert_array_equal(gradient, gamma)


@pytest.mark.slow
@pytest.mark.parametrize('train', [True, False])
def test_balanced_loss_while_warming_up_and_the_plain_bound_afterwards(train):
  """And without statistics of the batch, where each example stands for itself, never."""
  model, variables, x = _setup()
  run = jit(lambda v, progress: model.apply(v, x[:8], jax.random.key(3), train=train,
                                            progress=progress, method='loss'))
  for progress, weight in ((.15, .5), (.3, 1.), (.9, 1.)):
    loss, metrics = run(variables, progress)
    plain = weight * metrics['kl'] - metrics['reconstruction']
    assert jnp.allclose(loss, plain, rtol=1e-4) == (progress >= .3 or not train)


def test_penalty_is_the_sum_of_the_largest_singular_values():
  model = models.create('nvae', (4, 4, 1), spectral=.1, **OPTIONS | dict(groups=(2,)))
  variables = random_variables(lambda: model.init(
      jax.random.key(1), jnp.zeros((1, 4, 4, 1)), jax.random.key(2), train=True, method='loss'))
  exact = 0.
  for path, kernel in jax.tree_util.tree_leaves_with_path(variables['params']):
    names = [part.key for part in path]
    if names[-1] == 'kernel':
      stacked = kernel if any(n.startswith('groups') for n in names) else kernel[None]
      for part in np.asarray(stacked):
        exact += np.linalg.svd(part.reshape(-1, part.shape[-1]), compute_uv=False)[0]
  value, gradient = jit(jax.value_and_grad(
      lambda p: model.apply({'params': p}, method='penalty')))(variables['params'])
  assert .98 * .1 * exact < value < .1 * exact * (1. + 1e-5)
  # Linear in each kernel: by Euler, what it is of is its gradient's product with it.
  products = jax.tree.map(lambda g, p: (g * p).sum(), gradient, variables['params'])
  np.testing.assert_allclose(sum(jax.tree.leaves(products)), value, rtol=1e-4)


def test_temperature_scales_every_groups_deviation():
  model, variables, _ = _setup()
  sample = jit(lambda v, t, seed: model.apply(
      v, jax.random.split(jax.random.key(seed), 4), temperature=t, method='sample'))
  cold = sample(variables, 0., 0)
  np.testing.assert_allclose(cold, jnp.broadcast_to(cold[:1], cold.shape), atol=1e-5)
  np.testing.assert_allclose(cold, sample(variables, 0., 1), atol=1e-5)
  assert jnp.abs(sample(variables, 1., 0) - cold).max() > 1e-2


def test_depthwise_convolution_is_xlas_with_its_gradients():
  rng = np.random.default_rng(0)
  x, kernel, cotangent = (jnp.asarray(rng.normal(size=s), jnp.float32)
                          for s in ((2, 6, 5, 3), (5, 5, 3), (2, 6, 5, 3)))

  def direct(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel[:, :, None], (1, 1), [(2, 2)] * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=3)
  found = []
  for form in (nvae_cells.depthwise, direct):
    def run(x, kernel, form=form):
      out, vjp = jax.vjp(form, x, kernel)
      return out, *vjp(cotangent)
    found.append(jit(run)(x, kernel))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *found)


@pytest.mark.slow
def test_cells_in_bfloat16_leave_what_they_add_to_and_the_distributions_float32():
  """Of each convolution its type stands in the traced program; heads are of float32.

  That is of their form for accelerators: on a CPU what is rounded is multiplied in float32.
  """
  full, variables, x = _setup()
  half = models.create('nvae', (4, 4, 1), **OPTIONS, dtype='bfloat16')
  x, keys = x[:4], jax.random.split(jax.random.key(3), 4)
  made = jax.eval_shape(lambda: half.init(jax.random.key(0), x, keys, train=True, method='loss'))
  assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype('float32')}
  draw = lambda model: lambda v: model.apply(v, x, keys, method='draw')
  for a, b in zip(jit(draw(half))(variables), jit(draw(full))(variables)):
    assert a.dtype == b.dtype == jnp.float32
    assert 0 < abs(a - b).max() < .05 * abs(b).max()
  text = str(jax.make_jaxpr(draw(half))(variables))
  types = re.findall(r':(\w+)\[[^]]*\] = conv_general_dilated', text)
  assert types.count('bf16') > types.count('f32') > 0
  backward = str(jax.make_jaxpr(jax.grad(lambda v: draw(half)(v)[0].sum()))(variables))
  summed = re.findall(r':(\w+)\[[^]]*\] = reduce_sum', backward)
  assert set(summed) == {'f32'}


@pytest.mark.parametrize('options, message', [
    (dict(groups=()), r'groups must be .* got \(\)'), (dict(latents=0), 'latents must be .* got 0'),
    (dict(groups=(1, 1, 1)), r'3 scales need .* multiples of 8, got \(4, 4, 1\)'),
    (dict(spectral=-1.), r'spectral must not be negative, got -1\.0'),
    (dict(warmup=-1.), r'warmup is a share .* got -1\.0'),
    (dict(dtype='float16'), 'dtype must be one of')])
def test_options_that_make_no_sense_are_errors(options, message):
  model = models.create('nvae', (4, 4, 1), **{**OPTIONS, **options})
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)),
                                      jax.random.key(1), train=True, method='loss'))
