"""IWAE, K = 10, of an MLP on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_iwae.py --workdir=runs/digits_iwae
Expected: none published.
Measured: bound on the test log-likelihood vanilla -142.995 ± 0.049, Gaussian -143.81 ± 0.26, blur
  -142.34 ± 0.13 nats; Fréchet distance 6.03 ± 0.30, 6.33 ± 0.19 and 5.56 ± 0.15 in digits_cnn_8x8
  features (mean ± standard error of 3 seeds; experiments/results/images, from `python -m
  experiments.table1 --scale=digits`).

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('iwae', 'digits', arg)
