"""The convolutional VAE with an inverse autoregressive posterior on CIFAR-10.

Paper row: Table 1, VAE-IAF, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_vae_iaf.py --workdir=runs/cifar10_vae_iaf
Expected: FID vanilla 193.58, Gaussian 156.39, blur 162.27 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae_iaf', 'cifar10', arg)
