"""The convolutional Hamiltonian VAE, 3 leapfrog steps on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_hvae.py --workdir=runs/fashion_hvae
Expected: none published.
Measured: not yet.

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'fashion_mnist', arg)
