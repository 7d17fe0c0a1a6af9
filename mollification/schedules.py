"""Schedules: update number -> level in [0, 1]; 1 is all noise, 0 is clean data.

Every schedule takes `steps`, the length of the *mollified phase* in updates, is 1 at update 0,
never rises (but see `reordered`), and is exactly 0 from `steps` on (`constant` keeps its value in
between and `none` is 0 throughout). All parameters may be traced, so that `jax.vmap` sweeps them;
those that are not are checked. With `t = step / steps`, the formulae are those of each docstring;
while mollifying they are clipped to [1e-9, 1], as in Tran et al. (NeurIPS 2023).
"""
import jax
import jax.numpy as jnp
import numpy as np

_SMALLEST = 1e-9
ORDERS = ('falling', 'rising', 'shuffled')


def sigmoid(steps, *, start=0., end=3., temperature=.7):
  """level = (S(e/τ) - S((s + (e-s)t)/τ)) / (S(e/τ) - S(s/τ)), S the logistic function.

  T. Chen, On the importance of noise scheduling for diffusion models, 2023 (arXiv 2301.10972),
  there a signal power; the constants are those of Tran et al. (2023).
  """
  _check_steps(steps)
  _require('temperature', temperature, lambda v: v > 0, 'positive')
  _require('end - start', _difference(end, start), lambda v: v > 0, 'positive')
  width = (end - start) / (2 * temperature)
  first = jnp.abs(start / (2 * temperature))

  def level(left):
    # S(a) - S(b) = sinh((a-b)/2) / (2 cosh(a/2) cosh(b/2)): no cancellation near the end, where
    # the difference of two sigmoids has no digits left in float32; exponentials that only decay.
    now = jnp.abs(start / (2 * temperature) + (1 - left) * width)
    falling = jnp.exp((left - 1) * width) * jnp.expm1(-2 * left * width) / jnp.expm1(-2 * width)
    return (falling * jnp.exp(first - now) * (1 + jnp.exp(-2 * first)) / (1 + jnp.exp(-2 * now)))

  return _annealed(level, steps)


def linear(steps):
  """level = 1 - t."""
  _check_steps(steps)
  return _annealed(lambda left: left, steps)


def cosine(steps, *, start=0., end=1., temperature=1.):
  """level = (c(e)^2τ - c(s + (e-s)t)^2τ) / (c(e)^2τ - c(s)^2τ), c(u) = cos(uπ/2).

  T. Chen, 2023 (arXiv 2301.10972); 0 <= start < end <= 1.
  """
  _check_steps(steps)
  _require('temperature', temperature, lambda v: v > 0, 'positive')
  _require('start', start, lambda v: 0 <= v < 1, 'in [0, 1)')
  _require('end', end, lambda v: 0 < v <= 1, 'in (0, 1]')
  _require('end - start', _difference(end, start), lambda v: v > 0, 'positive')

  def power(u):
    # sin of the distance from 1: cos(π/2) is not 0 in float32.
    return jnp.sin(jnp.clip(1 - u, 0., 1.) * (jnp.pi / 2)) ** (2 * temperature)

  last = power(end)

  def level(left):
    return (power(end - (end - start) * left) - last) / (power(start) - last)

  return _annealed(level, steps)


def jetformer(steps):
  """level = ((1 + cos πt) / 2)², the noise curriculum of JetFormer as a variance.

  Tschannen et al., 2024 (arXiv 2411.19722): a standard deviation of `sigma_max (1 + cos πt) / 2`,
  with `mollifiers.gaussian_ve` and their `sigma_max` of 64/255 of the pixel range.
  """
  _check_steps(steps)
  # (1 + cos πt)/2 = sin²(π left/2), without the cancellation near the end.
  return _annealed(lambda left: jnp.sin(left * (jnp.pi / 2)) ** 4, steps)


def polynomial(steps, *, power=2.):
  """level = (1 - t)^power."""
  _check_steps(steps)
  _require('power', power, lambda v: v > 0, 'positive')
  return _annealed(lambda left: left ** power, steps)


def constant(value, steps):
  """level = value until `steps`, then 0; for ablations and constant-noise training."""
  _check_steps(steps)
  _require('value', value, lambda v: 0 <= v <= 1, 'in [0, 1]')
  return lambda step: jnp.where(step < steps, jnp.asarray(value, jnp.float32), 0.)


def none():
  """level = 0: vanilla training, on the same path."""
  return lambda step: jnp.zeros(jnp.shape(step), jnp.float32)


def by_epoch(schedule, steps_per_epoch):
  """`schedule` evaluated at the first update of each epoch: one level per epoch."""
  _require('steps_per_epoch', steps_per_epoch, lambda v: v > 0, 'positive')
  return lambda step: schedule(jnp.asarray(step) // steps_per_epoch * steps_per_epoch)


def reordered(schedule, steps, order, *, seed=0):
  """The levels of `schedule` before update `steps` in another order: is annealing what helps?

  order: 'falling' leaves them, 'rising' turns them round, 'shuffled' takes a permutation drawn from
  `seed` (a table of `steps` numbers, which therefore cannot be traced). From `steps` on nothing
  changes. Every update sees another level than before, all updates together the same ones. Raises
  ValueError on another order.
  """
  _require('order', order, lambda v: np.isin(v, ORDERS), f'one of {ORDERS}')
  if order == 'falling':
    return schedule
  at = None
  if order == 'shuffled':
    at = jnp.asarray(np.random.default_rng(seed).permutation(steps), jnp.int32)

  def level(step):
    step = jnp.asarray(step)
    within = jnp.clip(step, 0, steps - 1)
    taken = steps - 1 - within if at is None else at[within]
    return schedule(jnp.where(step < steps, taken, step))

  return level


def _annealed(level, steps):
  def at(step):
    # Subtract before dividing: in whole numbers what is left is exact.
    left = jnp.clip((steps - jnp.asarray(step)) / steps, 0., 1.)
    value = jnp.clip(level(left), _SMALLEST, 1.)
    value = jnp.where(left < 1, value, 1.)
    return jnp.where(left > 0, value, 0.).astype(jnp.float32)

  return at


def _check_steps(steps):
  _require('steps', steps, lambda v: v > 0,
           'positive; for no mollification use schedules.none()')


def _difference(a, b):
  return a if isinstance(a, jax.core.Tracer) else b if isinstance(b, jax.core.Tracer) else a - b


def _require(name, value, rule, words):
  """Raise ValueError where a concrete parameter breaks its rule; a traced one has no value yet."""
  if not isinstance(value, jax.core.Tracer) and not np.all(rule(np.asarray(value))):
    raise ValueError(f'{name} must be {words}, got {value}.')


SCHEDULES = {
  'sigmoid': sigmoid,
  'linear': linear,
  'cosine': cosine,
  'jetformer': jetformer,
  'polynomial': polynomial,
  'constant': constant,
}
