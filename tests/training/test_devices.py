"""Promise 4 with real models, built from configs: any number of devices trains alike."""
import jax
import numpy as np
import pytest

from mollification import build, parallel, rng
from tests.training import tiny

UPDATES = 4


def _train(config, dataset, devices):
  """The state after some updates over so many shards."""
  batch, _, mask = build._batch(config, dataset.train, 0, UPDATES)
  state = build.create_state(config, batch[0], dataset.levels, 1.)
  body = jax.jit(jax.vmap(
    parallel.with_global_keys(build.train_step(config, dataset.event_shape, dataset.levels)),
    axis_name='batch', in_axes=(None, 0, None, None, None, 0), out_axes=None))
  shards = lambda a: None if a is None else a.reshape(devices, -1, *a.shape[1:])
  losses = []
  for i in range(UPDATES):
    state, metrics = body(state, shards(batch[i]), rng.purpose_key(0, 'train'), .5, None,
                          shards(None if mask is None else mask[i]))
    losses.append(metrics['loss'])
  return state, np.array(losses)


@pytest.mark.parametrize('family, changes', [
  ('vae', {}), ('conv', {}), ('flow', {}), ('flow', {'data__remainder': 'pad'})],
  ids=['vae', 'conv', 'flow', 'padded'])
def test_devices_do_not_change_training(family, changes):
  """SGD, float32, draws of dequantisation, mollifier and model, batch statistics included."""
  changes |= {'optimizer__name': 'sgd', 'optimizer__learning_rate': 1e-5}
  config = tiny.config(family, **changes)
  dataset = build.load_data(config)
  if 'data__remainder' in changes:   # the third batch of this epoch has 8 of 16 rows
    dataset = tiny.shortened(dataset, 40)
  one, losses = _train(config, dataset, 1)
  assert np.isfinite(losses).all()
  for devices in (2, 4):
    many, many_losses = _train(config, dataset, devices)
    np.testing.assert_allclose(many_losses, losses, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
                 (one.params, one.model_state), (many.params, many.model_state))
