"""Hamiltonian dynamics, and weights whose mean is the evidence."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models import hvae
from tests.models import linear_gaussian
from tests.models.support import jit

FIXED = dict(latent_dim=2, learn_dynamics=False)


def _force(z):
  """-dU/dz of a potential that is not quadratic, for z [B, 2]."""
  return jax.grad(lambda z: -jnp.sum(jnp.cosh(z) + .3 * z[:, :1] * z[:, 1:]**2))(z)


def _step(z, rho):
  return hvae.leapfrog(_force, z, rho, .3, _force(z))[:2]


def test_leapfrog_is_reversible_and_keeps_volumes_and_nearly_the_energy():
  z, rho = jax.random.normal(jax.random.key(0), (2, 4, 2))
  z_1, rho_1 = jit(_step)(z, rho)
  assert jnp.abs(z_1 - z).min() > 1e-3
  back = jit(_step)(z_1, -rho_1)
  np.testing.assert_allclose(back, jnp.stack([z, -rho]), atol=1e-5)

  def flat(state):
    return jnp.concatenate(_step(state[None, :2], state[None, 2:]), axis=1)[0]
  jacobian = jit(jax.vmap(jax.jacfwd(flat)))(jnp.concatenate([z, rho], axis=1))
  np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], 0., atol=1e-5)


def test_tempering_contracts_volume_by_what_the_start_expanded():
  """det of the whole map is beta0^(Z/2): it cancels against the variance of the first momentum."""
  def flat(state):
    return jnp.concatenate(
        hvae.dynamics(_force, state[None, :2], state[None, 2:], .2, .3**.5, 3), axis=1)[0]
  jacobian = jit(jax.vmap(jax.jacfwd(flat)))(jax.random.normal(jax.random.key(0), (3, 4)))
  np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], np.log(.3), atol=1e-5)


@pytest.mark.parametrize('steps, step_size, beta0', [
    (1, .05, .3), (2, .3, .3), (3, .05, .9), (3, .5, .5), (5, .2, .3), (4, .1, 1.)])
def test_mean_weight_is_the_evidence(steps, step_size, beta0):
  model, variables = linear_gaussian.make(
      'hvae', leapfrog_steps=steps, step_size=step_size, beta0=beta0, **FIXED)
  variables = linear_gaussian.with_posterior(variables, widen=.3, shift=.2)
  linear_gaussian.assert_mean_weight_is_one(
      linear_gaussian.bounds(model, variables, 4000), linear_gaussian.evidence(variables))


def test_the_bound_rises_with_the_number_of_steps():
  found = []
  for steps in range(1, 6):
    model, variables = linear_gaussian.make('hvae', leapfrog_steps=steps, step_size=.05, **FIXED)
    variables = linear_gaussian.with_posterior(variables, shift=1.5)
    found.append(linear_gaussian.bounds(model, variables, 4000))
  for fewer, more in itertools.pairwise(found):      # the same draws: compared in pairs
    gain = (more - fewer).mean(1)
    assert gain.mean() > 5 * gain.std() / len(gain)**.5
  assert (found[-1].mean(0) < linear_gaussian.evidence(variables)).all()


def test_step_size_and_temperature_are_learned_from_where_they_were_set():
  model, variables = linear_gaussian.make('hvae', latent_dim=2, step_size=.1, beta0=.4)
  start = linear_gaussian.init(model)['params']['posterior']
  np.testing.assert_allclose(jnp.exp(start['log_step']), .1, rtol=1e-5)
  np.testing.assert_allclose(jax.nn.sigmoid(start['logit_beta0']), .4, rtol=1e-5)

  def mean_loss(params):
    loss, _ = model.apply({'params': params}, linear_gaussian.X, jax.random.key(3), train=True,
                          method='loss')
    return loss.mean()
  gradient = jit(jax.grad(mean_loss))(variables['params'])
  assert all(jnp.isfinite(g).all() and (g != 0.).any() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize('options, message', [
    (dict(leapfrog_steps=0), 'leapfrog_steps must be at least 1, got 0'),
    (dict(step_size=0.), r'step_size must be positive, got 0\.0'),
    (dict(beta0=0.), r'beta0 must lie in \(0, 1\)'), (dict(beta0=1.), 'be 1 and not learned')])
def test_options_that_make_no_sense_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: linear_gaussian.init(
        models.create('hvae', (3,), widths=(), **options)))
