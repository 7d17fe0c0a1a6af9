"""The convolutional VAE on 32×32 RGB patches of two photographs.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_vae.py --workdir=runs/photo_vae
Expected: none published.
Measured: not yet.

Real colour with no download.
"""
from configs import vaes


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae', 'photo_patches', arg)
