"""The convolutional Hamiltonian VAE, 3 leapfrog steps on CIFAR-10.

Paper row: Table 1, HVAE, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_hvae.py --workdir=runs/cifar10_hvae
Expected: FID vanilla 172.47, Gaussian 137.84, blur 147.15 (quoted from memory, unverified).
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'cifar10', arg)
