"""Noise that stays, by curricula that mollification is compared with; for anybody's loop.

Constant noise with Tweedie's denoising (Meng et al., Improved autoregressive modeling with
distribution smoothing, ICLR 2021; Zhai et al., 2024, arXiv 2412.06329), a density of y = x + σ ε:

    y = mollifiers.gaussian_ve(batch, 1., keys, sigma_max=σ)        # in training
    x = curricula.tweedie(y, score(y), σ)                           # of samples y

SoftFlow (Kim et al., 2020, arXiv 2006.04604), a density for each strength of noise, of which that
of none is asked for in the end:

    levels = curricula.spread(1., keys)                             # one per example
    y = mollifiers.gaussian_ve(batch, levels, more_keys, sigma_max=σ)
    loss = -log_prob(y, cond=curricula.condition(levels))           # later cond = 0
"""
import jax
import jax.numpy as jnp

from mollification import rng

SPREADS = ('none', 'uniform')


def spread(level, keys):
  """Levels [B] whose roots are uniform on [0, sqrt(level)]; `keys` are [B], `level` [] or [B].

  A level is a variance: with `gaussian_ve` the noise in example i has σ_i ~ U(0, σ_max sqrt(level))
  (SoftFlow, section 3.2). Level 0 stays 0.
  """
  return level * jax.vmap(jax.random.uniform)(keys)**2


def condition(levels):
  """What a flow is conditioned on [B, 1] of levels [B]: their roots, standard deviations in [0, 1].
  """
  return jnp.sqrt(levels)[:, None]


def tweedie(y, score, sigma, scale=1.):
  """E[x | y] = (y + sigma² ∇ log p(y)) / scale where y = scale x + sigma ε, ε ~ N(0, I).

  `score` is the gradient of log p at y, of y's shape; `sigma` the standard deviation of the noise
  in units of y. Robbins, An empirical Bayes approach to statistics, 1956; Efron, Tweedie's formula
  and selection bias, JASA 2011. Raises ValueError where the two shapes differ.
  """
  if y.shape != score.shape:
    raise ValueError(f'score must be the gradient at y, of shape {y.shape}, got {score.shape}.')
  return (y + sigma**2 * score) / scale


def by_example(update, *, spread_by='none', conditioned=False):
  """An update as training/step.py has it, with a level for each example, and as the condition.

  update: (state, batch, data_keys, noise_keys, model_keys, level, cond, mask) -> (state, metrics).
  `spread_by` 'uniform' draws the levels by `spread`, under keys of their own; 'none' leaves them
  all at the update's. `conditioned`: `condition` of the levels is the model's condition. The metric
  'level' stays that of the update. Raises ValueError for another `spread_by`.
  """
  check(spread_by)
  if spread_by == 'none' and not conditioned:
    return update

  def by_level(state, batch, data_keys, noise_keys, model_keys, level, cond=None, mask=None):
    levels, noise_keys = of_examples(level, noise_keys, spread_by)
    if conditioned:
      cond = condition(jnp.broadcast_to(levels, noise_keys.shape))
    state, metrics = update(state, batch, data_keys, noise_keys, model_keys, levels, cond, mask)
    return state, {**metrics, 'level': level}

  return by_level


def of_examples(level, keys, spread_by):
  """(level [] or [B], keys [B] of the noise itself) of examples with noise keys `keys` [B]."""
  if spread_by == 'none':
    return level, keys
  return spread(level, rng.folded(keys, 0)), rng.folded(keys, 1)


def check(spread_by):
  """Raise ValueError unless `spread_by` is one of `SPREADS`."""
  if spread_by not in SPREADS:
    raise ValueError(f'spread must be one of {SPREADS}, got {spread_by!r}.')
