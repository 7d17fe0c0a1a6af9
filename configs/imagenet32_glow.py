"""GLOW on ImageNet at 32×32.

Paper row: none; the paper has no ImageNet.
Command:
  python -m mollification.main --config=configs/imagenet32_glow.py --workdir=runs/imagenet32_glow
Expected: none published.
Measured: not yet.

The model of cifar10_glow.py, three times as long: the data set is twenty-five times as large.
"""
from configs import default


def get_config(arg=''):
  """150,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=3, steps=20, hidden=512, memory='store',
                    dtype='float32', inverse_error=0)
  config.data.name = 'downsampled_imagenet32'
  config.total_steps = 150_000
  config.batch_size = 64
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.eval.every = 5_000
  config.eval.sample_every = 5_000
  config.checkpoint.every = 5_000
  return default.finish(config, arg)
