"""IWAE, K = 10, of an MLP on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_iwae.py --workdir=runs/digits_iwae
Expected: none published.
Measured: not yet.

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('iwae', 'digits', arg)
