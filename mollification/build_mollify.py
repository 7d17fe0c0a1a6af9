"""config.mollify -> level, mollifier, and what noise that stays asks of samples and statistics."""
import functools

import jax
import jax.numpy as jnp

from mollification import check, curricula, mollifiers, schedules


def mollified_steps(config):
  """Length of the mollified phase in updates, from `steps` or from `fraction` of the total."""
  c = config.mollify
  if not 0 <= c.fraction <= 1:
    raise ValueError(f'mollify.fraction must lie in [0, 1], got {c.fraction}; 0 is vanilla '
                     'training.')
  if c.schedule == 'none':
    return 0
  if c.steps >= 0:
    return c.steps
  return round(c.fraction * config.total_steps)


def schedule(config, per_epoch):
  """update -> level, for the configured phase and granularity; 0 throughout for no phase."""
  c, steps = config.mollify, mollified_steps(config)
  if c.schedule not in (*schedules.SCHEDULES, 'none'):
    known = ', '.join([*schedules.SCHEDULES, 'none'])
    raise ValueError(f'mollify.schedule {c.schedule!r} is unknown; known: {known}.')
  if c.granularity not in ('step', 'epoch'):
    raise ValueError(f"mollify.granularity must be 'step' or 'epoch', got {c.granularity!r}.")
  if not 0 <= c.scale <= 1:
    raise ValueError(f'mollify.scale must lie in [0, 1], got {c.scale}.')
  if not steps:
    return schedules.none()
  with check.keys_of(config, f'mollify.{c.schedule}'):
    unscaled = schedules.SCHEDULES[c.schedule](steps=steps, **_options(c, c.schedule))
  level = lambda step: c.scale * unscaled(step)
  if c.granularity == 'epoch':
    held = schedules.by_epoch(level, per_epoch)
    # The phase may end within an epoch; from there on data are clean, whatever it began with.
    level = lambda step: jnp.where(jnp.asarray(step) < steps, held(step), 0.)
  with check.keys_of(config, 'mollify'):
    return schedules.reordered(level, steps, c.order, seed=config.seed)


def mollifier(config, event_shape):
  """(x, level, keys) -> x of the config; raises ValueError for a blur of what is no image."""
  c = config.mollify
  if c.name not in mollifiers.MOLLIFIERS:
    known = ', '.join(mollifiers.MOLLIFIERS)
    raise ValueError(f'mollify.name {c.name!r} is unknown; known: {known}.')
  mollify = functools.partial(mollifiers.MOLLIFIERS[c.name], **_options(c, c.name))
  shape = jax.ShapeDtypeStruct((1, *event_shape), jnp.float32)
  with check.keys_of(config, f'mollify.{c.name}'):
    jax.eval_shape(mollify, shape, 1., jax.eval_shape(lambda: jax.random.key(0)))
  return mollify


def level_condition(config):
  """Whether the model is conditioned on the level of noise in each example."""
  return 'level_condition' in config.model and config.model.level_condition


def noise_left(config, net):
  """(scale, sigma) of the noise that samples of the model `net` are freed from, or None.

  x̃ = scale x + sigma ε in every update, in model space. Raises ValueError where mollify.denoise is
  set and that does not hold, or where the model has no score.
  """
  c = config.mollify
  if not c.denoise:
    return None
  level = c.scale * c.constant.value
  constant = c.schedule == 'constant' and mollified_steps(config) >= config.total_steps
  if not constant or level <= 0 or c.spread != 'none' or level_condition(config):
    raise ValueError('mollify.denoise is for noise of one strength in every update; set '
                     'mollify.schedule=constant, mollify.fraction=1, mollify.constant.value above '
                     '0 and mollify.spread=none, and leave model.level_condition out.')
  if not net.EXACT_LIKELIHOOD:
    raise ValueError(f'mollify.denoise needs the score of a flow, got model {config.model.name}; '
                     'leave it False.')
  if c.name == 'gaussian_ve':
    return 1., c.gaussian_ve.sigma_max * level**.5
  if c.name == 'gaussian' and level < 1:
    return (1 - level)**.5, level**.5
  raise ValueError('mollify.denoise needs mollify.name=gaussian_ve, or gaussian at a level below '
                   f'1, got {c.name!r} at {level}.')


def sample_fn(config, net):
  """(variables, keys [N], *, temperature, cond) -> samples [N, *event] in model space.

  Those of the model `net`, and with mollify.denoise `curricula.tweedie` of them: of data without
  the noise that it was trained on. Raises ValueError as `noise_left`.
  """
  draw, noise = functools.partial(net.apply, method='sample'), noise_left(config, net)
  if noise is None:
    return draw
  scale, sigma = noise

  def denoised(variables, keys, **options):
    y = draw(variables, keys, **options)
    cond = {key: value for key, value in options.items() if key == 'cond'}
    return curricula.tweedie(y, net.apply(variables, y, method='score', **cond), sigma, scale)

  return denoised


def _options(config, name):
  """The options of a schedule or mollifier: its own sub-config, where it has any."""
  return dict(config[name]) if name in config else {}
