"""The Hamiltonian VAE, 3 leapfrog steps on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_hvae.py --workdir=runs/digits_hvae
Expected: none published.
Measured: bound on the test log-likelihood vanilla -147.06 ± 0.21, Gaussian -147.30 ± 0.17, blur
  -146.24 ± 0.19 nats; Fréchet distance 6.273 ± 0.052, 6.682 ± 0.070 and 5.94 ± 0.16 in
  digits_cnn_8x8 features (mean ± standard error of 3 seeds; experiments/results/images, from
  `python -m experiments.table1 --scale=digits`).
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('hvae', 'digits', arg)
