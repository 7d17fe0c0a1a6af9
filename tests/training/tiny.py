"""Tiny real runs, one per model family: full path, little arithmetic."""
import dataclasses

from configs import (
  default,
  digits_glow,
  digits_hvae,
  digits_iwae,
  digits_nvae,
  digits_realnvp,
  digits_vae,
  digits_vae_iaf,
)
from mollification import build, measure, metrics
from mollification.training import checkpoint


def _digits_maf():
  config = digits_realnvp.get_config()
  default.set_model(config, 'maf', num_blocks=2, hidden=16)
  return config


def _digits_image_realnvp():
  config = digits_glow.get_config()
  default.set_model(config, 'realnvp_image', scales=2, blocks=1, features=4)
  return config


_MLP = {'model.widths': (16,), 'model.latent_dim': 2}
FAMILIES = {
  'vae': (digits_vae.get_config, _MLP),
  'conv': (digits_vae.get_config,
           {'model.net': 'conv', 'model.widths': (4, 4, 4), 'model.latent_dim': 2}),
  'flow': (digits_realnvp.get_config, {'model.num_blocks': 2, 'model.hidden': 16}),
  'iwae': (digits_iwae.get_config, {**_MLP, 'model.num_samples': 3}),
  'iaf': (digits_vae_iaf.get_config, {**_MLP, 'model.flows': 2, 'model.flow_widths': (8,)}),
  'hvae': (digits_hvae.get_config, {**_MLP, 'model.leapfrog_steps': 2}),
  'nvae': (digits_nvae.get_config,
           {'model.groups': (1, 1), 'model.width': 4, 'optimizer.warmup_steps': 2}),
  'glow': (digits_glow.get_config, {'model.steps': 2, 'model.hidden': 8}),
  'maf': (_digits_maf, {}),
  'realnvp_image': (_digits_image_realnvp, {}),
}


def config(family='vae', **changes):
  """8 updates of 16 digits; `changes` are config keys with double underscores for dots."""
  get_config, reductions = FAMILIES[family]
  config = get_config()
  config.update_from_flattened_dict({
    **reductions, 'total_steps': 8, 'batch_size': 16, 'steps_per_call': 1, 'log.every': 1,
    'eval.every': 4, 'eval.sample_every': 0, 'checkpoint.every': 4, 'checkpoint.keep': 10,
    'eval.refresh_examples': 64, 'eval.best_metric': '',
    **{key.replace('__', '.'): value for key, value in changes.items()}})
  return config


def run(family='vae', dataset=None, **changes):
  """The built run of `config`."""
  return build.build(config(family, **changes), dataset)


def rows(folder):
  """Rows of a workdir's metrics.jsonl, without what the machine has part in."""
  machine = ('time/', 'memory/')
  return [{key: value for key, value in row.items() if not key.startswith(machine)}
          for row in metrics.read_rows(folder / 'metrics.jsonl')]


def newest(folder):
  """(step, state): every leaf of the newest checkpoint in `folder`, one of a workdir's."""
  run = measure.open_run(folder.parent)
  with checkpoint.manager(folder, read_only=True) as manager:
    return checkpoint.restore(manager, run.template)


def shortened(dataset, n):
  """`dataset` with its first `n` training examples only."""
  train = dataclasses.replace(dataset.train, x=dataset.train.x[:n], labels=None)
  return dataclasses.replace(dataset, train=train)
