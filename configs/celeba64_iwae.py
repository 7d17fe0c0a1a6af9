"""IWAE, K = 10, of the convolutional VAE on CelebA 64×64.

Paper row: Table 1, IWAE, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_iwae.py --workdir=runs/celeba64_iwae
Expected: FID vanilla 78.25, Gaussian 71.38, blur 76.45 (quoted from memory, unverified).
Measured: not yet.

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('iwae', 'celeba64', arg)
