"""NVAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_nvae.py --workdir=runs/fashion_nvae
Expected: none published.
Measured: not yet.

Reduced where the data are small; group counts other than those of CIFAR-10 are choices of this
project.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 32, the first half mollified."""
  return vaes.config('nvae', 'fashion_mnist', arg)
