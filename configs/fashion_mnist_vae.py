"""The convolutional VAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_vae.py --workdir=runs/fashion_vae
Expected: none published.
Measured: not at this width. In nets an eighth as wide, 8,000 updates: test log-likelihood vanilla
  -4319.55 ± 0.22, Gaussian -4319.59 ± 0.30, blur -4320.47 ± 0.37 nats; Fréchet distance 3.519 ±
  0.096, 3.57 ± 0.11 and 3.830 ± 0.072 in fashion_mnist_cnn_28x28 features (mean ± standard error
  of 3 seeds; experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('vae', 'fashion_mnist', arg)
