"""The VAE with an inverse autoregressive posterior on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_vae_iaf.py --workdir=runs/digits_vae_iaf
Expected: none published.
Measured: not yet.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('vae_iaf', 'digits', arg)
