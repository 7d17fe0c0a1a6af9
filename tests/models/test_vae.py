"""The VAE's bounds against the exact evidence of a linear-Gaussian model; its parts."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from tests.models import linear_gaussian
from tests.models.linear_gaussian import X, bounds, evidence
from tests.models.support import equations, jit, random_variables

_linear = lambda latent_dim=1, **options: linear_gaussian.make('vae', latent_dim, **options)


def test_elbo_of_a_linear_gaussian_vae_lies_below_the_evidence():
  model, variables = _linear(2, beta=.1, decoder_variance=.3)
  gap = evidence(variables, .3) - bounds(model, variables).mean(0)
  assert (gap > .02).all(), gap


def test_elbo_reaches_the_evidence_at_the_exact_posterior():
  model, variables = _linear(1, decoder_variance=.3)
  variables = linear_gaussian.with_posterior(variables, .3)
  draws = bounds(model, variables)
  error = draws.mean(0) - evidence(variables, .3)
  assert (np.abs(error) < 5 * draws.std(0) / len(draws)**.5 + 1e-4).all(), error


def test_loss_is_minus_reconstruction_plus_beta_kl():
  for beta in (1., .25):
    model, variables = _linear(2, beta=beta)
    loss, metrics = model.apply(variables, X, jax.random.key(4), train=True, method='loss')
    np.testing.assert_allclose(loss, beta * metrics['kl'] - metrics['reconstruction'], rtol=1e-5)
    bound = model.apply(variables, X, jax.random.key(4), method='log_likelihood')
    np.testing.assert_allclose(bound, metrics['reconstruction'] - metrics['kl'], rtol=1e-5)


def test_noise_comes_from_each_examples_key_whatever_train_says():
  model, variables = _linear(2)
  loss = lambda rows=slice(None), seed=4, train=True: model.apply(
      variables, X[rows], jax.random.split(jax.random.key(seed), 4)[rows], train=train,
      method='loss')[0]
  whole = loss()
  np.testing.assert_allclose(whole[1:3], loss(slice(1, 3)), rtol=1e-5)
  np.testing.assert_array_equal(whole, loss(train=False))
  assert (whole != loss(seed=5)).any()


def test_learned_variance_starts_at_the_given_one_and_has_the_maximum_at_the_squared_error():
  model, variables = _linear(2, learn_variance=True, decoder_variance=.7)
  start = linear_gaussian.init(model)
  np.testing.assert_allclose(start['params']['observation']['log_var'], np.log(.7), rtol=1e-6)

  def loss(log_var):
    params = {**variables['params'], 'observation': {'log_var': log_var}}
    loss, _ = model.apply({'params': params}, X, jax.random.key(4), train=True, method='loss')
    return loss.mean()
  fixed, fixed_metrics = models.create('vae', (3,), latent_dim=2, widths=()).apply(
      variables, X, jax.random.key(4), train=True, method='loss')
  error = -(fixed_metrics['reconstruction'] + 1.5 * np.log(np.pi)).mean() / 3
  assert fixed.shape == (4,)
  np.testing.assert_allclose(jax.grad(loss)(jnp.log(error)), 0., atol=1e-5)


def test_temperature_scales_the_prior_and_samples_are_decoder_means():
  model, variables = _linear(2)
  sample = lambda t: model.apply(variables, jax.random.split(jax.random.key(6), 5), temperature=t,
                                 method='sample')
  centre = model.apply(variables, jnp.zeros((5, 2)), method='decode')
  np.testing.assert_allclose(sample(0.), centre, atol=1e-6)
  np.testing.assert_allclose(sample(2.) - centre, 2. * (sample(1.) - centre), atol=1e-5)


def test_reconstruct_decodes_the_posterior_mean():
  model, variables = _linear(2)
  mean, log_var = model.apply(variables, X, method='encode')
  assert mean.shape == log_var.shape == (4, 2)
  np.testing.assert_array_equal(model.apply(variables, X, method='reconstruct'),
                                model.apply(variables, mean, method='decode'))


@pytest.fixture(scope='module')
def iwae():
  """A VAE with a posterior that is too wide, and draws of its bound for K = 1, 2, 4."""
  model, variables = _linear(2, decoder_variance=.3)
  variables = linear_gaussian.with_posterior(variables, .3, widen=.7, shift=.3)
  return variables, [bounds(model, variables, num_samples=k) for k in (1, 2, 4)]


def test_importance_bounds_rise_with_the_number_of_draws_towards_the_evidence(iwae):
  variables, found = iwae
  levels = [*found, np.broadcast_to(evidence(variables, .3), found[0].shape)]
  for lower, upper in itertools.pairwise(levels):
    error = (lower.var(0) + upper.var(0))**.5 / len(lower)**.5
    assert (upper.mean(0) - lower.mean(0) > 5 * error).all()
  gaps = [(levels[-1] - level).mean() for level in levels[:3]]
  assert gaps[2] < .5 * gaps[0]


def test_mean_weight_is_the_evidence(iwae):
  variables, (_, two, four) = iwae
  for found in (two, four):     # the mean of K weights, K > 1: one draw has its KL in closed form
    linear_gaussian.assert_mean_weight_is_one(found, evidence(variables, .3))


def _gradient(model, variables, keys, progress=1.):
  """Gradients [len(keys), P] of the loss's mean, flattened."""
  def mean_loss(params, key):
    loss, _ = model.apply({'params': params}, X, key, train=True, progress=progress, method='loss')
    return loss.mean()
  gradient = jit(jax.vmap(jax.grad(mean_loss), (None, 0)))(variables['params'], keys)
  return np.concatenate([g.reshape(len(keys), -1) for g in jax.tree.leaves(gradient)], axis=1)


def _flat(gradient):
  return np.concatenate([np.ravel(g) for g in jax.tree.leaves(gradient)])


def _assert_mean_is(draws, exact, bias=0.):
  """The mean of draws [N, P] is the exact [P], within 5 standard errors and `bias`."""
  error = draws.std(0) / len(draws)**.5
  assert np.abs(exact).max() > 10 * error.max(), 'too few draws to tell'
  assert (np.abs(draws.mean(0) - exact) < 5 * error + bias + 1e-5).all(), (draws.mean(0), exact)


def test_gradients_are_those_of_the_analytic_bound():
  """Of encoder and decoder, two latents, a posterior that is off."""
  model, variables = _linear(2)
  variables = linear_gaussian.with_posterior(variables, widen=.4, shift=.3)
  exact = jax.grad(lambda p: -linear_gaussian.analytic_elbo(p).mean())(variables['params'])
  _assert_mean_is(_gradient(model, variables, jax.random.split(jax.random.key(9), 4000)),
                  _flat(exact))


@pytest.mark.parametrize('num_samples', [1, 32])
def test_the_decoders_gradient_becomes_that_of_the_evidence(num_samples):
  """At the exact posterior with one draw, elsewhere with many: their bias falls as 1 / K."""
  model, variables = _linear(1, num_samples=num_samples)
  off = dict(widen=.5, shift=.2) if num_samples > 1 else {}
  variables = linear_gaussian.with_posterior(variables, **off)
  found = _gradient(model, variables, jax.random.split(jax.random.key(9), 4000))
  exact = jax.grad(lambda p: -linear_gaussian.log_evidence(p).mean())(variables['params'])
  np.testing.assert_allclose(linear_gaussian.log_evidence(variables['params']), evidence(variables),
                             rtol=1e-4)
  exact = _flat(exact['decoder'])
  _assert_mean_is(found[:, :len(exact)], exact, bias=.005 * (num_samples > 1))


@pytest.mark.parametrize('beta, warmup', [(1., 0.), (.3, 0.), (2., .5)])
def test_estimators_agree_in_the_mean_and_dreg_is_steadier(iwae, beta, warmup):
  """Whatever the weight of the KL, also while it warms up: at half of it, beta is 1 or 1.5."""
  variables, _ = iwae
  keys = jax.random.split(jax.random.key(7), 4000)
  found = {}
  for estimator in ('standard', 'dreg'):
    model, _ = _linear(2, decoder_variance=.3, num_samples=3, estimator=estimator, beta=beta,
                       warmup=warmup)
    found[estimator] = _gradient(model, variables, jax.random.clone(keys), progress=.375)
  a, b = found.values()
  error = (a - b).std(0) / len(a)**.5
  assert (np.abs((a - b).mean(0)) < 5 * error + 1e-5).all()
  encoder = slice(len(a[0]) - 16, None)           # 'decoder' comes first
  assert a[:, encoder].var(0).sum() > (1.5 if beta >= 1 else 1.) * b[:, encoder].var(0).sum()


def test_sticking_the_landing_has_no_noise_at_the_exact_posterior():
  gradients = {}
  for estimator in ('stl', 'standard', 'dreg'):
    model, variables = _linear(1, estimator=estimator)
    variables = linear_gaussian.with_posterior(variables)
    keys = jax.random.split(jax.random.key(8), 20)
    gradients[estimator] = _gradient(model, variables, keys)[:, -8:]      # of the encoder
  np.testing.assert_allclose(gradients['stl'], 0., atol=1e-5)
  np.testing.assert_allclose(gradients['dreg'], 0., atol=1e-5)    # one draw: its weight is 1
  assert np.abs(gradients['standard']).max() > .1


def test_an_evaluation_of_dreg_has_the_value_and_the_passes_of_the_standard_estimator():
  """DReG's own pass, of the weights that scale a gradient, is for training."""
  found, products = [], []
  for estimator in ('standard', 'dreg'):
    model, variables = _linear(2, num_samples=4, chunk=2, estimator=estimator)
    bound = lambda v, model=model: model.apply(v, X, jax.random.key(3), method='log_likelihood')
    found.append(jit(bound)(variables))
    jaxpr = jax.make_jaxpr(bound)(variables).jaxpr
    products.append(sum(e.primitive.name == 'dot_general' for e in equations(jaxpr)))
  np.testing.assert_array_equal(*found)
  assert products == [3, 3]     # the encoder; the decoder for the first chunk and for the others


def _kept(model, variables, x, kept):
  """(losses and metrics of the first `kept` rows, the gradient of their mean loss), padded to x."""
  def mean_loss(params):
    # One key per row: what the first rows draw does not hang on how many follow.
    loss, metrics = model.apply({**variables, 'params': params}, x,
                                jax.random.split(jax.random.key(3), 4)[:len(x)], train=True,
                                mask=jnp.arange(len(x)) < kept, method='loss')
    found = jax.tree.map(lambda a: a[:kept], (loss, metrics))
    return found[0].mean(), found
  gradient, (loss, metrics) = jit(jax.grad(mean_loss, has_aux=True))(variables['params'])
  return loss, metrics, gradient


@pytest.mark.parametrize('estimator', ['standard', 'dreg'])
def test_chunks_change_neither_loss_nor_gradient_of_a_padded_batch(estimator):
  found = []
  for chunk in (0, 2):
    model, variables = _linear(2, num_samples=6, chunk=chunk, estimator=estimator, beta=.7)
    found.append(_kept(model, variables, X.at[3].set(9.), 3))
  _, metrics, _ = found[0]
  assert (metrics['effective_samples'] > 1.).all()
  assert (metrics['effective_samples'] <= 6.).all()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)


def test_memory_grows_at_most_linearly_in_draws_and_not_at_all_in_chunks():
  x = jax.ShapeDtypeStruct((16, 256), jnp.float32)

  def bytes_of(num_samples, chunk):
    model = models.create('vae', (256,), latent_dim=2, widths=(512,), num_samples=num_samples,
                          chunk=chunk)
    variables = jax.eval_shape(lambda: model.init(
        jax.random.key(0), jnp.zeros((16, 256)), jax.random.key(2), train=True, method='loss'))

    def mean_loss(params, x):
      loss, _ = model.apply({'params': params}, x, jax.random.key(1), train=True, method='loss')
      return loss.mean()
    compiled = jax.jit(jax.grad(mean_loss)).lower(variables['params'], x).compile()
    return compiled.memory_analysis().temp_size_in_bytes
  assert bytes_of(512, 0) < 4.1 * bytes_of(128, 0)
  # What is left of the growth are the log-weights.
  assert bytes_of(128, 4) < 1.05 * bytes_of(32, 4)


@pytest.mark.slow
def test_five_thousand_draws_at_full_size_take_the_memory_of_fifty():
  """As --metrics=importance takes them of configs/cifar10_vae.py: what grows are log-weights."""
  model = models.create('vae', (32, 32, 3), latent_dim=128, net='conv')
  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  variables = jax.eval_shape(lambda: model.init(
      jax.random.key(0), jnp.zeros(x.shape), jax.random.key(2), train=True, method='loss'))

  def bytes_of(num_samples):
    bound = jit(lambda variables, x: model.apply(
        variables, x, jax.random.key(1), num_samples, 10, method='importance_bound'))
    analysis = bound.lower(variables, x).compile().memory_analysis()
    return analysis.temp_size_in_bytes
  assert bytes_of(5000) < bytes_of(50) + 20 * 4 * 5000 * 2      # [K, B] floats, some of them


@pytest.mark.slow
def test_padded_rows_stay_out_of_the_statistics_of_every_chunk():
  """Of the weights' pass, of the first chunk and of those that follow."""
  model = models.create('vae', (4, 4, 1), latent_dim=2, net='resnet', widths=(3,), num_samples=4,
                        chunk=2, estimator='dreg')
  x = jax.random.normal(jax.random.key(0), (4, 4, 4, 1))
  variables = random_variables(lambda: model.init(
      jax.random.key(1), x, jax.random.key(2), train=True, method='loss'))
  found = [_kept(model, variables, x[:3], 3), _kept(model, variables, x.at[3].set(9.), 3)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)


@pytest.mark.slow
def test_running_statistics_follow_the_first_chunk():
  options = dict(latent_dim=2, net='resnet', widths=(3,), num_samples=4)
  model = models.create('vae', (4, 4, 1), chunk=2, **options)
  x = jax.random.normal(jax.random.key(0), (5, 4, 4, 1))
  variables = model.init(jax.random.key(1), x, jax.random.key(2), train=True, method='loss')
  run = jit(lambda v: model.apply(v, x, jax.random.key(3), train=True, method='loss',
                                  mutable=['batch_stats']))
  (loss, _), state = run(variables)
  assert jnp.isfinite(loss).all()
  moved = state['batch_stats']['decoder']['ResidualBlock_0']['BatchNorm_0']['RunningMoments_0']
  assert (moved['mean'] != 0.).any()
  assert jax.tree.structure(state['batch_stats']) == jax.tree.structure(variables['batch_stats'])


def test_kl_weight_rises_with_progress_and_the_bound_ignores_it():
  model, variables = _linear(2, beta=2., warmup=.5)
  for progress, weight in ((0., 0.), (.25, 1.), (.5, 2.), (1., 2.)):
    loss, metrics = model.apply(variables, X, jax.random.key(4), train=True, progress=progress,
                                method='loss')
    np.testing.assert_allclose(loss, weight * metrics['kl'] - metrics['reconstruction'], rtol=1e-5)
  bound = model.apply(variables, X, jax.random.key(4), method='log_likelihood')
  np.testing.assert_allclose(bound, metrics['reconstruction'] - metrics['kl'], rtol=1e-5)


def test_free_bits_are_paid_in_the_loss_alone():
  model, variables = _linear(2, free_bits=50.)
  loss, metrics = model.apply(variables, X, jax.random.key(4), train=True, method='loss')
  np.testing.assert_allclose(loss, 100. - metrics['reconstruction'], rtol=1e-5)
  bound = model.apply(variables, X, jax.random.key(4), method='log_likelihood')
  np.testing.assert_allclose(bound, metrics['reconstruction'] - metrics['kl'], rtol=1e-5)


def test_interpolation_goes_from_one_reconstruction_to_the_other():
  model, variables = _linear(2)
  line = model.apply(variables, X, X[::-1], 3, method='interpolate')
  ends = model.apply(variables, X, method='reconstruct')
  assert line.shape == (3, 4, 3)
  np.testing.assert_allclose(line[0], ends, atol=1e-6)
  np.testing.assert_allclose(line[2], ends[::-1], atol=1e-6)
  np.testing.assert_allclose(line[1], (ends + ends[::-1]) / 2, atol=1e-5)   # affine nets


BAD = [
    (dict(latent_dim=0), 'latent_dim must be at least 1, got 0'),
    (dict(widths=(0,)), r'widths must be at least 1 each, got \(0,\); leave a layer out'),
    (dict(num_samples=0), 'num_samples must be at least 1, got 0'),
    (dict(num_samples=6, chunk=4), 'chunk must divide num_samples 6, got 4'),
    (dict(chunk=-1), 'chunk must divide'),
    (dict(beta=-.1), r'beta must not be negative, got -0\.1'),
    (dict(warmup=2.), r'in \[0, 1\], got 2\.0; 0 is without'),
    (dict(decoder_variance=0.), r'decoder_variance must be positive, got 0\.0'),
    (dict(likelihood='poisson'), "likelihood must be one of .*, got 'poisson'"),
    (dict(likelihood='bernoulli', learn_variance=True), "for likelihood='gaussian', got 'bern"),
    (dict(mixtures=0), 'mixtures must be at least 1, got 0'),
    (dict(levels=1), 'levels must be at least 2, got 1'),
    (dict(estimator='reinforce'), "estimator must be one of .*got 'reinforce'"),
    (dict(free_bits=-1.), 'free_bits must not be negative'),
    (dict(free_bits=.1, num_samples=2), 'floor under the KL in closed form'),
]


@pytest.mark.parametrize('options, message', BAD)
def test_options_that_make_no_sense_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: linear_gaussian.init(
        models.create('vae', (3,), **dict(widths=()) | options)))


def test_a_condition_is_an_error():
  model, variables = _linear()
  with pytest.raises(ValueError, match='takes no condition'):
    model.apply(variables, X, jax.random.key(0), jnp.ones((4, 1)), method='log_likelihood')
