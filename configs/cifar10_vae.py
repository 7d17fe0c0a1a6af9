"""The convolutional VAE on CIFAR-10.

Paper row: Table 1, VAE, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_vae.py --workdir=runs/cifar10_vae
Expected: FID vanilla 191.98, Gaussian 155.13, blur 175.40 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae', 'cifar10', arg)
