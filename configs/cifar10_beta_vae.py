"""β-VAE, β = 0.1, of the convolutional VAE on CIFAR-10.

Paper row: Table 1, β-VAE, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_beta_vae.py --workdir=runs/cifar10_beta_vae
Expected: FID vanilla 112.42, Gaussian 93.90, blur 101.30 (quoted from memory, unverified).
Measured: not yet.

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('beta_vae', 'cifar10', arg)
