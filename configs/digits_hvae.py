"""The Hamiltonian VAE, 3 leapfrog steps on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_hvae.py --workdir=runs/digits_hvae
Expected: none published.
Measured: not yet.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('hvae', 'digits', arg)
