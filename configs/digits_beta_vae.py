"""β-VAE, β = 0.1, of an MLP on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_beta_vae.py --workdir=runs/digits_beta_vae
Expected: none published.
Measured: bound on the test log-likelihood vanilla -164.14 ± 0.28, Gaussian -164.07 ± 0.24, blur
  -163.23 ± 0.22 nats; Fréchet distance 9.43 ± 0.21, 10.65 ± 0.27 and 10.49 ± 0.35 in
  digits_cnn_8x8 features (mean ± standard error of 3 seeds; experiments/results/images, from
  `python -m experiments.table1 --scale=digits`).

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('beta_vae', 'digits', arg)
