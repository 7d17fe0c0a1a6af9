"""RealNVP on CelebA at 64×64: 5 scales, features that double from 32, 2 blocks.

Paper row: Table 1, RealNVP, CelebA.
Command:
  python -m mollification.main --config=configs/celeba64_realnvp.py --workdir=runs/celeba64_realnvp
Expected: FID vanilla 81.25, Gaussian 79.68, blur 85.40 (quoted from memory, unverified).
Measured: not yet.

The generic form of the RealNVP paper for 64 px, as in its authors' code. The length of training is
not published.
Mollification acts in model space, after the logit: behind it a noisy pixel may lie anywhere.
"""
from configs import default


def get_config(arg=''):
  """50,000 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_image', scales=5, features=32, blocks=2, doubling=True,
                    double_at_squeeze=True, skips=True, ordered_split=True,
                    gain_penalty=5e-5, dtype='float32', inverse_error=0)
  config.data.name = 'celeba64'
  config.prepare.flip = True
  config.prepare.low = 0.
  config.prepare.logit_alpha = .05
  config.total_steps = 50_000
  config.batch_size = 64
  config.optimizer.learning_rate = 1e-3
  config.eval.every = 5_000
  config.eval.sample_every = 5_000
  config.checkpoint.every = 5_000
  return default.finish(config, arg)
