"""Optimisers and learning-rate schedules by name, as optax chains."""
import optax

OPTIMIZERS = ('adam', 'adamw', 'adamax', 'sgd')
SCHEDULES = ('constant', 'cosine', 'linear', 'exponential')


def learning_rate(name, *, peak, total_steps, warmup_steps=0, end_factor=0.):
  """update -> learning rate: a linear warm-up to `peak`, then down to `end_factor * peak`.

  'exponential' needs a positive end_factor. Raises ValueError on names and values outside.
  """
  if name not in SCHEDULES:
    raise ValueError(f'unknown learning-rate schedule {name!r}; known: {", ".join(SCHEDULES)}.')
  if not 0 <= warmup_steps <= total_steps:
    raise ValueError(f'warmup_steps must lie between 0 and total_steps {total_steps}, got '
                     f'{warmup_steps}.')
  if name == 'exponential' and end_factor <= 0:
    raise ValueError(f'exponential decay needs a positive end_factor, got {end_factor}.')
  steps = max(total_steps - warmup_steps, 1)
  decay = {
    'constant': lambda: optax.constant_schedule(peak),
    'cosine': lambda: optax.cosine_decay_schedule(peak, steps, alpha=end_factor),
    'linear': lambda: optax.linear_schedule(peak, peak * end_factor, steps),
    'exponential': lambda: optax.exponential_decay(peak, steps, end_factor),
  }[name]()
  if not warmup_steps:
    return decay
  warmup = optax.linear_schedule(0., peak, warmup_steps)
  return optax.join_schedules([warmup, decay], [warmup_steps])


def create(name, schedule, *, weight_decay=0., clip_norm=0., b1=.9, b2=.999, eps=1e-8,
           momentum=0.):
  """An optax chain: clip by global norm, weight decay, `name`, learning rate.

  Before adam, adamax and sgd the decay is of the coupled kind, added to the gradient, as in the
  code of Tran et al. (2023); adamw decouples it (Loshchilov & Hutter, 2019). A `clip_norm` of 0
  does not clip.
  """
  if name not in OPTIMIZERS:
    raise ValueError(f'unknown optimizer {name!r}; known: {", ".join(OPTIMIZERS)}.')
  for key, value in {'weight_decay': weight_decay, 'clip_norm': clip_norm,
                     'momentum': momentum}.items():
    if value < 0:
      raise ValueError(f'{key} must not be negative, got {value}; 0 switches it off.')
  direction = {
    'adam': lambda: optax.scale_by_adam(b1, b2, eps),
    'adamw': lambda: optax.scale_by_adam(b1, b2, eps),
    'adamax': lambda: optax.scale_by_adamax(b1, b2, eps),
    'sgd': lambda: optax.trace(momentum) if momentum else optax.identity(),
  }[name]()
  decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
  clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  before, after = ([], decay) if name == 'adamw' else (decay, [])
  return optax.chain(*clip, *before, direction, *after, optax.scale_by_learning_rate(schedule))
