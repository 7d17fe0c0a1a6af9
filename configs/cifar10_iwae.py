"""IWAE, K = 10, of the convolutional VAE on CIFAR-10.

Paper row: Table 1, IWAE, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_iwae.py --workdir=runs/cifar10_iwae
Expected: FID vanilla 183.04, Gaussian 146.70, blur 163.79 (quoted from memory, unverified).
Measured: not yet.

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('iwae', 'cifar10', arg)
