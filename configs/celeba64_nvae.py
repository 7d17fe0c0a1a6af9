"""NVAE on CelebA 64×64.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/celeba64_nvae.py --workdir=runs/celeba64_nvae
Expected: none published.
Measured: not yet.

Reduced where the data are small; group counts other than those of CIFAR-10 are choices of this
project.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 32, the first half mollified."""
  return vaes.config('nvae', 'celeba64', arg)
