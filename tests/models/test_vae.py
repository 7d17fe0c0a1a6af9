"""The VAE's bound against the exact evidence of a linear-Gaussian model; its parts."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mollification import models
from tests.models.support import jit, random_variables

X = jax.random.normal(jax.random.key(0), (4, 3))


def _linear(latent_dim=1, **options):
  """A VAE whose encoder and decoder are affine, with random parameters."""
  model = models.create('vae', (3,), latent_dim=latent_dim, widths=(), **options)
  return model, random_variables(lambda: _init(model))


def _init(model):
  return model.init(jax.random.key(1), X, jax.random.key(2), train=True, method='loss')


def _affine(variables, net):
  """(W [out, in], b [out]) of one of the two nets, float64."""
  dense = variables['params'][net]['MLP_0']['Dense_0']
  return np.asarray(dense['kernel'], np.float64).T, np.asarray(dense['bias'], np.float64)


def _evidence(variables, variance):
  weights, bias = _affine(variables, 'decoder')
  covariance = weights @ weights.T + variance * np.eye(3)
  return stats.multivariate_normal(bias, covariance).logpdf(np.asarray(X, np.float64))


def _bounds(model, variables, draws=4000):
  """ELBO draws [draws, B]."""
  keys = jax.random.split(jax.random.key(5), draws)
  bound = lambda key: model.apply(variables, X, key, method='log_likelihood')
  return np.asarray(jit(jax.vmap(bound))(keys))


def test_elbo_of_a_linear_gaussian_vae_lies_below_the_evidence():
  model, variables = _linear(2, beta=.1, decoder_variance=.3)
  gap = _evidence(variables, .3) - _bounds(model, variables).mean(0)
  assert (gap > .02).all(), gap


def test_elbo_reaches_the_evidence_at_the_exact_posterior():
  model, variables = _linear(1, decoder_variance=.3)
  weights, bias = _affine(variables, 'decoder')
  precision = 1. + (weights**2).sum() / .3
  gain = weights.T / .3 / precision                                     # [1, 3]
  encoder = {'kernel': np.concatenate([gain.T, np.zeros((3, 1))], axis=1),
             'bias': np.array([-(gain @ bias).item(), -np.log(precision)])}
  variables['params']['encoder']['MLP_0']['Dense_0'] = jax.tree.map(jnp.float32, encoder)
  draws = _bounds(model, variables)
  error = draws.mean(0) - _evidence(variables, .3)
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
  start = _init(model)
  np.testing.assert_allclose(start['params']['decoder_log_var'], np.log(.7), rtol=1e-6)

  def loss(log_var):
    params = {**variables['params'], 'decoder_log_var': log_var}
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


def test_options_that_make_no_sense_are_errors():
  with pytest.raises(ValueError, match=r'decoder_variance must be positive, got 0\.0'):
    _linear(decoder_variance=0.)
  model, variables = _linear()
  with pytest.raises(ValueError, match='takes no condition'):
    model.apply(variables, X, jax.random.key(0), jnp.ones((4, 1)), method='log_likelihood')
