"""What numbers and names of a config may be; errors name the key, the value and the way out."""
import contextlib
import importlib.util
import math

import jax

from mollification import parallel, preprocess, schedules
from mollification.models import decoders

INFINITY = float('inf')
RANGES = {   # what numbers may be, [low, high), where nothing else checks them
  'seed': (0, 2**31),
  'ema_decay': (0, 1),
  'mollify.steps': (-1, INFINITY),
  'optimizer.learning_rate': (0, INFINITY),
  'optimizer.b1': (0, 1),
  'optimizer.b2': (0, 1),
  'optimizer.momentum': (0, 1),
  'optimizer.eps': (0, INFINITY),
  'optimizer.end_factor': (0, INFINITY),
  'log.watchdog': (0, INFINITY),
  'eval.valid_examples': (0, INFINITY),
  'eval.batch_size': (1, INFINITY),
  'eval.refresh_examples': (1, INFINITY),
  'eval.refresh_batch_size': (1, INFINITY),
  'eval.patience': (0, INFINITY),
  'eval.num_samples': (1, INFINITY),
  'eval.temperature': (0, INFINITY),
  'eval.importance_samples': (1, INFINITY),
  'eval.importance_chunk': (0, INFINITY),
}


@contextlib.contextmanager
def keys_of(config, group):
  """Errors of a function that begin with one of its options name the config's key instead.

  Begin with 'option ' or with 'option=value '.
  """
  try:
    yield
  except ValueError as error:
    keys = config
    for name in group.split('.'):
      keys = getattr(keys, name, {})
    if str(error).split(' ', 1)[0].split('=', 1)[0] in keys:
      raise ValueError(f'{group}.{error}') from error
    raise


def check(config, mollified_steps, devices=0):
  """Raise ValueError where numbers of the config do not fit each other or the devices.

  `devices` share a batch; 0: all that there are.
  """
  devices = devices or jax.device_count()
  parallel.check_batch_size(config.batch_size, devices)
  size, local = config.steps_per_call, config.batch_size // devices
  counts = {key: config[key] for key in ('total_steps', 'steps_per_call', 'accumulate',
                                         'max_nonfinite')}
  for key, value in {**counts, 'checkpoint.keep': config.checkpoint.keep}.items():
    if value < 1:
      raise ValueError(f'{key} must be at least 1, got {value}.')
  if local % config.accumulate:
    raise ValueError(f'accumulate {config.accumulate} must divide the {local} examples that each '
                     f'of {devices} devices gets of batch_size {config.batch_size}.')
  intervals = {'total_steps': config.total_steps, 'log.every': config.log.every,
               'eval.every': config.eval.every, 'eval.sample_every': config.eval.sample_every,
               'checkpoint.every': config.checkpoint.every,
               'checkpoint.keep_every': config.checkpoint.keep_every}
  for key, value in intervals.items():
    if value < 0 or value % size:
      raise ValueError(f'{key} must be a multiple of steps_per_call {size}, got {value}; nearest: '
                       f'{max(round(value / size), 1) * size}.')
  if config.log.tensorboard and not importlib.util.find_spec('tensorflow'):
    raise ValueError("log.tensorboard needs TensorFlow: pip install 'mollification[data]', or "
                     'leave it False.')
  check_ranges(config)
  _check_choosing(config, mollified_steps)
  check_params(config)
  if config.eval.quantize not in preprocess.QUANTIZE:
    raise ValueError(f'eval.quantize must be one of {preprocess.QUANTIZE}, got '
                     f'{config.eval.quantize!r}.')


def check_examples(config, num_examples):
  """Raise ValueError where there are fewer training examples than one batch takes."""
  if config.batch_size > num_examples:
    raise ValueError(f'batch_size {config.batch_size} is larger than the {num_examples} training '
                     'examples; lower it.')


def check_ranges(config):
  """Raise ValueError where a number is outside of `RANGES`, or not finite."""
  flat = _flat(config)
  for key, (low, high) in RANGES.items():
    if not low <= flat[key] < high:
      raise ValueError(f'{key} must lie in [{low}, {high}), got {flat[key]}.')
  draws, chunk = config.eval.importance_samples, config.eval.importance_chunk
  if 0 < chunk < draws and draws % chunk:
    raise ValueError(f'eval.importance_chunk must divide eval.importance_samples {draws}, got '
                     f'{chunk}; 0 takes all at once.')
  for key, value in flat.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise ValueError(f'{key} must be a finite number, got {value}.')


def _flat(config, prefix=''):
  """{dotted key: value} of a config."""
  flat = {}
  for key, value in config.items():
    flat |= _flat(value, f'{prefix}{key}.') if hasattr(value, 'items') else {prefix + key: value}
  return flat


def _check_choosing(config, mollified_steps):
  """What chooses by validation must exist and have a time to act."""
  c = config.eval
  if c.best_metric not in ('', 'log_likelihood'):
    raise ValueError("eval.best_metric must be 'log_likelihood' (larger is better) or '' (keeps no "
                     f'best checkpoint), got {c.best_metric!r}.')
  if c.patience and not (c.every and c.best_metric and
                         mollified_steps < config.total_steps):
    raise ValueError(f'eval.patience {c.patience} can never act: it needs eval.every, '
                     'eval.best_metric and updates after the mollified phase; set patience to 0.')


def check_params(config):
  """Raise ValueError unless the parameters that evaluations ask for are kept."""
  if config.eval.params not in ('raw', 'ema'):
    raise ValueError(f"eval.params must be 'raw' or 'ema', got {config.eval.params!r}.")
  if config.eval.params == 'ema' and not config.ema_decay:
    raise ValueError('eval.params is ema, but ema_decay is 0; set it, or evaluate raw parameters.')


def check_likelihood(config, levels, mollified_steps):
  """Raise ValueError for a likelihood that cannot be: of discrete pixels, or out of reach.

  `levels` are the grey levels of the data, None of a table. Out of reach are data that the decoder
  of a VAE cannot give.
  """
  name = config.model.likelihood if 'likelihood' in config.model else ''
  c = config.prepare
  if levels is not None and c.dequantize == 'none' and (
      config.eval.every or config.eval.best_metric):
    raise ValueError('pixels that are not dequantised have no likelihood to evaluate or to choose '
                     'by; set prepare.dequantize=uniform, or eval.every=0 and '
                     "eval.best_metric=''.")
  reach = {**dict.fromkeys(decoders.UNIT_INTERVAL, (0., 1.)),
           **dict.fromkeys(decoders.DISCRETIZED, (-1., 1.))}
  if name not in reach:
    return
  if name in decoders.UNIT_INTERVAL and mollified_steps and (
      config.mollify.name != 'identity'):
    raise ValueError(f'model.likelihood {name!r} ends in a sigmoid, which cannot reach the '
                     'mollified targets outside [0, 1]; use a linear one such as gaussian, or '
                     'mollify.fraction=0.')
  if levels is None or (c.low, c.high) != reach[name] or c.logit_alpha:
    raise ValueError(f'model.likelihood {name!r} is for pixels in {list(reach[name])}, got '
                     f'prepare.low {c.low}, prepare.high {c.high}, prepare.logit_alpha '
                     f'{c.logit_alpha}{", and a table" if levels is None else ""}; set these, or '
                     'take gaussian.')
  if name in decoders.DISCRETIZED and config.model.levels != levels:
    raise ValueError(f'model.levels must be the {levels} grey levels of the data, got '
                     f'{config.model.levels}.')


def check_sweep(configs):
  """Raise ValueError unless configs differ in nothing but the seed and the curve of levels."""
  first, *others = map(_flat, configs)
  free = ('seed', 'mollify.schedule', 'mollify.fraction', 'mollify.steps', 'mollify.granularity',
          'mollify.scale', 'mollify.order', *(f'mollify.{name}.' for name in schedules.SCHEDULES))
  # What is evaluated then hangs on the noise, and is that of the first config.
  if first['mollify.denoise'] or first.get('model.level_condition'):
    free = ('seed',)
  for other in others:
    for key in sorted(first):
      if first[key] != other[key] and not key.startswith(free):
        raise ValueError(f'runs of a sweep differ in the seed and the schedule alone, got {key} '
                         f'{first[key]!r} and {other[key]!r}; make two sweeps.')
  if first['eval.valid_examples']:
    raise ValueError('a sweep evaluates on all of its validation data, got eval.valid_examples '
                     f'{first["eval.valid_examples"]}; set it to 0.')
  every, total = first['eval.every'], first['total_steps']
  if every < 1 or total % every:
    raise ValueError('total_steps must be a multiple of eval.every in a sweep, got '
                     f'{total} and {every}.')


def check_same(config):
  """Raise ValueError, in all processes, where their configs differ but in where data lie.

  Each would go its own way, and leave states that are read as damaged. Every process must call it.
  """
  for name, value in config.to_dict().items():
    if name == 'data':
      value = {key: own for key, own in value.items() if not key.endswith('_dir')}
    parallel.check_same(f'config.{name}', value)
