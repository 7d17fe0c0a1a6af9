"""RealNVP on 32×32 RGB patches of two photographs: 32, 16 and 8 px, residual nets of 2 blocks.

Paper row: none.
Command:
  python -m mollification.main --config=configs/photo_patches_realnvp.py --workdir=runs/photo_nvp
Expected: none published.
Measured: not at this size. With 2 scales, one block of 8 features and batches of 32, 1,400 updates:
  test log-likelihood vanilla -7819 ± 27, Gaussian -7830.2 ± 8.3 nats; Fréchet distance 731 ± 53 and
  717 ± 19 in efficientnet_lite0_96 features (mean ± standard error of 2 seeds;
  experiments/results/images, from `python -m experiments.table1 --scale=cpu`).

Mollification acts in model space, after the logit: behind it a noisy pixel may lie anywhere.
"""
from configs import default


def get_config(arg=''):
  """10,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_image', scales=3, features=32, blocks=2, doubling=False,
                    gain_penalty=5e-5, dtype='float32', inverse_error=2)
  config.data.name = 'photo_patches'
  config.prepare.flip = True
  config.prepare.low = 0.
  config.prepare.logit_alpha = .05
  config.total_steps = 10_000
  config.batch_size = 64
  config.optimizer.learning_rate = 1e-3
  config.eval.every = 1_000
  config.eval.sample_every = 1_000
  config.checkpoint.every = 1_000
  return default.finish(config, arg)
