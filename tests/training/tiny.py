"""Tiny real runs, one per model family: full path, little arithmetic."""
import dataclasses

from configs import digits_realnvp, digits_vae
from mollification import build

FAMILIES = {
  'vae': (digits_vae, {'model.widths': (16,), 'model.latent_dim': 2}),
  'conv': (digits_vae, {'model.net': 'conv', 'model.widths': (4, 4, 4), 'model.latent_dim': 2}),
  'flow': (digits_realnvp, {'model.num_blocks': 2, 'model.hidden': 16}),
}


def config(family='vae', **changes):
  """8 updates of 16 digits; `changes` are config keys with double underscores for dots."""
  module, reductions = FAMILIES[family]
  config = module.get_config()
  config.update_from_flattened_dict({
    **reductions, 'total_steps': 8, 'batch_size': 16, 'steps_per_call': 1, 'log.every': 1,
    'eval.every': 4, 'eval.sample_every': 0, 'checkpoint.every': 4, 'checkpoint.keep': 10,
    'eval.refresh_examples': 64, 'eval.best_metric': '',
    **{key.replace('__', '.'): value for key, value in changes.items()}})
  return config


def run(family='vae', dataset=None, **changes):
  """The built run of `config`."""
  return build.build(config(family, **changes), dataset)


def shortened(dataset, n):
  """`dataset` with its first `n` training examples only."""
  train = dataclasses.replace(dataset.train, x=dataset.train.x[:n], labels=None)
  return dataclasses.replace(dataset, train=train)
