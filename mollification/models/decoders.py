"""Observation models p(x | z) of VAEs, of the decoder network's output.

`Observation` is one of `LIKELIHOODS` with its options; the functions are their log-densities.
"""
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models.gaussian import LOG_2PI

# Name -> numbers that the network gives per number of the event (of `mixtures` M).
LIKELIHOODS = {
    'gaussian': lambda m: 1,          # mean; one variance, fixed or learned
    'pixel_gaussian': lambda m: 2,    # mean and log-variance of each number
    'sigmoid_gaussian': lambda m: 1,  # logit of a mean in [0, 1]
    'bernoulli': lambda m: 1,         # logit
    'logistic': lambda m: 2,          # location and log-scale
    'logistic_mixture': lambda m: 3 * m,   # logits, locations, log-scales of M parts
}
# They reach [0, 1] only, so their data must lie there.
UNIT_INTERVAL = ('sigmoid_gaussian', 'bernoulli')
# They cut [-1, 1] into bins.
DISCRETIZED = ('logistic', 'logistic_mixture')


class Observation(nn.Module):
  """p(x | z) for events of `event_shape`, of a network output [B, *net_shape].

  `variance` is the Gaussians' (where 'pixel_gaussian' starts), with `learn_variance` one learned
  number that starts there. `levels` is the number of bins of the discretised logistics.

  Raises ValueError for an unknown `likelihood`, a variance that is not positive, a learned one
  where there is none, fewer than 2 levels, fewer than 1 part of a mixture.
  """
  event_shape: tuple[int, ...]
  likelihood: str = 'gaussian'
  variance: float = .5
  learn_variance: bool = False
  mixtures: int = 5
  levels: int = 256

  def setup(self):
    self._check()
    log_var = math.log(self.variance)
    if self.learn_variance:
      self.log_var = self.param('log_var', nn.initializers.constant(log_var), ())
    else:
      self.log_var = log_var

  @property
  def net_shape(self):
    """Shape of the network's output: the event's, with more channels where more is needed."""
    self._check()
    *rest, channels = self.event_shape
    return (*rest, channels * LIKELIHOODS[self.likelihood](self.mixtures))

  def log_prob(self, x, out):
    """log p(x | z) [B] in nats, for x [B, *event_shape] and the network's output for z."""
    parts = self._parts(out)
    if self.likelihood == 'bernoulli':
      return bernoulli_log_prob(x, parts[0])
    if self.likelihood == 'pixel_gaussian':
      return gaussian_log_prob(x, parts[0], math.log(self.variance) + parts[1])
    if self.likelihood in DISCRETIZED:
      logits, means, log_scales = self._logistics(parts)
      return logistic_mixture_log_prob(x, logits, means, log_scales, self.levels)
    mean = nn.sigmoid(parts[0]) if self.likelihood == 'sigmoid_gaussian' else parts[0]
    return gaussian_log_prob(x, mean, self.log_var)

  def mean(self, out):
    """E[x | z] [B, *event_shape] (logistics: before their ends are cut off)."""
    parts = self._parts(out)
    if self.likelihood in UNIT_INTERVAL:
      return nn.sigmoid(parts[0])
    if self.likelihood in DISCRETIZED:
      logits, means, _ = self._logistics(parts)
      return jnp.sum(nn.softmax(logits, axis=0) * means, axis=0)
    return parts[0]

  def _parts(self, out):
    """[P, B, *event_shape]: the numbers that the network gives for each number of the event."""
    *rest, channels = out.shape
    out = out.reshape(*rest, self.event_shape[-1], channels // self.event_shape[-1])
    return jnp.moveaxis(out, -1, 0)

  def _logistics(self, parts):
    """(logits, means, log_scales), each [M, B, *event_shape]; a single one is a mixture of one."""
    if self.likelihood == 'logistic':
      return jnp.zeros((1, *parts.shape[1:])), parts[:1], parts[1:]
    return jnp.split(parts, 3)

  def _check(self):
    if self.likelihood not in LIKELIHOODS:
      raise ValueError(f'likelihood must be one of {sorted(LIKELIHOODS)}, got '
                       f'{self.likelihood!r}.')
    if self.variance <= 0.:
      raise ValueError(f'decoder_variance must be positive, got {self.variance}; 0.5 makes the '
                       'squared error of it.')
    if self.learn_variance and self.likelihood != 'gaussian':
      raise ValueError("learn_variance is for likelihood='gaussian', got "
                       f'{self.likelihood!r}; set it False: pixel_gaussian and the logistics '
                       'learn theirs anyway.')
    if self.levels < 2:
      raise ValueError(f'levels must be at least 2, got {self.levels}; those of bytes are 256.')
    if self.mixtures < 1:
      raise ValueError(f"mixtures must be at least 1, got {self.mixtures}; 1 is 'logistic'.")


def gaussian_log_prob(x, mean, log_var):
  """log N(x; mean, exp(log_var)) [B] in nats, for x and mean [B, *event].

    -1/2 sum_i [(x_i - mean_i)^2 / v_i + log v_i + log 2 pi],  v = exp(log_var)

  `log_var` is one number or of x's shape. At a variance of 1/2 this is -sum (x - mean)^2 plus a
  constant, the reconstruction term of the paper's VAE library; the constant stays in, so that an
  ELBO made of it bounds a log-density.
  """
  log_var = jnp.asarray(log_var)
  if mean.shape != x.shape or log_var.shape not in ((), x.shape):
    raise ValueError(f'mean must have the shape of x, {x.shape}, and log_var that shape or (), got '
                     f'{mean.shape} and {log_var.shape}; broadcast them first.')
  log_var = jnp.broadcast_to(log_var, x.shape)
  return -.5 * _sum((x - mean)**2 * jnp.exp(-log_var) + log_var + LOG_2PI)


def bernoulli_log_prob(x, logits):
  """sum_i [x_i log p_i + (1 - x_i) log(1 - p_i)] [B] in nats, p = sigmoid(logits), [B, *event].

  A log-probability for x of 0 and 1. Of grey values in between it is the cross-entropy, which is no
  log-density: it integrates to at most 1/2 a number, so that what is reported is below that of the
  continuous Bernoulli by log 2 a number or more (Loaiza-Ganem & Cunningham 2019, arXiv 1907.06845).
  """
  return _sum(x * logits - nn.softplus(logits))


def logistic_mixture_log_prob(x, logits, means, log_scales, levels):
  """Log-density [B] in nats of x [B, *event] in [-1, 1] under discretised logistics.

  The interval is cut into `levels` bins; a bin's probability is that of the mixture of logistics
  sum_m softmax(logits)_m F((x - means_m) / exp(log_scales_m)), the first and last with all that
  lies outside (Salimans et al. 2017, arXiv 1701.05517, eq. 2, without dependence between
  channels). It is spread evenly over the bin, so that bits/dim of dequantised data are those of
  the integers; what a mollifier pushed out of [-1, 1] counts as the bin next to it. The other
  arguments are [M, B, *event].
  """
  width = 2. / levels
  index = jnp.clip(jnp.floor((x + 1.) / width), 0, levels - 1)
  left = jnp.broadcast_to(index * width - 1., means.shape)
  index = jnp.broadcast_to(index, means.shape)
  a = (left - means) * jnp.exp(-log_scales)
  step = width * jnp.exp(-log_scales)
  # F(b) - F(a) = S(b) S(-a) (1 - e^(a - b)) for the sigmoid S: no difference of two near numbers.
  inside = nn.log_sigmoid(a + step) + nn.log_sigmoid(-a) + jnp.log(-jnp.expm1(-step))
  mass = jnp.where(index == 0, nn.log_sigmoid(a + step),
                   jnp.where(index == levels - 1, nn.log_sigmoid(-a), inside))
  mixed = jax.scipy.special.logsumexp(nn.log_softmax(logits, axis=0) + mass, axis=0)
  return _sum(mixed - math.log(width))


def _sum(terms):
  """Sum over all axes but the first."""
  return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))
