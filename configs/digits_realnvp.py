"""A RealNVP on the flattened 8×8 digits: the other half of the quickstart.

Paper row: none; the paper has no digits.
Command:
  python -m mollification.main --config=configs/digits_realnvp.py --workdir=runs/digits_realnvp
Expected: none published.
Measured: test log-likelihood vanilla -112.81 ± 0.54, mollified -112.21 ± 0.61 nats; bits/dim
  2.5429 ± 0.0122 and 2.5294 ± 0.0138 (mean ± standard error of 3 seeds;
  experiments/results/quickstart, from `python -m experiments.quickstart`).
"""
from configs import default


def get_config(arg=''):
  """800 updates, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_tabular', num_blocks=6, hidden=128)
  config.data.name = 'digits'
  config.total_steps = 800
  config.batch_size = 128
  config.steps_per_call = 50
  config.optimizer.learning_rate = 5e-4
  config.log.every = 50
  config.eval.every = 100
  config.eval.sample_every = 200
  config.checkpoint.every = 500
  return default.finish(config, arg)
