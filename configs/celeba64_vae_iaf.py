"""The convolutional VAE with an inverse autoregressive posterior on CelebA 64×64.

Paper row: Table 1, VAE-IAF, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_vae_iaf.py --workdir=runs/celeba64_vae_iaf
Expected: FID vanilla 80.34, Gaussian 73.56, blur 75.67 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae_iaf', 'celeba64', arg)
