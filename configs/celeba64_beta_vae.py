"""β-VAE, β = 0.1, of the convolutional VAE on CelebA 64×64.

Paper row: Table 1, β-VAE, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_beta_vae.py --workdir=runs/celeba_beta_vae
Expected: FID vanilla 67.78, Gaussian 64.59, blur 67.08 (quoted from memory, unverified).
Measured: not yet.

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """100,000 updates of batch 64, the first half mollified."""
  return vaes.config('beta_vae', 'celeba64', arg)
