"""GLOW on CelebA at 64×64: the CIFAR-10 model with a level more.

Paper row: Table 1, GLOW, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_glow.py --workdir=runs/celeba64_glow
Expected: FID vanilla 97.59, Gaussian 70.91, blur 74.74 (quoted from memory, unverified).
Measured: not yet.

Levels, steps and length are not published; those of CIFAR-10 are taken, and 4 levels. Activations
of 64 px are large: the backward pass computes them again from each step's input.
"""
from configs import default


def get_config(arg=''):
  """50,000 updates of batch 64, the first 30,000 mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=4, steps=20, hidden=512, memory='remat',
                    dtype='float32', inverse_error=0)
  config.data.name = 'celeba64'
  config.prepare.flip = True
  config.total_steps = 50_000
  config.batch_size = 64
  config.mollify.fraction = .6
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.eval.every = 5_000
  config.eval.sample_every = 5_000
  config.checkpoint.every = 5_000
  return default.finish(config, arg)
