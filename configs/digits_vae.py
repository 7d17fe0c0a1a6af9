"""A VAE on the 8×8 digits that scikit-learn ships: half of the quickstart.

Paper row: none; the paper has no digits.
Command:
  python -m mollification.main --config=configs/digits_vae.py --workdir=runs/digits_vae
Expected: none published.
Measured: README, "First comparison"; from `python -m experiments.quickstart`.

The decoder's variance is fixed: one learned log-variance moves by at most the learning rate in an
update, so that after the mollified phase it has not the time to come down again. With
`learn_variance=True` and the rest as here the mollified arm ended well below vanilla.
"""
from configs import default


def get_config(arg=''):
  """1,200 updates, the first half mollified."""
  config = default.get_config()
  default.set_model(config, 'vae', net='mlp', widths=(256, 256), latent_dim=16,
                    decoder_variance=.05)
  config.data.name = 'digits'
  config.total_steps = 1_200
  config.batch_size = 128
  config.steps_per_call = 50
  config.log.every = 50
  config.eval.every = 100
  config.eval.sample_every = 500
  config.checkpoint.every = 500
  return default.finish(config, arg)
