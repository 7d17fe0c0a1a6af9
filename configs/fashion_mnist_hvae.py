"""The convolutional Hamiltonian VAE, 3 leapfrog steps on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_hvae.py --workdir=runs/fashion_hvae
Expected: none published.
Measured: not at this size. With one leapfrog step, batches of 32 and nets an eighth as wide, 4,000
  updates: test log-likelihood vanilla -4327.83 ± 0.28, Gaussian -4328.58 ± 0.57, blur -4328.34 ±
  0.12 nats; Fréchet distance 4.378 ± 0.096, 4.431 ± 0.037 and 4.597 ± 0.075 in
  fashion_mnist_cnn_28x28 features (mean ± standard error of 3 seeds; experiments/results/images,
  from `python -m experiments.table1 --scale=cpu`).

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'fashion_mnist', arg)
