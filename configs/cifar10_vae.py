"""The convolutional VAE on CIFAR-10.

Paper row: Table 1, VAE, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_vae.py --workdir=runs/cifar10_vae
Expected: FID vanilla 191.98, Gaussian 155.13, blur 175.40 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import default


def get_config(arg=''):
  """100,000 updates of batch 100, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'vae', net='conv', widths=(128, 256, 512, 1024), latent_dim=128)
  config.data.name = 'cifar10'
  config.prepare.flip = True
  config.total_steps = 100_000
  config.batch_size = 100
  config.optimizer.learning_rate = 1e-4
  config.eval.every = 5_000
  config.eval.sample_every = 5_000
  config.checkpoint.every = 5_000
  return default.finish(config, arg)
