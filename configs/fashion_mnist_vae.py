"""The convolutional VAE of the paper, reduced to 28×28 grey images.

Paper row: none; the paper has no Fashion-MNIST.
Command:
  python -m mollification.main --config=configs/fashion_mnist_vae.py --workdir=runs/fashion_vae
Expected: none published.
Measured: not yet.
"""
from configs import default


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'vae', net='conv', widths=(64, 128, 256, 512), latent_dim=32)
  config.data.name = 'fashion_mnist'
  config.total_steps = 20_000
  config.batch_size = 64
  config.optimizer.learning_rate = 1e-4
  config.eval.sample_every = 1_000
  return default.finish(config, arg)
