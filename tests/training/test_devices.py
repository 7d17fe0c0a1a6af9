"""Promise 4 with real models, built from configs: any number of devices trains alike."""
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import synthetic_realnvp
from mollification import build, metrics, parallel, rng
from tests.flags import xla_flags
from tests.training import tiny

UPDATES = 4
ROOT = pathlib.Path(__file__).parents[2]


def _train(config, dataset, devices):
  """(state, losses) of some updates over so many shards."""
  batch, _, mask = build.host_batch(config, dataset.train, 0, UPDATES)
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


def _by_sgd(family, changes):
  """(config, data set); of an epoch of padded batches the third has 8 of 16 rows."""
  config = tiny.config(family, optimizer__name='sgd', optimizer__learning_rate=1e-5, **changes)
  dataset = build.load_data(config)
  return config, tiny.shortened(dataset, 40) if 'data__remainder' in changes else dataset


@pytest.mark.parametrize('family, changes', [
  ('vae', {}), pytest.param('conv', {}, marks=pytest.mark.slow), ('flow', {}),
  ('flow', {'data__remainder': 'pad'}),
  ('flow', {'accumulate': 2})], ids=['vae', 'conv', 'flow', 'padded', 'accumulated'])
def test_devices_do_not_change_training(family, changes):
  """SGD, float32, draws of dequantisation, mollifier and model, batch statistics included."""
  config, dataset = _by_sgd(family, changes)
  one, losses = _train(config, dataset, 1)
  assert np.isfinite(losses).all()
  for devices in (2, 4):
    many, many_losses = _train(config, dataset, devices)
    np.testing.assert_allclose(many_losses, losses, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
                 (one.params, one.model_state), (many.params, many.model_state))


@pytest.mark.slow
def test_devices_do_not_change_losses_with_adam():
  """Nor parameters, but for those whose gradient is zero but for rounding, as of a bias that
  BatchNorm takes out: its own `eps` of 1e-8 lets Adam make full steps of that.
  """
  config = tiny.config('flow', optimizer__name='adam', optimizer__learning_rate=5e-4)
  dataset = build.load_data(config)
  (one, losses), (many, many_losses) = (_train(config, dataset, n) for n in (1, 4))
  np.testing.assert_allclose(many_losses, losses, rtol=1e-6)
  moments, = (part for part in one.opt_state if hasattr(part, 'nu'))
  rounded = jax.tree.map(lambda nu: np.sqrt(nu) < 1e-4, moments.nu)
  for a, b, only_rounded in zip(*map(jax.tree.leaves, (many.params, one.params, rounded))):
    largest = np.where(only_rounded, 2 * UPDATES * 5e-4, 1e-6)
    assert (np.abs(a - b) <= largest * (1 + np.abs(b))).all()


@pytest.mark.parametrize('family, changes', [
  ('vae', {}), ('vae', {'data__remainder': 'pad'}),
  pytest.param('glow', {}, marks=pytest.mark.slow)], ids=['vae', 'padded', 'glow'])
def test_accumulation_equals_the_large_batch(family, changes):
  """Of models without batch statistics, on one device and on two; 1e-6, as of devices."""
  whole, dataset = _by_sgd(family, changes)
  wanted, losses = _train(whole, dataset, 1)
  assert np.isfinite(losses).all()
  for devices, parts in ((1, 4), (2, 2)):
    with jax.debug_key_reuse(False):   # it takes the transpose for a use that vmap makes of a scan
      found, found_losses = _train(_by_sgd(family, changes | {'accumulate': parts})[0], dataset,
                                   devices)
    np.testing.assert_allclose(found_losses, losses, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
                 wanted.params, found.params)


# What a user of n devices runs: the loop and its pmapped step. Leaves and losses go to the file.
TRAIN = """
import sys
import jax
import numpy as np
from mollification.training import loop
from tests.training import tiny
family, folder = sys.argv[1:]
outcome = loop.train(tiny.run(family, optimizer__name='sgd', optimizer__learning_rate=1e-5), folder)
leaves = jax.tree.leaves((outcome.state.params, outcome.state.model_state))
np.savez(f'{folder}/leaves.npz', devices=jax.device_count(), *map(np.asarray, leaves))
"""


@pytest.mark.slow
@pytest.mark.parametrize('family', ['conv', 'flow'])
def test_real_devices_do_not_change_training(family, tmp_path):
  """1, 2 and 4 devices through pmap: 8 updates, losses and parameters to 1e-6."""
  found = []
  for devices in (1, 2, 4):
    folder = tmp_path / str(devices)
    subprocess.run([sys.executable, '-c', TRAIN, family, str(folder)], check=True, cwd=ROOT,
                   env={**os.environ, 'XLA_FLAGS': xla_flags(devices)}, capture_output=True)
    with np.load(folder / 'leaves.npz') as archive:
      leaves = dict(archive)
    assert leaves.pop('devices') == devices
    rows = metrics.read_rows(folder / 'metrics.jsonl')
    found.append((leaves, [row['train/loss'] for row in rows]))
  for leaves, losses in found[1:]:
    np.testing.assert_allclose(losses, found[0][1], rtol=1e-6)
    for name, leaf in leaves.items():
      np.testing.assert_allclose(leaf, found[0][0][name], rtol=1e-6, atol=1e-6)


def test_a_nan_example_of_a_flow_with_batch_statistics_moves_nothing():
  """One of 16 rows, on one of 4 devices: the update is skipped on all, statistics included."""
  config = synthetic_realnvp.get_config('batch_size=16,steps_per_call=1')
  batch = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  state = build.create_state(config, batch, None, 1.)
  update = parallel.pmap_step(build.train_step(config, (2,), None))
  key, before = rng.purpose_key(0, 'train'), jax.tree.map(np.asarray, state)
  assert jax.tree.leaves(before.model_state)
  spoilt = batch.copy()
  spoilt[5, 1] = np.nan
  after, _ = update(parallel.place(state), parallel.shard(spoilt), parallel.place(key), .5, None,
                    None)
  assert int(after.skipped) == 1
  same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
  for part in ('params', 'model_state', 'opt_state', 'ema_params'):
    same(getattr(before, part), jax.tree.map(np.asarray, getattr(after, part)))
  after, _ = update(after, parallel.shard(batch), parallel.place(key), .5, None, None)
  assert int(after.skipped) == 1
  moved = [bool((a != b).any()) for a, b in zip(jax.tree.leaves(before.model_state),
                                                jax.tree.leaves(after.model_state))]
  assert all(moved)
