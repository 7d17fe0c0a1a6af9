"""Every key of a run, with what it means. A config file changes some; nothing adds a key later.

Variants on the command line: `--config=configs/NAME.py:key=value[,key=value]`, dotted keys, or
`--config.key=value` for one key.
"""
import ast
import difflib
import re

from ml_collections import ConfigDict, config_dict

_BETWEEN_PAIRS = re.compile(r',(?![^([]*[)\]])')   # the commas of a tuple stand in brackets
# How an error names the type of a key.
KINDS = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'text',
         tuple: 'a tuple such as (64,64)'}


def get_config(arg=''):
  """The defaults. They train nothing by themselves: a run file names its data and its model."""
  config = ConfigDict()
  config.seed = 0               # of initialisation, order, noise, sampling: one seed, one run
  config.total_steps = 10_000   # updates, skipped ones included
  config.batch_size = 128       # global: over all devices and processes
  config.steps_per_call = 1     # updates in one compiled call (lax.scan); > 1 for small models
  config.accumulate = 1         # parts of a batch whose gradients are summed before an update
  config.ema_decay = 0.         # of an average of the parameters kept beside them; 0: none
  config.max_nonfinite = 20     # stop after so many skipped (non-finite) updates in a row

  config.data = _data()
  config.prepare = _prepare()
  config.mollify = _mollify()
  # Name and options of a model of mollification/models; a run file sets them by set_model.
  config.model = ConfigDict({'name': ''})
  config.optimizer = _optimizer()
  config.eval = _eval()

  config.log = ConfigDict()
  config.log.every = 100            # updates between rows of metrics.jsonl
  config.log.stdout = True          # these rows also to stdout; progress goes to stderr
  config.log.tensorboard = False    # also to TensorBoard; imports TensorFlow (7 s, 550 MB)
  # Seconds without an update (compiling included), a batch of an evaluation or of pictures, or a
  # save, after which the stacks of all threads go to stderr, once: where does it hang? 0: never.
  config.log.watchdog = 600.

  config.checkpoint = ConfigDict()
  # Updates; the last one saves too, a signal, and of each start the first evaluation and pictures.
  config.checkpoint.every = 1000
  config.checkpoint.keep = 2        # newest checkpoints that stay
  config.checkpoint.keep_every = 0  # multiples of this many updates stay for good; 0: none
  return finish(config, arg)


def _data():
  data = ConfigDict()
  data.name = ''            # mollification/data, e.g. digits, cifar10, redwine, folder
  data.data_dir = ''        # TFDS folder, table folder, image folder or npz; '': TFDS's own default
  data.cache_dir = ''       # memory-mapped uint8 copies; '': ~/.cache/mollification
  data.download = False     # fetch a UCI table that data_dir has not (TFDS fetches by itself)
  data.remainder = 'drop'   # last partial batch of an epoch: drop, or pad (masked; tables)
  # Options of single data sets; 0 is the data set's own default, and all others refuse the key.
  data.size = 0             # folder: side that images are resized to; photo_patches: of a patch
  data.channels = 0         # folder: convert to grey (1) or RGB (3)
  data.stride = 0           # photo_patches: pixels between patches
  data.intrinsic = 0        # manifold: dimension of it,
  data.ambient = 0          # ... of the space that it lies in,
  data.curvature = 0.       # ... height of its waves,
  data.noise = 0.           # ... and standard deviation of the noise about it
  data.num_train = 0        # 2-D densities and manifold: points drawn
  data.num_validation = 0
  data.num_test = 0
  return data


def _prepare():
  prepare = ConfigDict()
  prepare.dequantize = 'uniform'   # uniform | none (no likelihood then); tables ignore it
  prepare.low = -1.                # model space of pixels: [low, high]
  prepare.high = 1.                # (a table passes as it is)
  prepare.logit_alpha = 0.         # logit(α + (1 - 2α) u) after scaling; 0: none
  prepare.flip = False             # mirror training images left to right at random
  return prepare


def _mollify():
  mollify = ConfigDict()
  mollify.name = 'gaussian'        # gaussian | gaussian_ve | heat_blur | blur_noise | identity
  # sigmoid | linear | cosine | jetformer | polynomial | constant | none (vanilla training)
  mollify.schedule = 'sigmoid'
  mollify.fraction = .5            # share of total_steps that is mollified; 0: vanilla training
  mollify.steps = -1               # length of the mollified phase in updates; -1: from fraction
  mollify.granularity = 'step'     # step | epoch: how often the level changes
  # falling | rising | shuffled: order of the levels within the phase; for ablations
  mollify.order = 'falling'
  mollify.scale = 1.               # of every level, in [0, 1]; below 1 no batch is pure noise
  # none | uniform: noise as strong in every example, or of a standard deviation drawn between 0 and
  # that of the level; with model.level_condition the flow knows which (SoftFlow)
  mollify.spread = 'none'
  # Samples without the noise of constant-noise training, by Tweedie's formula. The likelihood then
  # stays that of the noisy density.
  mollify.denoise = False
  mollify.init_on = 'mollified'    # mollified | clean: batch that data-dependent layers start from
  # Options of each schedule and mollifier, under its name; only those of the chosen one act.
  mollify.sigmoid = ConfigDict({'start': 0., 'end': 3., 'temperature': .7})
  mollify.cosine = ConfigDict({'start': 0., 'end': 1., 'temperature': 1.})
  mollify.polynomial = ConfigDict({'power': 2.})
  mollify.constant = ConfigDict({'value': .1})
  # In model units; JetFormer's 64/255 of a pixel range of 2.
  mollify.gaussian_ve = ConfigDict({'sigma_max': 128 / 255})
  mollify.heat_blur = ConfigDict({'sigma_min': .5, 'sigma_max': 24., 'noise_std': .01,
                                  'spacing': 'continuous'})    # widths in pixels
  mollify.blur_noise = ConfigDict({'sigma_max': 24., 'd_min': 1e-3, 'logsnr_min': -10.,
                                   'noise_min': 0.})
  return mollify


def _optimizer():
  optimizer = ConfigDict()
  optimizer.name = 'adam'           # adam | adamw | adamax | sgd
  optimizer.learning_rate = 1e-3    # at its peak
  optimizer.schedule = 'constant'   # constant | cosine | linear | exponential, after the warm-up
  optimizer.warmup_steps = 0        # of a linear rise from 0
  optimizer.end_factor = 0.         # last learning rate over the peak
  optimizer.weight_decay = 0.       # coupled (L2) before adam, adamax, sgd; decoupled in adamw
  optimizer.clip_norm = 0.          # global norm of the gradient; 0: no clipping
  optimizer.b1 = .9                 # adam, adamw, adamax: decay of the first moment
  optimizer.b2 = .999               # ... and of the second
  optimizer.eps = 1e-8              # ... and what is added to its root
  optimizer.momentum = 0.           # sgd only
  return optimizer


def _eval():
  config = ConfigDict()
  config.every = 1000               # updates between evaluations on clean validation data; 0: never
  config.valid_examples = 0         # ... so many of them, spread over all; 0: all of the split
  config.batch_size = 256           # examples or samples in one call
  config.params = 'raw'             # raw | ema
  config.refresh = True             # recompute running statistics on clean training data before
  config.refresh_examples = 10_000   # ... from so many of its examples at most, spread over all
  config.refresh_batch_size = 1_000  # pooled moments of several; one that holds all is exact
  config.best_metric = 'log_likelihood'   # larger is better; keeps best/; '' keeps none
  config.patience = 0               # evaluations without a better one before stopping; 0: never
  config.sample_every = 0           # updates between grids in samples/; 0: none
  config.num_samples = 64           # in a grid
  config.temperature = 1.           # of samples, everywhere
  config.importance_samples = 5_000   # draws of a latent per example for --metrics=importance
  # ... of which so many at a time; divides them. A call has eval.batch_size of examples times these
  config.importance_chunk = 10
  config.quantize = 'floor'         # floor (paper) | round: how samples become uint8
  return config


def finish(config, arg):
  """Apply `key=value[,key=value]` (dotted keys) and lock: an unknown key or type is an error."""
  config.lock()
  for pair in filter(None, _BETWEEN_PAIRS.split(arg)):
    key, equals, text = pair.partition('=')
    if not equals:
      raise ValueError(f'a config variant reads key=value, got {pair!r}.')
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
      value = text   # the last two are the parser's, of very deep brackets
    set_key(config, key, value)
  return config


def set_model(config, name, **options):
  """Name the model of a run file; every option of its becomes a key, at its default or as given.

  `config.model` then holds `name` and the constructor's arguments (mollification/models), so that
  `config.model.beta` can be changed from the command line without being in the run file.
  """
  from mollification import models  # flax: only files that name a model wait for it
  keys = ConfigDict({'name': name})
  for option, (kind, value) in models.options(name).items():
    keys[option] = config_dict.placeholder(kind) if value is None else value
  keys.lock()
  keys.update(options)
  with config.unlocked():
    config.model = keys


def set_key(config, key, value):
  """Set one dotted key; raises ValueError on an unknown key or another type, naming both."""
  known = dict(_keys(config))
  if key not in known:
    close = difflib.get_close_matches(key, known, 1)
    hint = f'did you mean {close[0]!r}?' if close else 'all keys stand in configs/default.py.'
    raise ValueError(f'unknown config key {key!r}; {hint}')
  value = tuple(value) if isinstance(value, list) else value
  try:
    # Python takes a bool for a number and ConfigDict a None for anything.
    if value is None or (isinstance(value, bool) and known[key] is not bool):
      raise TypeError
    config.update_from_flattened_dict({key: value})
  except (TypeError, OverflowError):
    raise ValueError(f'config key {key!r} takes {KINDS[known[key]]}, got {value!r}.') from None


def _keys(config, prefix=''):
  """(dotted key, type) of every key."""
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _keys(value, f'{prefix}{key}.')
    else:
      yield prefix + key, config.get_type(key)
