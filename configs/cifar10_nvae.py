"""NVAE on CIFAR-10.

Paper row: the check of NVAE on CIFAR-10; its figures are not quoted here.
Command:
  python -m mollification.main --config=configs/cifar10_nvae.py --workdir=runs/cifar10_nvae
Expected: not recorded.
Measured: not yet.

30 groups of 20 latents at 16×16 and 128 channels, as published; the cells are simplified: one on
the way up and one on the way down per group. The weight of the spectral penalty, .1, is that of the
released command for CelebA 64 (github.com/NVlabs/NVAE); for CIFAR-10 it has .01, which is
`:model.spectral=.01` here.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 32, the first half mollified."""
  return vaes.config('nvae', 'cifar10', arg)
