"""The update of a config over shards of one device, as tests trace and run it."""
import importlib

import jax

from mollification import parallel


def config_of(name, arg=''):
  """The config of configs/`name`.py, with a variant."""
  return importlib.import_module(f'configs.{name}').get_config(arg)


def mapped(step, devices):
  """(state, batch [B, *event], key, level, mask) -> (state, metrics), over `devices` shards."""
  body = jax.vmap(parallel.with_global_keys(step), axis_name='batch',
                  in_axes=(None, 0, None, None, None, 0), out_axes=None)

  def update(state, batch, key, level, mask):
    split = lambda a: None if a is None else a.reshape(devices, -1, *a.shape[1:])
    return body(state, split(batch), key, level, None, split(mask))

  return update
