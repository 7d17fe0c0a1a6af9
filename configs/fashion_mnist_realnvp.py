"""RealNVP on Fashion-MNIST: 28, 14 and 7 px, residual nets of 2 blocks.

Paper row: none; the paper has no Fashion-MNIST.
Command:
  python -m mollification.main --config=configs/fashion_mnist_realnvp.py --workdir=runs/fashion
Expected: none published.
Measured: not at this size. With 2 scales, one block of 8 features and batches of 32, 2,400 updates:
  test log-likelihood vanilla -1972.5 ± 6.3, Gaussian -1954.6 ± 5.0, blur -2060.6 ± 5.2 nats;
  Fréchet distance 7.781 ± 0.095, 7.44 ± 0.20 and 8.108 ± 0.070 in fashion_mnist_cnn_28x28 features
  (mean ± standard error of 3 seeds; experiments/results/images, from `python -m experiments.table1
  --scale=cpu`).

Mollification acts in model space, after the logit: behind it a noisy pixel may lie anywhere.
"""
from configs import default


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_image', scales=3, features=32, blocks=2, doubling=False,
                    gain_penalty=5e-5, dtype='float32', inverse_error=2)
  config.data.name = 'fashion_mnist'
  config.prepare.low = 0.
  config.prepare.logit_alpha = .05
  config.total_steps = 20_000
  config.batch_size = 64
  config.optimizer.learning_rate = 1e-3
  config.eval.every = 1_000
  config.eval.sample_every = 1_000
  config.checkpoint.every = 1_000
  return default.finish(config, arg)
