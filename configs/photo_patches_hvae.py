"""The convolutional Hamiltonian VAE, 3 leapfrog steps, on 32×32 RGB patches of two photographs.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_hvae.py --workdir=runs/photo_hvae
Expected: none published.
Measured: not at this size. With one leapfrog step, batches of 32 and nets an eighth as wide, 4,500
  updates: test log-likelihood vanilla -16779.4 ± 7.2, Gaussian -16786.9 ± 6.8 nats; Fréchet
  distance 337.4 ± 7.9 and 347 ± 13 in efficientnet_lite0_96 features (mean ± standard error of 2
  seeds; experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Real colour with no download.
"""
from configs import vaes


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'photo_patches', arg)
