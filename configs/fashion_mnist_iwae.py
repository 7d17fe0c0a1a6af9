"""IWAE, K = 10, of the convolutional VAE on Fashion-MNIST.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/fashion_mnist_iwae.py --workdir=runs/fashion_iwae
Expected: none published.
Measured: not at this size. With 5 samples, batches of 32 and nets an eighth as wide, 4,000 updates:
  test log-likelihood vanilla -4324.18 ± 0.26, Gaussian -4325.31 ± 0.33, blur -4324.26 ± 0.18 nats;
  Fréchet distance 3.86 ± 0.15, 4.26 ± 0.13 and 4.216 ± 0.043 in fashion_mnist_cnn_28x28 features
  (mean ± standard error of 3 seeds; experiments/results/images, from `python -m experiments.table1
  --scale=cpu`).

K is not published.
"""
from configs import vaes


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  return vaes.config('iwae', 'fashion_mnist', arg)
