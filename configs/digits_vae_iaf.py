"""The VAE with an inverse autoregressive posterior on the 8×8 digits.

Paper row: none for this data set.
Command:
  python -m mollification.main --config=configs/digits_vae_iaf.py --workdir=runs/digits_vae_iaf
Expected: none published.
Measured: test bound -146.57 ± 0.55 nats, 3.304 ± 0.012 bits/dim, 16 of 16 units active, Fréchet
  distance 5.91 ± 0.25 in digits_cnn_8x8 features (25 Nov 2026, one seed, 24 s of one core).
"""
from configs import vaes


def get_config(arg=''):
  """1,200 updates of batch 128, the first half mollified."""
  return vaes.config('vae_iaf', 'digits', arg)
