"""The VAE with an inverse autoregressive posterior on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_vae_iaf.py --workdir=runs/digits_vae_iaf
Expected: none published.
Measured: bound on the test log-likelihood vanilla -146.00 ± 0.27, Gaussian -146.479 ± 0.072, blur
  -145.86 ± 0.25 nats; Fréchet distance 5.70 ± 0.13, 6.30 ± 0.26 and 5.38 ± 0.19 in digits_cnn_8x8
  features (mean ± standard error of 3 seeds; experiments/results/images, from `python -m
  experiments.table1 --scale=digits`).
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('vae_iaf', 'digits', arg)
