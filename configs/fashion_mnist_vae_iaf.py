"""The convolutional VAE with an inverse autoregressive posterior on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_vae_iaf.py --workdir=runs/vae_iaf
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 8,000 updates: test log-likelihood vanilla
  -4319.29 ± 0.53, Gaussian -4319.86 ± 0.70, blur -4320.33 ± 0.58 nats; Fréchet distance 3.519 ±
  0.072, 3.52 ± 0.16 and 3.67 ± 0.15 in fashion_mnist_cnn_28x28 features (mean ± standard error of 3
  seeds; experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae_iaf', 'fashion_mnist', arg)
