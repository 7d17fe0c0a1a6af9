"""Hamiltonian dynamics, and weights whose mean is the evidence."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models import convolution, hvae, karatsuba
from mollification.models.posteriors import Potential
from tests.models import linear_gaussian
from tests.models.support import jit, random_variables

FIXED = dict(latent_dim=2, learn_dynamics=False)


def _force(z):
  """-dU/dz of a potential that is not quadratic, for z [B, 2]."""
  return jax.grad(lambda z: -jnp.sum(jnp.cosh(z) + .3 * z[:, :1] * z[:, 1:]**2))(z)


POTENTIAL = Potential(_force, lambda z: (jnp.zeros(len(z)), _force(z)))


def _step(z, rho):
  """One step that is not cooled."""
  return hvae.dynamics(POTENTIAL, z, rho, .3, 1., 1)[:2]


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
        hvae.dynamics(POTENTIAL, state[None, :2], state[None, 2:], .2, .3**.5, 3)[:2], axis=1)[0]
  jacobian = jit(jax.vmap(jax.jacfwd(flat)))(jax.random.normal(jax.random.key(0), (3, 4)))
  np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], np.log(.3), atol=1e-5)


def test_images_are_reconstructed_from_where_the_dynamics_take_the_encoders_mean():
  """Without a momentum, uphill: the joint density there is higher."""
  model, variables = linear_gaussian.make('hvae', step_size=.1, leapfrog_steps=4, **FIXED)
  x = linear_gaussian.X

  def run(model, x):
    mean, code = model.encode(x)[0], model.code(x)
    joint = lambda z: model.log_prob(x, z) - .5 * jnp.sum(z**2, axis=1)
    return joint(mean), joint(code), model.decode(code), model.reconstruct(x)
  before, after, wanted, found = model.apply(variables, x, method=run)
  np.testing.assert_array_equal(found, wanted)
  assert (after > before + .01).all()


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
  params = linear_gaussian.with_posterior(variables, widen=.3, shift=.2)['params']
  params = {**params, 'posterior': start}
  gradient = jit(jax.grad(mean_loss))(params)
  assert all(jnp.isfinite(g).all() and (g != 0.).any() for g in jax.tree.leaves(gradient))
  # Through the forces too: along each leaf's own gradient, against differences.
  slopes = jax.tree.map(lambda g: float(jnp.linalg.norm(g)), gradient)
  leaves, tree = jax.tree.flatten(params)
  moved = jit(jax.vmap(mean_loss))
  for i, (g, slope) in enumerate(zip(jax.tree.leaves(gradient), jax.tree.leaves(slopes))):
    at = lambda step, i=i, g=g, slope=slope: tree.unflatten(
        [leaf + (step * g / slope if j == i else 0.) for j, leaf in enumerate(leaves)])
    up, down = moved(jax.tree.map(lambda *a: jnp.stack(a), at(.02), at(-.02)))
    np.testing.assert_allclose((up - down) / .04, slope, rtol=.01)


def test_held_forces_leave_the_loss_and_are_no_part_of_its_gradient():
  """Then z_K moves as z_0 does, and the momentum not at all."""
  found = {}
  for through in (True, False):
    model, variables = linear_gaussian.make('hvae', step_size=.3, through_forces=through, **FIXED)

    def log_w(log_var, model=model, variables=variables):
      """Sum of the log-weights, and what log_var moves z_0 and by how much that raises log p."""
      def run(model):
        stats = (jnp.zeros((4, 2)), jnp.broadcast_to(log_var, (4, 2)))
        noise = jax.random.normal(jax.random.key(3), (4, 4))
        potential = model._potential(linear_gaussian.X, False, None)
        z, log_q, log_prob_x = model.posterior(stats, noise, potential)
        moved = .5 * jnp.exp(.5 * log_var) * noise[:, :2]
        return (log_prob_x - log_q - .5 * (z**2).sum(1)).sum(), (potential.force(z) * moved).sum()
      return model.apply(variables, method=run)
    found[through] = jit(jax.value_and_grad(log_w, has_aux=True))(.1)
  ((value, _), exact), ((same, raised), held) = found[True], found[False]
  np.testing.assert_allclose(value, same, rtol=1e-6)
  np.testing.assert_allclose(held, raised + 8 * .5, rtol=1e-4)      # log q of 8 numbers
  assert abs(exact - held) > .01 * abs(exact)


@pytest.mark.slow
def test_gradient_through_forces_does_not_depend_on_the_form_of_the_convolutions(monkeypatch):
  """Batch statistics and a learned variance included, against that of XLA's own convolutions."""
  model = models.create('hvae', (8, 8, 1), latent_dim=2, net='conv', widths=(3, 4, 5),
                        leapfrog_steps=2, step_size=.05, learn_variance=True)
  x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
  variables = random_variables(lambda: model.init(
      jax.random.key(1), x, jax.random.key(2), train=True, method='loss'))

  def mean_loss(params):
    loss, _ = model.apply({**variables, 'params': params}, x, jax.random.key(3), train=True,
                          method='loss', mutable=['batch_stats'])[0]
    return loss.mean()
  monkeypatch.setattr(karatsuba, 'ROWS', 1)
  found = jit(jax.grad(mean_loss))(variables['params'])
  monkeypatch.setattr(convolution, '_by_platform',
                      lambda x, kernel, cpu, default: default(x, kernel))
  wanted = jit(jax.grad(lambda params: mean_loss(params)))(variables['params'])
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    assert jnp.linalg.norm(a - b) < 1e-4 * jnp.linalg.norm(b)


@pytest.mark.slow
def test_forces_share_passes_of_the_decoder():
  """3 steps: 4 forward, 4 back to z; in the gradient 4 for each force, which has that of the bound.

  Held: 2 for the bound in place of 16. In units of the products of one pass of the decoder.
  """
  def passes(**options):
    model = models.create('hvae', (256,), latent_dim=2, widths=(256,), leapfrog_steps=3, **options)
    x = jnp.zeros((256, 256))
    variables = jax.eval_shape(lambda: model.init(
        jax.random.key(0), x, jax.random.key(2), train=True, method='loss'))

    def mean_loss(params):
      loss, _ = model.apply({'params': params}, x, jax.random.key(1), train=True, method='loss')
      return loss.mean()
    compiled = jax.jit(jax.grad(mean_loss)).lower(variables['params']).compile()
    encoder = 2 * 2 * 256**3     # forward and its kernel's gradient: x has none
    return (compiled.cost_analysis()['flops'] - encoder) / (2 * 256**3)
  assert passes() < 24.5 + 1.
  assert passes(through_forces=False) < 10.5 + 1.


@pytest.mark.parametrize('options, message', [
    (dict(leapfrog_steps=0), 'leapfrog_steps must be at least 1, got 0'),
    (dict(step_size=0.), r'step_size must be positive, got 0\.0'),
    (dict(beta0=0.), r'beta0 must lie in \(0, 1\)'), (dict(beta0=1.), 'be 1 and not learned')])
def test_options_that_make_no_sense_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: linear_gaussian.init(
        models.create('hvae', (3,), widths=(), **options)))
