"""What VAEs with one vector of latents share; they differ in the family of q(z | x) alone."""
import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification import rng
from mollification.models import decoders, gaussian, nets, objectives
from mollification.models.base import check_events
from mollification.models.latent import LatentModel
from mollification.models.posteriors import Potential


class Autoencoder(LatentModel, kw_only=True):
  """p(z) = N(0, I), p(x | z) of the decoder's output, q(z | x) of `make_posterior`. Abstract.

    log w_k = log p(x | z_k) - beta (log q(z_k | x) - log p(z_k)),  z_k ~ q
    -loss = log 1/K sum_k w_k

  `net` is 'mlp', 'conv' or 'resnet'; `widths` are its hidden layers or channels (None: the net's
  default), which the decoder mirrors, and `dtype` the type that both compute in, 'float32' or
  'bfloat16'; parameters, batch statistics, likelihood and KL are float32. `likelihood` is one of
  `decoders.LIKELIHOODS`, with `decoder_variance`, `learn_variance`, `mixtures`, `levels` as
  `decoders.Observation` takes them; the fixed variance of 1/2 makes the reconstruction term
  -sum (x - decoder(z))^2 plus a constant. Its mean is linear at its end: data in [-1, 1] that was
  mollified does not stay there.

  K is `num_samples`: 1 is the VAE, more the IWAE. They are decoded `chunk` at a time (0: all at
  once), and what is kept for the gradient is that of one chunk: memory does not grow with K. Batch
  statistics are then those of each chunk, and running ones follow the first. The KL's weight
  `beta` is reached after the share `warmup` of the updates.

  Raises ValueError for a latent_dim, K or chunk that make no sense, a negative beta, a warmup
  outside [0, 1], a `net`, `dtype` or `likelihood` that does not exist, an event that does not fit
  the net, and a condition.
  """
  latent_dim: int = 16
  net: str = 'mlp'
  widths: tuple[int, ...] | None = None
  likelihood: str = 'gaussian'
  decoder_variance: float = .5
  learn_variance: bool = False
  mixtures: int = 5
  levels: int = 256
  num_samples: int = 1
  chunk: int = 0
  beta: float = 1.
  warmup: float = 0.
  dtype: str = 'float32'

  def make_posterior(self):
    """The module q(z | x), see `posteriors`."""
    raise NotImplementedError

  def setup(self):
    check_samples(self.num_samples, self.chunk)
    if self.latent_dim < 1:
      raise ValueError(f'latent_dim must be at least 1, got {self.latent_dim}.')
    objectives.check_kl_weight(self.beta, self.warmup)
    nets.check_event(self.net, self.event_shape, self.widths)
    options = dict(widths=self.widths, axis_name=self.axis_name, dtype=self.dtype)
    self.observation = decoders.Observation(
        self.event_shape, self.likelihood, self.decoder_variance, self.learn_variance,
        self.mixtures, self.levels)
    self.encoder = nets.make_encoder(self.net, 2 * self.latent_dim, **options)
    self.decoder = nets.make_decoder(self.net, self.observation.net_shape, **options)
    self.posterior = self.make_posterior()

  def check(self):
    """See `Model.check`."""
    self.posterior.check()

  @property
  def draws(self):
    """See `LatentModel.draws`."""
    return self.num_samples

  def encode(self, x, *, train=False, mask=None):
    """(mean [B, Z], log_var [B, Z]) of the Gaussian that q(z | x) starts from; x [B, *event]."""
    check_events(self, x)
    return tuple(jnp.split(self.encoder(x, train=train, mask=mask), 2, axis=-1))

  def code(self, x):
    """See `LatentModel.code`."""
    return self.posterior.code(self.encode(x)[0], self._potential(x, False, None))

  def draw_latents(self, x, keys):
    """One draw [B, Z] of q(z | x), whatever its family, from `keys` [B]; running statistics."""
    noise, = self._noise(rng.batch_keys(keys, x.shape[0]), None)
    return self.posterior(self.encode(x), noise, self._potential(x, False, None))[0]

  def decode(self, z):
    """Mean [B, *event] of p(x | z) for z [B, Z]; running statistics."""
    return self.observation.mean(self.decoder(z, train=False))

  def loss(self, x, keys, *, train, progress=1., cond=None, mask=None):
    """See `Model.loss`.

    Metrics, [B] in nats: 'kl', log q(z | x) - log p(z), and 'reconstruction', log p(x | z), both
    averaged over the K draws; for K > 1 'effective_samples', between 1 and K, a number.
    """
    weight = objectives.kl_weight(progress, self.beta, self.warmup)
    self._reject(cond)
    stats = self.encode(x, train=train, mask=mask)
    log_prob_x, kl = self._draws(x, stats, keys, self.num_samples, self.chunk, weight,
                                 train=train, mask=mask)
    metrics = {'reconstruction': log_prob_x.mean(0)}
    if self.num_samples > 1:
      log_w = objectives.elbo(log_prob_x, kl, weight)
      more = {'kl': kl.mean(0), 'effective_samples': objectives.effective_samples(log_w)}
      return -objectives.importance_bound(log_w), metrics | more
    kl, penalised = self.posterior.kl(stats, kl[0])
    return -objectives.elbo(log_prob_x[0], penalised, weight), metrics | {'kl': kl}

  def log_likelihood(self, x, keys, cond=None):
    """Bound [B] in nats with `num_samples` draws of z, whatever `beta`: below in expectation."""
    return self.importance_bound(x, keys, self.num_samples, self.chunk, cond)

  def importance_bound(self, x, keys, num_samples, chunk=0, cond=None):
    """log 1/K sum_k p(x, z_k) / q(z_k | x) [B] in nats of K = `num_samples` draws.

    `chunk` as for the model. One draw with a KL in closed form is the ELBO. Running statistics.
    A figure, not an objective: what an estimator of gradients does first is left out.
    """
    check_samples(num_samples, chunk)
    self._reject(cond)
    stats = self.encode(x)
    log_prob_x, kl = self._draws(x, stats, keys, num_samples, chunk, None, train=False)
    if num_samples > 1:
      return objectives.importance_bound(log_prob_x - kl)
    return log_prob_x[0] - self.posterior.kl(stats, kl[0])[0]

  def sample(self, keys, *, temperature=1., cond=None):
    """Decoder means [N, *event] at z ~ N(0, temperature^2 I), one per key of `keys` [N]."""
    self._reject(cond)
    return self.decode(temperature * gaussian.standard_normal(keys, (self.latent_dim,)))

  def draw(self, x, stats, keys, index, weights=None, *, train=False, mask=None):
    """(log p(x | z), log q(z | x) - log p(z)), each [k, B], at the draws `index` [k] of q.

    `stats` are of `encode`. Draw i of an example is a function of its key, of `keys` [B], and of
    i; with `index` None it is the only one. `weights` [k, B], or None, multiply the gradients that
    go by way of z.
    """
    noise = self._noise(keys, index)
    count = noise.shape[0]
    tile = lambda a: jnp.broadcast_to(a, (count, *a.shape)).reshape(-1, *a.shape[1:])
    mask = None if mask is None else tile(mask)
    x, stats = tile(x), jax.tree.map(tile, stats)
    weights = None if weights is None else weights.reshape(-1, 1)
    z, log_q, log_prob_x = self.posterior(stats, noise.reshape(-1, noise.shape[-1]),
                                          self._potential(x, train, mask), weights)
    if log_prob_x is None:
      log_prob_x = self.log_prob(x, z, train=train, mask=mask)
    ratio = log_q - gaussian.standard_normal_log_prob(z)
    return log_prob_x.reshape(count, -1), ratio.reshape(count, -1)

  def _draws(self, x, stats, keys, count, chunk, weight, *, train, mask=None):
    """`draw` of all `count`, `chunk` at a time.

    `weight` is the KL's in the log-weights, or None where nobody asks for a gradient of them.
    """
    keys = rng.batch_keys(keys, x.shape[0])
    options = dict(train=train, mask=mask)
    if count == 1 and self.posterior.estimator != 'dreg':
      return self.draw(x, stats, keys, None, **options)
    index = jnp.arange(count).reshape(-1, min(chunk or count, count))         # [P, k]
    weights = None
    if (self.posterior.estimator == 'dreg' and weight is not None
        and not self.is_initializing()):
      # The weights are needed before the gradient that they scale: a pass without one goes ahead.
      detached = jax.lax.stop_gradient(
          self._detached_draws(x, stats, keys, index, None, **options))
      log_w = objectives.elbo(*(a.reshape(count, -1) for a in detached), weight)
      weights = objectives.dreg_weights(log_w, weight).reshape(*index.shape, -1)
    # The first part runs as this module, whose running statistics it moves.
    part = lambda p: jax.tree.map(lambda a: a[p], (index, weights))
    first = self.draw(x, stats, keys, *part(0), **options)
    if len(index) == 1 or self.is_initializing():
      return first
    rest = self._detached_draws(x, stats, keys, *part(slice(1, None)), **options)
    return tuple(jnp.concatenate([a, b.reshape(-1, b.shape[-1])]) for a, b in zip(first, rest))

  def _detached_draws(self, x, stats, keys, index, weights, *, train, mask):
    """`draw` of parts `index` [P, k] in turn, [P, k, B]; the gradient computes each anew."""
    model, variables = self.unbind()

    @jax.checkpoint
    def draw(variables, x, stats, part):
      return model.apply(variables, x, stats, keys, *part, train=train, mask=mask, method='draw')
    return jax.lax.map(lambda part: draw(variables, x, stats, part), (index, weights))

  def log_prob(self, x, z, *, train=False, mask=None):
    """log p(x | z) [B] in nats, for x [B, *event] and z [B, Z]."""
    return self.observation.log_prob(x, self.decoder(z, train=train, mask=mask))

  def _potential(self, x, train, mask):
    """`posteriors.Potential` of x.

    Padded rows have no force: their own would reach the kept rows' gradients by the batch
    statistics.
    """
    options = dict(train=train, mask=mask)
    kept = jnp.ones(x.shape[0]) if mask is None else mask.astype(x.dtype)

    def force(pull, z):
      # Of a sum over examples each gets its own gradient; batch statistics do couple them.
      *_, slope = pull(kept)
      return slope - kept[:, None] * z

    def detached(z):
      model, variables = self.unbind()
      _, pull = jax.vjp(lambda z: model.apply(variables, x, z, method='log_prob', **options), z)
      return force(pull, z)

    def last(z):
      log_prob_x, pull = nn.vjp(lambda model, z: model.log_prob(x, z, **options), self, z,
                                vjp_variables=False)
      return log_prob_x, force(pull, z)
    return Potential(detached, last)

  def _noise(self, keys, index):
    """Standard normal [k, B, N], each from its example's key and its index."""
    shape = (self.posterior.noise_dim,)
    if index is None:
      return gaussian.standard_normal(keys, shape)[None]
    draw = lambda i: gaussian.standard_normal(jax.vmap(jax.random.fold_in, (0, None))(keys, i),
                                              shape)
    return jax.vmap(draw)(index)

  def _reject(self, cond):
    if cond is not None:
      raise ValueError('the VAE takes no condition, got cond; leave it None.')


def check_samples(num_samples, chunk):
  """Raises ValueError unless K draws can be made, `chunk` at a time."""
  if num_samples < 1:
    raise ValueError(f'num_samples must be at least 1, got {num_samples}.')
  if chunk < 0 or (0 < chunk < num_samples and num_samples % chunk):
    raise ValueError(f'chunk must divide num_samples {num_samples}, got {chunk}; 0 takes all at '
                     'once.')
