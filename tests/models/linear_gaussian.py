"""Latent variable models with affine nets, whose evidence and posterior are known."""
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mollification import models
from tests.models.support import jit, random_variables

X = jax.random.normal(jax.random.key(0), (4, 3))


def make(name='vae', latent_dim=1, seed=0, **options):
  """A model whose encoder and decoder are affine, with random parameters."""
  model = models.create(name, (3,), latent_dim=latent_dim, widths=(), **options)
  return model, random_variables(lambda: init(model), seed)


def init(model):
  """Variables as training starts from them."""
  return model.init(jax.random.key(1), X, jax.random.key(2), train=True, method='loss')


def affine(variables, net):
  """(W [out, in], b [out]) of one of the two nets, float64."""
  dense = variables['params'][net]['MLP_0']['Dense_0']
  return np.asarray(dense['kernel'], np.float64).T, np.asarray(dense['bias'], np.float64)


def evidence(variables, variance=.5):
  """log p(x) [4] of X."""
  weights, bias = affine(variables, 'decoder')
  covariance = weights @ weights.T + variance * np.eye(3)
  return stats.multivariate_normal(bias, covariance).logpdf(np.asarray(X, np.float64))


def log_evidence(params, variance=.5):
  """log p(x) [4] of X, as a function of the parameters that jax may differentiate."""
  dense = params['decoder']['MLP_0']['Dense_0']
  covariance = dense['kernel'].T @ dense['kernel'] + variance * jnp.eye(3)
  centred = X - dense['bias'][None]
  squares = jnp.sum(centred * jnp.linalg.solve(covariance, centred.T).T, axis=1)
  return -.5 * (squares + jnp.linalg.slogdet(2 * jnp.pi * covariance)[1])


def analytic_elbo(params, variance=.5):
  """E_q[log p(x | z)] - KL(q(z | x) || p(z)) [4] of X, both expectations in closed form."""
  dense = {net: params[net]['MLP_0']['Dense_0'] for net in ('encoder', 'decoder')}
  affine_of = lambda net, v: v @ dense[net]['kernel'] + dense[net]['bias'][None]
  mean, log_var = jnp.split(affine_of('encoder', X), 2, axis=1)
  error = jnp.sum((X - affine_of('decoder', mean))**2, axis=1)
  spread = jnp.exp(log_var) @ jnp.sum(dense['decoder']['kernel']**2, axis=1)
  reconstruction = -.5 * ((error + spread) / variance + 3 * jnp.log(2 * jnp.pi * variance))
  return reconstruction - .5 * jnp.sum(mean**2 + jnp.exp(log_var) - log_var - 1., axis=1)


def with_posterior(variables, variance=.5, widen=0., shift=0.):
  """Variables whose encoder gives the posterior's mean + shift and log-variances + widen.

  The posterior has correlations, of which the encoder knows none where there are two latents.
  """
  weights, bias = affine(variables, 'decoder')
  precision = np.eye(weights.shape[1]) + weights.T @ weights / variance
  gain = np.linalg.solve(precision, weights.T) / variance                     # [Z, 3]
  log_var = np.log(np.diag(np.linalg.inv(precision))) + widen
  encoder = {'kernel': np.concatenate([gain.T, np.zeros_like(gain.T)], axis=1),
             'bias': np.concatenate([shift - gain @ bias, log_var])}
  params = {**variables['params'], 'encoder': {'MLP_0': {'Dense_0': jax.tree.map(
      jnp.float32, encoder)}}}
  return {**variables, 'params': params}


def bounds(model, variables, draws=4000, **options):
  """Bounds [draws, 4], each with its own key: log w for one draw of one latent."""
  keys = jax.random.split(jax.random.key(5), draws)
  method = 'importance_bound' if options else 'log_likelihood'
  bound = lambda variables, key: model.apply(variables, X, key, method=method, **options)
  return np.asarray(jit(jax.vmap(bound, (None, 0)))(variables, keys), np.float64)


def assert_mean_weight_is_one(log_weights, log_evidence):
  """E[w] / p(x) is 1 within 5 standard errors, for draws of log w [N, 4]."""
  weights = np.exp(log_weights - log_evidence)
  error = weights.std(0) / len(weights)**.5
  assert (error < .05).all(), f'too few draws to tell: {error}'
  assert (np.abs(weights.mean(0) - 1.) < 5 * error).all(), (weights.mean(0), error)
