"""The convolutional VAE on CelebA 64×64.

Paper row: Table 1, VAE, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_vae.py --workdir=runs/celeba64_vae
Expected: FID vanilla 80.19, Gaussian 72.97, blur 77.29 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae', 'celeba64', arg)
