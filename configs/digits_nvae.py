"""NVAE on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_nvae.py --workdir=runs/digits_nvae
Expected: none published.
Measured: test log-likelihood vanilla -114.68 ± 0.37, Gaussian -132.3 ± 1.8, blur -135.8 ± 3.9
  nats; Fréchet distance 14.9 ± 1.3, 15.66 ± 0.45 and 18.17 ± 0.35 in digits_cnn_8x8 features (mean
  ± standard error of 3 seeds; experiments/results/images, from `python -m experiments.table1
  --scale=digits`).

Reduced where the data are small; group counts other than those of CIFAR-10 are choices of this
project.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 32, the first half mollified."""
  return vaes.config('nvae', 'digits', arg)
