"""The convolutional Hamiltonian VAE, 3 leapfrog steps on CelebA 64×64.

Paper row: Table 1, HVAE, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_hvae.py --workdir=runs/celeba64_hvae
Expected: FID vanilla 74.10, Gaussian 72.28, blur 77.54 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'celeba64', arg)
