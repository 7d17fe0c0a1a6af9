"""The flow of the posterior: its log-det, its weights."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models.vae_iaf import IAFPosterior
from tests.models import linear_gaussian
from tests.models.support import jit, random_variables

# After three steps, two reversals, the latents stand in the encoder's order again.
OPTIONS = dict(latent_dim=2, flows=3, flow_widths=(8,))


def test_log_det_is_autodiffs_and_steps_see_both_orders():
  flow = IAFPosterior(3, 3, (6, 6))
  z = jax.random.normal(jax.random.key(0), (4, 3))
  init = lambda: flow.init(jax.random.key(1), z, method='transform')
  variables = random_variables(init, scale=.2)
  transform = lambda z: flow.apply(variables, z, method='transform')
  _, log_det = transform(z)
  jacobian = jit(jax.vmap(jax.jacfwd(lambda z: transform(z[None])[0][0])))(z)
  np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det, rtol=1e-4, atol=1e-4)
  assert jnp.abs(log_det).min() > 1e-3
  # Reversals between the steps: every output depends on every input.
  assert (jnp.abs(jacobian).mean(0) > 1e-4).all()


def test_mean_weight_is_the_evidence_and_the_bound_lies_below():
  model, variables = linear_gaussian.make('vae_iaf', **OPTIONS)
  variables = linear_gaussian.with_posterior(variables, widen=.6)
  flow = jax.tree.map(lambda a: .2 * a, variables['params']['posterior'])    # a gentle one
  variables = {'params': {**variables['params'], 'posterior': flow}}
  found = linear_gaussian.bounds(model, variables)
  evidence = linear_gaussian.evidence(variables)
  linear_gaussian.assert_mean_weight_is_one(found, evidence)
  assert (evidence - found.mean(0) > .02).all()


def test_images_are_reconstructed_from_where_the_flow_takes_the_encoders_mean():
  """The decoder has never seen z_0; with two steps even the order of the latents is another."""
  model, variables = linear_gaussian.make('vae_iaf', latent_dim=3, flows=2, flow_widths=(8,))
  x = linear_gaussian.X

  def run(model, x):
    z = model.posterior.transform(model.encode(x)[0])[0]
    return (model.decode(z), model.decode(model.encode(x)[0]), model.reconstruct(x),
            model.interpolate(x, x[::-1], 3), model.draw_latents(x, jax.random.key(3)), z)
  wanted, without, found, walk, drawn, z = model.apply(variables, x, method=run)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)
  np.testing.assert_allclose(walk[0], wanted, rtol=1e-6)
  np.testing.assert_allclose(walk[2], wanted[::-1], rtol=1e-6)
  assert jnp.abs(wanted - without).max() > .1
  assert drawn.shape == z.shape
  assert jnp.abs(drawn - z).min() > 1e-4


@pytest.mark.parametrize('options, message', [
    (dict(flows=0), "flows must be at least 1, got 0; without any, use 'vae'"),
    (dict(latent_dim=1), "latent_dim must be at least 2 here, got 1: .*use 'vae'"),
    (dict(flow_widths=(0,)), r'flow_widths must be .* got \(0,\)'),
    (dict(flow_widths=()), r'flow_widths must be .* got \(\)'),
    (dict(latent_dim=0), 'latent_dim must be at least 1, got 0')])
def test_options_that_make_no_sense_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda: linear_gaussian.init(models.create('vae_iaf', (3,), **options)))
