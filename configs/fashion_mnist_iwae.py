"""IWAE, K = 10, of the convolutional VAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_iwae.py --workdir=runs/fashion_iwae
Expected: none published.
Measured: not yet.

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('iwae', 'fashion_mnist', arg)
