"""GLOW on CIFAR-10: 3 levels of 20 steps, 27.5 M parameters.

Paper row: Table 1, GLOW, CIFAR-10.
Command:
  python -m mollification.main --config=configs/cifar10_glow.py --workdir=runs/cifar10_glow
Expected: FID vanilla 74.62, Gaussian 64.87, blur 66.70 (quoted from memory, unverified).
Measured: not yet.

As the released code has it: 50,000 updates of batch 64, the first 30,000 mollified, on [-1, 1],
without flips, average or clipping. That code does not dequantise (prepare.dequantize=none): a
likelihood then has no meaning. Here it does.
"""
from configs import default


def get_config(arg=''):
  """50,000 updates of batch 64, the first 30,000 mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=3, steps=20, hidden=512, memory='store',
                    dtype='float32', inverse_error=0)
  config.data.name = 'cifar10'
  config.total_steps = 50_000
  config.batch_size = 64
  config.mollify.fraction = .6
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.eval.every = 1_000
  config.eval.sample_every = 1_000
  config.checkpoint.every = 1_000
  return default.finish(config, arg)
