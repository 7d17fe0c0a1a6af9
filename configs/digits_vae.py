"""A VAE on the 8×8 digits that scikit-learn ships: half of the quickstart.

Paper row: none; the paper has no digits.
Command:
  python -m mollification.main --config=configs/digits_vae.py --workdir=runs/digits_vae
Expected: none published.
Measured: README, "First comparison"; from `python -m experiments.quickstart`.

The decoder's variance is fixed: one learned log-variance moves by at most the learning rate in an
update, so that after the mollified phase it has not the time to come down again. With
`learn_variance=True` and the rest as here the mollified arm ended well below vanilla.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates, the first half mollified."""
  return vaes.config('vae', 'digits', arg)
