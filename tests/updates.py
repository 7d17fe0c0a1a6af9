"""The update of a config over shards of one device, as tests trace and run it."""
import importlib

import jax
import numpy as np

from mollification import build, data, parallel


def config_of(name, arg=''):
  """The config of configs/`name`.py, with a variant."""
  return importlib.import_module(f'configs.{name}').get_config(arg)


def started(config):
  """(state, batch of 8, compiled update over two shards) of a config, on random pixels."""
  event_shape, dtype, levels = data.spec(config.data.name)
  batch = np.random.default_rng(0).integers(0, levels, (8, *event_shape)).astype(dtype)
  state = build.create_state(config, batch, levels, 1.)
  return state, batch, jax.jit(mapped(build.train_step(config, event_shape, levels), 2))


def mapped(step, devices):
  """(state, batch [B, *event], key, level, mask) -> (state, metrics), over `devices` shards."""
  body = jax.vmap(parallel.with_global_keys(step), axis_name='batch',
                  in_axes=(None, 0, None, None, None, 0), out_axes=None)

  def update(state, batch, key, level, mask):
    split = lambda a: None if a is None else a.reshape(devices, -1, *a.shape[1:])
    return body(state, split(batch), key, level, None, split(mask))

  return update
