"""Variational autoencoder with a Gaussian decoder (Kingma & Welling 2014), and beta-VAE."""
import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mollification import rng
from mollification.models import decoders, gaussian, nets, objectives
from mollification.models.base import Model


class VAE(Model, kw_only=True):
  """p(z) = N(0, I), p(x | z) = N(decoder(z), v I), q(z | x) = N(mean(x), diag exp(log_var(x))).

    -loss = log p(x | z) - beta KL(q(z | x) || p(z)),  z = mean + exp(log_var / 2) eps

  `net` is 'mlp' or 'conv'; `widths` are the hidden layers of the one or the channels of the other
  (None: the net's default), which the decoder mirrors. v is `decoder_variance`, fixed, or with
  `learn_variance` one learned number that starts there; 1/2 makes the reconstruction term
  -sum (x - decoder(z))^2 plus a constant. The decoder is linear at its end: data in [-1, 1] that
  was mollified does not stay there.

  Raises ValueError for a `net` that does not exist, a variance that is not positive, an event that
  does not fit the net, or a condition.
  """
  EXACT_LIKELIHOOD: ClassVar[bool] = False

  latent_dim: int = 16
  net: str = 'mlp'
  widths: tuple[int, ...] | None = None
  beta: float = 1.
  decoder_variance: float = .5
  learn_variance: bool = False

  def setup(self):
    if self.latent_dim < 1:
      raise ValueError(f'latent_dim must be at least 1, got {self.latent_dim}.')
    if self.decoder_variance <= 0.:
      raise ValueError(f'decoder_variance must be positive, got {self.decoder_variance}.')
    options = dict(widths=self.widths, axis_name=self.axis_name)
    self.encoder = nets.make_encoder(self.net, 2 * self.latent_dim, **options)
    self.decoder = nets.make_decoder(self.net, self.event_shape, **options)
    log_var = math.log(self.decoder_variance)
    if self.learn_variance:
      self.decoder_log_var = self.param('decoder_log_var', nn.initializers.constant(log_var), ())
    else:
      self.decoder_log_var = log_var

  def encode(self, x, *, train=False, mask=None):
    """(mean [B, Z], log_var [B, Z]) of q(z | x) for x [B, *event]."""
    return tuple(jnp.split(self.encoder(x, train=train, mask=mask), 2, axis=-1))

  def decode(self, z, *, train=False, mask=None):
    """Mean [B, *event] of p(x | z) for z [B, Z]."""
    return self.decoder(z, train=train, mask=mask)

  def reconstruct(self, x):
    """Decoder mean [B, *event] at the posterior mean of x [B, *event]; running statistics."""
    return self.decode(self.encode(x)[0])

  def loss(self, x, keys, *, train, progress=1., cond=None, mask=None):
    """See `Model.loss`. Metrics: 'kl' and 'reconstruction', log p(x | z), both [B] in nats."""
    log_prob_x, kl = self._terms(x, keys, cond, train=train, mask=mask)
    return -objectives.elbo(log_prob_x, kl, self.beta), {'kl': kl, 'reconstruction': log_prob_x}

  def log_likelihood(self, x, keys, cond=None):
    """ELBO [B] in nats with one draw of z, whatever `beta`: a lower bound in expectation."""
    return objectives.elbo(*self._terms(x, keys, cond, train=False))

  def sample(self, keys, *, temperature=1., cond=None):
    """Decoder means [N, *event] at z ~ N(0, temperature^2 I), one per key of `keys` [N]."""
    self._reject(cond)
    return self.decode(temperature * gaussian.standard_normal(keys, (self.latent_dim,)))

  def _terms(self, x, keys, cond, *, train, mask=None):
    """(log p(x | z) [B], KL [B]) at one draw of z per example."""
    self._reject(cond)
    mean, log_var = self.encode(x, train=train, mask=mask)
    keys = rng.batch_keys(keys, x.shape[0])
    z = mean + jnp.exp(.5 * log_var) * gaussian.standard_normal(keys, mean.shape[1:])
    x_mean = self.decode(z, train=train, mask=mask)
    log_prob_x = decoders.gaussian_log_prob(x, x_mean, self.decoder_log_var)
    return log_prob_x, objectives.gaussian_kl(mean, log_var)

  def _reject(self, cond):
    if cond is not None:
      raise ValueError('the VAE takes no condition, got cond; leave it None.')
