"""GLOW on 32×32 RGB patches of two photographs: real colour, no download.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_glow.py --workdir=runs/photo_glow
Expected: none published.
Measured: not at this size. With 4 steps a level of 64 hidden units in place of its own, 2,000
  updates: test log-likelihood vanilla -7115 ± 42, Gaussian -7021 ± 70 nats; Fréchet distance 820 ±
  97 and 846 ± 60 in efficientnet_lite0_96 features (mean ± standard error of 2 seeds;
  experiments/results/images, from `python -m experiments.table1 --scale=cpu`). Of the samples 13 %
  (vanilla) and 5.6 % are not finite, which these distances count as the images that they become.
"""
from configs import default


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=3, steps=8, hidden=128, memory='store',
                    dtype='float32', inverse_error=2)
  config.data.name = 'photo_patches'
  config.prepare.flip = True
  config.total_steps = 10_000
  config.batch_size = 64
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.eval.every = 1_000
  config.eval.sample_every = 1_000
  config.checkpoint.every = 1_000
  return default.finish(config, arg)
