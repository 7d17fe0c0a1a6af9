"""β-VAE, β = .1, convolutional, on 32×32 RGB patches of two photographs.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_beta_vae.py --workdir=runs/photo_beta
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 4,000 updates: test log-likelihood vanilla
  -16816.0 ± 1.6, Gaussian -16819 ± 13 nats; Fréchet distance 444 ± 115 and 488 ± 203 in
  efficientnet_lite0_96 features (mean ± standard error of 2 seeds; experiments/results/images,
  from `python -m experiments.table1 --scale=cpu`).

Real colour with no download.
"""
from configs import vaes


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  return vaes.config('beta_vae', 'photo_patches', arg)
