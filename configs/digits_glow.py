"""GLOW on the 8×8 digits: 2 levels of 4 steps, minutes on a CPU.

Paper row: none; the paper has no digits.
Command:
  python -m mollification.main --config=configs/digits_glow.py --workdir=runs/digits_glow
Expected: none published.
Measured: test log-likelihood vanilla -116.4 ± 1.0, Gaussian -119.10 ± 0.48, blur -122.3 ± 1.1
  nats; Fréchet distance 5.782 ± 0.069, 5.65 ± 0.13 and 6.90 ± 0.30 in digits_cnn_8x8 features
  (mean ± standard error of 3 seeds; experiments/results/images, from `python -m
  experiments.table1 --scale=digits`). Of the samples .4 % (vanilla), .2 % and 5.6 % are not finite.
"""
from configs import default


def get_config(arg=''):
  """1,200 updates of batch 64, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'glow', levels=2, steps=4, hidden=64, memory='store',
                    dtype='float32', inverse_error=2)
  config.data.name = 'digits'
  config.total_steps = 1_200
  config.batch_size = 64
  config.optimizer.name = 'adamax'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.weight_decay = 1e-5
  config.log.every = 50
  config.eval.every = 200
  config.eval.sample_every = 200
  config.checkpoint.every = 600
  return default.finish(config, arg)
