"""NVAE (Vahdat & Kautz 2020, arXiv 2007.03898): a hierarchy of groups of latent images."""
import itertools
import math

import jax
import jax.numpy as jnp
from flax import traverse_util

from mollification import rng
from mollification.models import decoders, gaussian, moments, objectives
from mollification.models.autoencoder import check_samples
from mollification.models.base import check_events
from mollification.models.latent import LatentModel
from mollification.models.nets import check_type
from mollification.models.nvae_cells import BottomUp, TopDown

POWER_ITERATIONS = 10


class NVAE(LatentModel, kw_only=True):
  """p(z) = prod_l p(z_l | z_<l), q(z | x) = prod_l q(z_l | z_<l, x), p(x | z) of the last features.

    -loss = log p(x | z) - weight sum_l gamma_l KL(q_l || p_l),  q_l relative to p_l (eq. 2)

  `groups` counts the groups of each scale, coarsest first; the finest has half the image's sides,
  `width` channels and `latents` channels in each z_l, and every coarser one half the sides and
  twice the channels. Each group has a residual cell on the way up and one, `expansion` times as
  wide inside, on the way down, both with squeeze-excite. `likelihood` and what follows are as for
  `decoders.Observation`.

  The KL's weight reaches `beta` after the share `warmup` of the updates; until then, with
  `balance`, gamma_l is the batch's mean KL of the group over the mean of all groups' (§3.2), which
  keeps groups from dying; then 1. It is a statistic of the batch without a running one: where
  `train` is False it is 1 too. `spectral` weighs the sum of the kernels' largest singular values
  (§3.2), see `penalty`. Before sampling, let `base.refresh` recompute running statistics. `dtype`
  is the type that the nets compute in, see `nvae_cells`.

  The released code (github.com/NVlabs/NVAE) differs in this: gamma_l also takes the size of a
  group's scale into account, depthwise kernels and the scales of BatchNorm are penalised as well,
  with a weight of .01 for MNIST and CIFAR-10 and of .1 for CelebA 64, and statistics are taken anew
  on samples of the prior instead of on training data. With a discretised `likelihood` mollified
  data beyond [-1, 1] count as the outermost levels.

  Raises ValueError for sizes below 1, images that cannot be halved once per scale, a negative beta
  or spectral, a warmup outside [0, 1], another dtype than float32 and bfloat16, and a condition.
  """
  groups: tuple[int, ...] = (30,)
  latents: int = 20
  width: int = 128
  expansion: int = 6
  likelihood: str = 'logistic_mixture'
  decoder_variance: float = .5
  mixtures: int = 10
  levels: int = 256
  beta: float = 1.
  warmup: float = .3
  balance: bool = True
  spectral: float = 0.
  dtype: str = 'float32'

  def setup(self):
    self._check()
    self.observation = decoders.Observation(self.event_shape, self.likelihood,
                                            self.decoder_variance, mixtures=self.mixtures,
                                            levels=self.levels)
    self.bottom_up = BottomUp(self.groups, self.width, self.axis_name, self.dtype)
    self.top_down = TopDown(self.groups, self.width, self.latents, self.expansion,
                            self.observation.net_shape, self.axis_name, self.dtype)

  def loss(self, x, keys, *, train, progress=1., cond=None, mask=None):
    """See `Model.loss`. Metrics, [B] in nats: 'kl', and 'reconstruction', log p(x | z)."""
    self._reject(cond)
    weight = objectives.kl_weight(progress, self.beta, self.warmup)
    log_prob_x, kl, _ = self.draw(x, rng.batch_keys(keys, x.shape[0]), train=train, mask=mask)
    penalised = kl
    if self.balance and self.warmup and train:
      penalised = jnp.where(progress < self.warmup, self._balance(kl, mask), 1.) * kl
    metrics = {'kl': kl.sum(-1), 'reconstruction': log_prob_x}
    return -objectives.elbo(log_prob_x, penalised.sum(-1), weight), metrics

  def log_likelihood(self, x, keys, cond=None):
    """ELBO [B] in nats with one draw of z, whatever `beta`: a lower bound in expectation."""
    return self.importance_bound(x, keys, 1, cond=cond)

  def importance_bound(self, x, keys, num_samples, chunk=0, cond=None):
    """log 1/K sum_k p(x, z_k) / q(z_k | x) [B] in nats of K draws, `chunk` at a time (0: all)."""
    self._reject(cond)
    check_samples(num_samples, chunk)
    keys = rng.batch_keys(keys, x.shape[0])
    if num_samples == 1:
      log_prob_x, kl, _ = self.draw(x, keys)
      return log_prob_x - kl.sum(-1)
    chunk = min(chunk or num_samples, num_samples)
    model, variables = self.unbind()

    def log_weights(index):
      each = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(keys, index)
      rows = jnp.broadcast_to(x, (chunk, *x.shape)).reshape(-1, *x.shape[1:])
      log_prob_x, _, ratio = model.apply(variables, rows, each.reshape(-1), method='draw')
      return (log_prob_x - ratio.sum(-1)).reshape(chunk, -1)
    log_w = jax.lax.map(log_weights, jnp.arange(num_samples).reshape(-1, chunk))
    return objectives.importance_bound(log_w.reshape(num_samples, -1))

  def draw(self, x, keys, *, train=False, mask=None):
    """(log p(x | z) [B], KL [B, G], log q(z | x) - log p(z) [B, G]) at one draw of z per example.

    G counts the groups, coarsest first. Each KL is that of q_l and p_l given the draws before, in
    closed form; the third is its value at the draw, for importance weights.
    """
    check_events(self, x)
    features = self.bottom_up(x, train=train, mask=mask)
    out, kl, ratio, _ = self.top_down(self._noise(keys), features, train=train, mask=mask)
    return self.observation.log_prob(x, out), kl, ratio

  def sample(self, keys, *, temperature=1., cond=None):
    """Decoder means [N, *event], every p(z_l | z_<l) with its deviation times `temperature`."""
    self._reject(cond)
    noise = [temperature * n for n in self._noise(keys)]
    return self.observation.mean(self.top_down(noise, None, train=False)[0])

  def encode(self, x):
    """(mean [B, Z], log_var [B, Z]) of q(z | x) in coordinates whose prior is N(0, I); running
    statistics.

    Those of z_l = mean_p + sigma_p e_l, for all Z latents e of the groups, coarsest first. Where q
    of a group depends on the draws before it, it is that after their means: nothing is drawn.
    """
    check_events(self, x)
    features = self.bottom_up(x, train=False)
    means = self._split(jnp.zeros((x.shape[0], self._size)))
    *_, stats = self.top_down(means, features, train=False)
    return tuple(map(self._join, zip(*stats)))

  def decode(self, z):
    """Decoder mean [B, *event] at latents z [B, Z] in the coordinates of `encode`."""
    return self.observation.mean(self.top_down(self._split(z), None, train=False)[0])

  def penalty(self):
    """spectral * sum over kernels of their largest singular value [], as matrices [K K C, F].

    By `POWER_ITERATIONS` from a fixed vector, which come from below. Depthwise kernels, which are
    no such matrix, are left out.
    """
    if not self.spectral:
      return jnp.zeros(())
    flat = traverse_util.flatten_dict(self.variables['params'])
    kernels = [(path, kernel) for path, kernel in flat.items() if path[-1] == 'kernel']
    stacked = lambda path: any(part.startswith('groups') for part in path)
    return self.spectral * sum(
        jax.vmap(_largest_singular_value)(kernel).sum() if stacked(path)
        else _largest_singular_value(kernel) for path, kernel in kernels)

  def _balance(self, kl, mask):
    """gamma [B, G], the same for every example: the group's mean KL over that of all groups."""
    mean = moments.batch_moments(jax.lax.stop_gradient(kl), mask=mask,
                                 axis_name=self.axis_name).mean
    return jnp.broadcast_to(mean / jnp.maximum(mean.mean(), 1e-8), kl.shape)

  def _noise(self, keys):
    """Per scale, coarsest first, standard normal [G, B, H, W, latents]."""
    noise = []
    for scale, shape in enumerate(self._shapes):
      each = jax.vmap(jax.random.fold_in, (0, None))(keys, scale)
      noise.append(jnp.moveaxis(gaussian.standard_normal(each, shape), 1, 0))
    return noise

  @property
  def _shapes(self):
    """(groups, H, W, latents) of each scale, coarsest first."""
    return [(count, *(n >> (len(self.groups) - scale) for n in self.event_shape[:2]), self.latents)
            for scale, count in enumerate(self.groups)]

  @property
  def _size(self):
    """Z, the number of latents in all."""
    return sum(map(math.prod, self._shapes))

  def _split(self, z):
    """z [B, Z] -> per scale [G, B, H, W, latents]."""
    ends = list(itertools.accumulate(map(math.prod, self._shapes)))
    return [jnp.moveaxis(part.reshape(-1, *shape), 1, 0)
            for part, shape in zip(jnp.split(z, ends[:-1], axis=1), self._shapes)]

  def _join(self, parts):
    """The inverse of `_split`."""
    return jnp.concatenate([jnp.moveaxis(part, 0, 1).reshape(part.shape[1], -1) for part in parts],
                           axis=1)

  def _check(self):
    check_type(self.dtype)
    objectives.check_kl_weight(self.beta, self.warmup)
    if not self.groups or min(self.groups) < 1:
      raise ValueError('groups must be at least one number, each at least 1, got '
                       f'{self.groups}; leave a scale out by giving fewer.')
    sizes = {'latents': self.latents, 'width': self.width, 'expansion': self.expansion}
    for name, size in sizes.items():
      if size < 1:
        raise ValueError(f'{name} must be at least 1, got {size}.')
    zoom = 2**len(self.groups)
    if len(self.event_shape) != 3 or any(n % zoom for n in self.event_shape[:2]):
      raise ValueError(f'groups {self.groups} of {len(self.groups)} scales need images [H, W, C] '
                       f'with sides that are multiples of {zoom}, got {self.event_shape}; give '
                       'fewer scales, or pad the images.')
    if self.spectral < 0.:
      raise ValueError(f'spectral must not be negative, got {self.spectral}; 0 is no penalty.')

  def _reject(self, cond):
    if cond is not None:
      raise ValueError('NVAE takes no condition, got cond; leave it None.')


def _largest_singular_value(kernel):
  """Largest singular value [] of a kernel [..., F] as a matrix [I, F], with its gradient."""
  matrix = kernel.reshape(math.prod(kernel.shape[:-1]), -1)
  fixed = jax.lax.stop_gradient(matrix)
  right = jnp.cos(jnp.arange(fixed.shape[1], dtype=jnp.float32)**2)
  right = jax.lax.fori_loop(0, POWER_ITERATIONS,
                            lambda _, v: _unit(_unit(fixed @ v) @ fixed), right)
  left = _unit(fixed @ right)
  return left @ matrix @ right


def _unit(vector):
  return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
