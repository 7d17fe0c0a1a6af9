"""The convolutional Hamiltonian VAE, 3 leapfrog steps on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_hvae.py --workdir=runs/fashion_hvae
Expected: none published.
Measured: not at this size. With one leapfrog step, batches of 32 and nets an eighth as wide, 3,000
  updates: test log-likelihood vanilla -4330.93 ± 0.32, Gaussian -4331.11 ± 0.28, blur -4330.70 ±
  0.15 nats; Fréchet distance 4.817 ± 0.049, 4.895 ± 0.040 and 5.25 ± 0.12 in
  fashion_mnist_cnn_28x28 features (mean ± standard error of 3 seeds; experiments/results/images,
  from `python -m experiments.table1 --scale=cpu`).

Latent size, length and batch are not published; the network is that of the library which the
authors very likely used.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('hvae', 'fashion_mnist', arg)
