"""NVAE: KL terms against Monte Carlo, weights, balancing, the penalty, temperature."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models import nvae_cells
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


def test_relative_kl_is_that_of_the_two_gaussians():
  d_mean, d_log_sd, log_sd = (np.array([[v]]) for v in (.7, -.4, .9))
  p, q = np.exp(log_sd), np.exp(log_sd + d_log_sd)
  exact = np.log(p / q) + (q**2 + d_mean**2) / (2 * p**2) - .5
  np.testing.assert_allclose(nvae_cells.relative_kl(d_mean, d_log_sd, log_sd), exact[0], rtol=1e-5)


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


def test_balance_weighs_groups_by_their_mean_kl():
  model, _, _ = _setup()
  kl = jnp.array([[1., 2., 6.], [3., 2., 4.], [9., 9., 9.]])
  balance = lambda mask: model.apply({}, kl, mask, method='_balance')
  np.testing.assert_allclose(balance(jnp.array([True, True, False])),
                             np.broadcast_to([2 / 3, 2 / 3, 5 / 3], (3, 3)), rtol=1e-6)


@pytest.mark.slow
def test_balanced_loss_while_warming_up_and_the_plain_bound_afterwards():
  model, variables, x = _setup()
  run = jit(lambda v, progress: model.apply(v, x[:8], jax.random.key(3), train=True,
                                            progress=progress, method='loss'))
  for progress, weight in ((.15, .5), (.3, 1.), (.9, 1.)):
    loss, metrics = run(variables, progress)
    plain = weight * metrics['kl'] - metrics['reconstruction']
    assert jnp.allclose(loss, plain, rtol=1e-4) == (progress >= .3)


def test_penalty_is_the_sum_of_the_largest_singular_values():
  _, variables, _ = _setup()
  model = models.create('nvae', (4, 4, 1), spectral=.1, **OPTIONS)
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


@pytest.mark.parametrize('options, message', [
    (dict(groups=()), 'at least 1'), (dict(latents=0), 'at least 1'),
    (dict(groups=(1, 1, 1)), 'multiples of 8'), (dict(spectral=-1.), 'must not be negative'),
    (dict(warmup=-1.), r'warmup lies in \[0, 1\]')])
def test_options_that_make_no_sense_are_errors(options, message):
  model = models.create('nvae', (4, 4, 1), **{**OPTIONS, **options})
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)),
                                      jax.random.key(1), train=True, method='loss'))
