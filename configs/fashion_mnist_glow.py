"""GLOW on Fashion-MNIST: 28 px halve twice, so 2 levels.

Paper row: none; the paper has no Fashion-MNIST.
Command:
  python -m mollification.main --config=configs/fashion_mnist_glow.py --workdir=runs/fashion_glow
Expected: none published.
Measured: not at this size. With 4 steps a level of 64 hidden units in place of its own, 4,500
  updates: test log-likelihood vanilla -2319 ± 12, Gaussian -2322.0 ± 9.7, blur -2529 ± 36 nats;
  Fréchet distance 8.00 ± 0.32, 7.21 ± 0.13 and 8.35 ± 0.31 in fashion_mnist_cnn_28x28 features
  (mean ± standard error of 3 seeds; experiments/results/images, from `python -m experiments.table1
  --scale=cpu`). Of the samples 31 % (vanilla), 14 % and 26 % are not finite, which these distances
  count as the images that they become; `model.min_scale` is against that, and was not measured.
"""
from configs import default


def get_config(arg=''):
  """20,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=2, steps=8, hidden=128, memory='store',
                    dtype='float32', inverse_error=2)
  config.data.name = 'fashion_mnist'
  config.total_steps = 20_000
  config.batch_size = 64
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.eval.every = 1_000
  config.eval.sample_every = 1_000
  config.checkpoint.every = 1_000
  return default.finish(config, arg)
