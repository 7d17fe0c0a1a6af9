"""VAE whose posterior is an inverse autoregressive flow (Kingma et al. 2016, arXiv 1606.04934)."""
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mollification.models import decoders
from mollification.models.autoencoder import Autoencoder
from mollification.models.flows.made import MADE


class VAEIAF(Autoencoder, kw_only=True):
  """`Autoencoder` with q(z | x) a Gaussian that `flows` autoregressive steps transform.

  `flow_widths` are the hidden layers of each step's MADE. Raises ValueError for fewer than one
  step, for no or empty layers, and for fewer than two latents, of which none could depend on
  another.
  """
  GAUSSIAN_POSTERIOR: ClassVar[bool] = False

  flows: int = 3
  flow_widths: tuple[int, ...] = (128, 128)

  def make_posterior(self):
    """The family of the flow."""
    return IAFPosterior(self.latent_dim, self.flows, self.flow_widths)


class IAFPosterior(nn.Module):
  """z_0 = mean + exp(log_var / 2) noise, then per step, with the order reversed between steps,

    z <- z exp(s(z)) + m(z),  log q(z | x) = log q(z_0 | x) - sum over steps of sum_i s_i

  where m_i and s_i depend on z_1, ..., z_{i-1} (without a context). The KL is drawn:
  it has no closed form. See `posteriors` for the interface.
  """
  estimator: ClassVar[str] = 'standard'

  latent_dim: int
  flows: int
  widths: tuple[int, ...]

  def setup(self):
    self.check()
    self.nets = [MADE(2, self.widths) for _ in range(self.flows)]

  def check(self):
    """See `posteriors`."""
    if self.flows < 1:
      raise ValueError(f"flows must be at least 1, got {self.flows}; without any, use 'vae'.")
    if self.latent_dim < 2:
      raise ValueError(f'latent_dim must be at least 2 here, got {self.latent_dim}: a single '
                       "latent has no other to depend on; use 'vae'.")
    if not self.widths or min(self.widths) < 1:
      raise ValueError('flow_widths must be at least one number, each at least 1, got '
                       f'{self.widths}; the default is (128, 128).')

  @property
  def noise_dim(self):
    """Standard normal numbers that a draw takes."""
    return self.latent_dim

  def __call__(self, stats, noise, potential, weights=None):
    """(z [B, Z], log_q [B], None)."""
    del potential, weights
    mean, log_var = stats
    z = mean + jnp.exp(.5 * log_var) * noise
    log_q = decoders.gaussian_log_prob(z, mean, log_var)
    z, log_det = self.transform(z)
    return z, log_q - log_det, None

  def code(self, mean, potential):
    """z_T [B, Z] of the mean of z_0."""
    del potential
    return self.transform(mean)[0]

  def transform(self, z):
    """(z_T [B, Z], log |det dz_T/dz_0| [B]) of z_0 [B, Z]."""
    log_det = jnp.zeros(z.shape[0])
    for i, net in enumerate(self.nets):
      z = z[:, ::-1] if i else z
      shift, log_scale = jnp.moveaxis(net(z), 1, 0)
      z = z * jnp.exp(log_scale) + shift
      log_det = log_det + log_scale.sum(-1)
    return z, log_det

  def kl(self, stats, draw):
    """(the drawn KL [B], the same)."""
    del stats
    return draw, draw
