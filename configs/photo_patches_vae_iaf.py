"""The convolutional VAE with an IAF posterior on 32×32 RGB patches of two photographs.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_vae_iaf.py --workdir=runs/photo_iaf
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 4,000 updates: test log-likelihood vanilla
  -16794 ± 14, Gaussian -16800 ± 23 nats; Fréchet distance 368 ± 22 and 375 ± 28 in
  efficientnet_lite0_96 features (mean ± standard error of 2 seeds; experiments/results/images,
  from `python -m experiments.table1 --scale=cpu`).

Real colour with no download.
"""
from configs import vaes


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae_iaf', 'photo_patches', arg)
