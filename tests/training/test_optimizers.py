"""Optimisers by name: which decay, which clip, which learning rate."""
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mollification.training import optimizers

PARAMS, GRADS = jnp.array([1., -2.]), jnp.array([.3, .4])


def _update(name, steps=1, **options):
  tx = optimizers.create(name, optax.constant_schedule(.1), **options)
  params, state = PARAMS, tx.init(PARAMS)
  for _ in range(steps):
    updates, state = tx.update(GRADS, state, params)
    params = optax.apply_updates(params, updates)
  return np.asarray(params)


@pytest.mark.parametrize('name, reference', [
  ('adam', optax.adam(.1)), ('adamax', optax.adamax(.1)), ('sgd', optax.sgd(.1)),
  ('adamw', optax.adamw(.1, weight_decay=0.))])
def test_names_are_optax_optimisers(name, reference):
  params, state = PARAMS, reference.init(PARAMS)
  for _ in range(3):
    updates, state = reference.update(GRADS, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(_update(name, 3), params, rtol=1e-6)


def test_coupled_decay_is_part_of_the_gradient():
  """Adam divides it away on the first update, which the decoupled kind of adamw survives."""
  np.testing.assert_allclose(_update('adam', weight_decay=.01), _update('adam'), rtol=1e-6)
  np.testing.assert_allclose(_update('adamw', weight_decay=.01),
                             _update('adamw') - .1 * .01 * PARAMS, rtol=1e-6)
  np.testing.assert_allclose(_update('sgd', weight_decay=.01),
                             PARAMS - .1 * (GRADS + .01 * PARAMS), rtol=1e-6)


def test_clipping_acts_on_the_global_norm():
  np.testing.assert_allclose(_update('sgd', clip_norm=.1), PARAMS - .1 * GRADS / 5, rtol=1e-6)
  np.testing.assert_allclose(_update('sgd', clip_norm=9.), PARAMS - .1 * GRADS, rtol=1e-6)


def test_momentum_is_sgds():
  np.testing.assert_allclose(_update('sgd', 2, momentum=.9), PARAMS - .1 * 2.9 * GRADS, rtol=1e-6)


@pytest.mark.parametrize('name, middle, end', [
  ('constant', .2, .2), ('linear', .11, .02), ('cosine', .11, .02), ('exponential', .0632, .02)])
def test_learning_rates(name, middle, end):
  rate = optimizers.learning_rate(name, peak=.2, total_steps=110, warmup_steps=10, end_factor=.1)
  values = [float(rate(step)) for step in (0, 5, 10, 60, 110)]
  np.testing.assert_allclose(values, [0., .1, .2, middle, end], rtol=1e-3, atol=1e-8)


def test_exponential_needs_an_end():
  with pytest.raises(ValueError, match=r'positive end_factor, got 0\.0'):
    optimizers.learning_rate('exponential', peak=.1, total_steps=10)
