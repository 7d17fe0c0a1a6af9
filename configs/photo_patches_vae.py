"""The convolutional VAE on 32×32 RGB patches of two photographs: real colour, no download.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_vae.py --workdir=runs/photo_vae
Expected: none published.
Measured: not yet.
"""
from configs import default


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'vae', net='conv', widths=(64, 128, 256, 512), latent_dim=64)
  config.data.name = 'photo_patches'
  config.prepare.flip = True
  config.total_steps = 10_000
  config.batch_size = 64
  config.optimizer.learning_rate = 1e-4
  config.eval.sample_every = 1_000
  return default.finish(config, arg)
