"""The convolutional VAE on ImageNet 32×32.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/imagenet32_vae.py --workdir=runs/imagenet32_vae
Expected: none published.
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """500,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae', 'imagenet32', arg)
