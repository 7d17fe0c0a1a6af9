"""NVAE on CIFAR-10.

Paper row: the check of NVAE on CIFAR-10; its figures are not quoted here.
Command:
  python -m mollification.main --config=configs/cifar10_nvae.py --workdir=runs/cifar10_nvae
Expected: not recorded.
Measured: not yet.

30 groups of 20 latents at 16×16 and 128 channels, as published; the cells are simplified: one on
the way up and one on the way down per group.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 32, the first half mollified."""
  return vaes.config('nvae', 'cifar10', arg)
