"""β-VAE, β = 0.1, of the convolutional VAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_beta_vae.py --workdir=runs/beta_vae
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 8,000 updates: test log-likelihood vanilla
  -4348.92 ± 0.27, Gaussian -4348.66 ± 0.49, blur -4346.52 ± 0.39 nats; Fréchet distance 4.12 ±
  0.10, 4.04 ± 0.12 and 3.9805 ± 0.0093 in fashion_mnist_cnn_28x28 features (mean ± standard error
  of 3 seeds; experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

β is not published; below 1 it trades the bound for sharper samples.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('beta_vae', 'fashion_mnist', arg)
