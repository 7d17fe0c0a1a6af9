"""β-VAE, β = 0.1, of an MLP on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_beta_vae.py --workdir=runs/digits_beta_vae
Expected: none published.
Measured: not yet.

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('beta_vae', 'digits', arg)
