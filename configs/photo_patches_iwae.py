"""IWAE, K = 10, of the convolutional VAE on 32×32 RGB patches of two photographs.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_iwae.py --workdir=runs/photo_iwae
Expected: none published.
Measured: not at this size. With 5 samples, batches of 32 and nets an eighth as wide, 3,300 updates:
  test log-likelihood vanilla -16780.5 ± 4.6, Gaussian -16781.8 ± 3.8 nats; Fréchet distance 312 ±
  13 and 354 ± 34 in efficientnet_lite0_96 features (mean ± standard error of 2 seeds;
  experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Real colour with no download.
"""
from configs import vaes


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  return vaes.config('iwae', 'photo_patches', arg)
