"""β-VAE, β = 0.1, of the convolutional VAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_beta_vae.py --workdir=runs/beta_vae
Expected: none published.
Measured: not yet.

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('beta_vae', 'fashion_mnist', arg)
