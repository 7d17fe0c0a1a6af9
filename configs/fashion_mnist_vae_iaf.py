"""The convolutional VAE with an inverse autoregressive posterior on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_vae_iaf.py --workdir=runs/vae_iaf
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 8,000 updates: test log-likelihood vanilla
  -4319.25 ± 0.52, Gaussian -4319.80 ± 0.56, blur -4320.12 ± 0.39 nats; Fréchet distance 3.529 ±
  0.094, 3.47 ± 0.13 and 3.60 ± 0.11 in fashion_mnist_cnn_28x28 features (mean ± standard error of
  3 seeds; experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae_iaf', 'fashion_mnist', arg)
