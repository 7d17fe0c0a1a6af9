"""config -> Run: the only reader of a config. Whatever a key does, it does from here."""
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mollification import check, curricula, data, models, overview, parallel, preprocess, rng
from mollification.build_mollify import (
  level_condition,
  mollified_steps,
  mollifier,
  noise_left,
  sample_fn,
  schedule,
)
from mollification.data import dataset as batches
from mollification.evaluation import batching, likelihood, pictures, sampling
from mollification.models import base
from mollification.training import optimizers, step
from mollification.training.run import Evaluation, Run
from mollification.training.state import TrainState

# Keys of config.data that only some data sets take; 0 leaves them at the data set's own default.
DATA_OPTIONS = ('download', 'size', 'channels', 'stride', *data.SIZES, 'intrinsic', 'ambient',
                'curvature', 'noise')
# Rows of the first global batch that layers which start from data are given: every process runs
# them all on one device, where the batch of many devices may not fit. No config has a larger batch.
INIT_ROWS = 1024


def build(config, dataset=None):
  """The Run of a config; raises ValueError (rule, value, way out) on what cannot be run.

  `dataset` is loaded from the config unless given.
  """
  if dataset is None:
    _check_before_data(config)
    dataset = load_data(config)
  check.check(config, mollified_steps(config))
  check.check_examples(config, dataset.train.num_examples)
  check.check_likelihood(config, dataset.levels, mollified_steps(config))
  evaluation = build_evaluation(config, dataset)
  per_epoch = steps_per_epoch(config, dataset)
  sample_grid = None
  if dataset.levels is not None:
    draw = pictures.make_pictures(
      evaluation.model, evaluation.prepare,
      pictures.spread(dataset.validation.x, config.eval.num_samples),
      levels=dataset.levels, batch_size=config.eval.batch_size)
    sample_grid = functools.partial(_grids, evaluation, config.eval.num_samples,
                                    lambda v: draw(v, rng.purpose_key(config.seed, 'sample')))
  return Run(
    create_state=lambda: parallel.place(
      parallel.state_of_first(_create_state(config, dataset))),
    train_step=train_step(config, dataset.event_shape, dataset.levels),
    schedule=schedule(config, per_epoch),
    batch=functools.partial(host_batch, config, dataset.train),
    evaluate=functools.partial(_evaluate, evaluation,
                               dataset.validation.spread(config.eval.valid_examples)),
    sample=sample_grid,
    data=summaries(dataset),
    overview=overview.text(config, dataset, evaluation, mollified_steps(config)),
    seed=config.seed, total_steps=config.total_steps,
    mollified_steps=mollified_steps(config), batch_size=config.batch_size,
    steps_per_call=config.steps_per_call, max_nonfinite=config.max_nonfinite,
    log_every=config.log.every, log_stdout=config.log.stdout, tensorboard=config.log.tensorboard,
    watchdog=config.log.watchdog,
    eval_every=config.eval.every, sample_every=config.eval.sample_every,
    patience=config.eval.patience, best_metric=config.eval.best_metric,
    save_every=config.checkpoint.every, keep=config.checkpoint.keep,
    keep_every=config.checkpoint.keep_every)


def build_evaluation(config, dataset=None):
  """The Evaluation of a config."""
  dataset = load_data(config) if dataset is None else dataset
  net = model(config, dataset.event_shape)
  prepare = dataclasses.replace(prepare_fn(config, dataset.levels), flip=False)
  evaluator = likelihood.make_evaluator(
    functools.partial(net.apply, method='log_likelihood'), prepare,
    batch_size=config.eval.batch_size)
  # A figure of samples fails on one that is not finite; a picture of them shows what there is.
  scored, counted, shown = (sampling.make_sampler(
    sample_fn(config, net), functools.partial(prepare.invert, quantize=config.eval.quantize),
    batch_size=config.eval.batch_size, temperature=config.eval.temperature, **options)
    for options in ({'shared': True}, {'shared': True, 'allow_nonfinite': True},
                    {'allow_nonfinite': True}))
  keys = {purpose: rng.purpose_key(config.seed, purpose) for purpose in ('evaluate', 'sample')}
  return Evaluation(
    dataset=dataset, model=net, prepare=prepare,
    variables=_of_last(functools.partial(model_variables, config, net, prepare, dataset.train)),
    log_likelihood=lambda variables, split: evaluator(
      variables, split.x, keys['evaluate'], cond=split.one_hot(num_classes(config))),
    importance=_importance(config, net, prepare, keys['evaluate']),
    sample=lambda variables, n, allow_nonfinite=False: (counted if allow_nonfinite else scored)(
      variables, keys['sample'], n, cond=_in_turn(config, n)),
    show=lambda variables, n: shown(variables, keys['sample'], n, cond=_in_turn(config, n)),
    template=lambda: parallel.abstract(
      jax.eval_shape(functools.partial(_create_state, config, dataset))))


def _importance(config, net, prepare, key):
  if net.EXACT_LIKELIHOOD:
    return None
  bound = functools.partial(net.apply, method='importance_bound',
                            num_samples=config.eval.importance_samples,
                            chunk=config.eval.importance_chunk)
  evaluator = likelihood.make_evaluator(bound, prepare, batch_size=importance_batch(config))
  return lambda variables, split: evaluator(variables, split.x, key)


def importance_batch(config):
  """Examples in one call of the importance-weighted bound: with their draws eval.batch_size rows.

  So it takes the memory of other evaluations, whose rows are examples; the draws are the same.
  """
  draws, chunk = config.eval.importance_samples, config.eval.importance_chunk
  return max(config.eval.batch_size // min(chunk or draws, draws), 1)


def load_data(config):
  """The Dataset that the config names."""
  with check.keys_of(config, 'data'):
    return data.load(config.data.name, data_dir=config.data.data_dir,
                     cache_dir=config.data.cache_dir, **_data_options(config))


def spec(config):
  """`data.spec` of the data that the config names."""
  return data.spec(config.data.name, **_data_options(config))


def _data_options(config):
  return {key: config.data[key] for key in DATA_OPTIONS if config.data[key]}


def _check_before_data(config):
  """Raise what is wrong whatever the data hold: to fetch and convert them may take hours."""
  schedule(config, 1)
  optimizer(config)
  check.check(config, mollified_steps(config))
  check.check_likelihood(config, data.levels(config.data.name), mollified_steps(config))
  if config.data.name not in data.SHAPED_BY_FILES:
    event_shape, _, levels = spec(config)
    train_step(config, event_shape, levels)
    initialiser(config, event_shape, levels)
    with check.keys_of(config, 'model'):   # to trace `loss` may take a minute, this takes none
      jax.eval_shape(lambda: model(config, event_shape).init(jax.random.key(0), method='check'))


def summaries(dataset):
  """{split: what a workdir keeps of its data, to know them again}."""
  return {name: batches.summary(getattr(dataset, name).x) for name in batches.SPLITS}


def model(config, event_shape):
  """The model of the config for events of `event_shape`, to be run under the axis 'batch'."""
  options = dict(config.model)
  name = options.pop('name')
  strange = sorted(set(options) - set(models.options(name)))
  if strange:
    raise ValueError(f'model.{strange[0]} is no option of {name!r}; take a run file that names '
                     'this model, whose options come with the name.')
  with check.keys_of(config, 'model'):
    return models.create(name, event_shape, parallel.AXIS, **options)


def optimizer(config):
  """The optax chain of the config."""
  c = config.optimizer
  with check.keys_of(config, 'optimizer'):
    rate = optimizers.learning_rate(
      c.schedule, peak=c.learning_rate, total_steps=config.total_steps,
      warmup_steps=c.warmup_steps, end_factor=c.end_factor)
    return optimizers.create(c.name, rate, weight_decay=c.weight_decay, clip_norm=c.clip_norm,
                             b1=c.b1, b2=c.b2, eps=c.eps, momentum=c.momentum)


def prepare_fn(config, levels):
  """The training `prepare` for data of so many grey levels (None: tables)."""
  c = config.prepare
  with check.keys_of(config, 'prepare'):
    return preprocess.Prepare(levels=levels, dequantize=c.dequantize, low=c.low, high=c.high,
                              logit_alpha=c.logit_alpha, flip=c.flip)


def train_step(config, event_shape, levels):
  """The bound update of training/step.py, for events of `event_shape` and so many grey levels."""
  net = model(config, event_shape)
  noise_left(config, net)   # what cannot be denoised should not be trained
  update = functools.partial(
    step.train_step, prepare=prepare_fn(config, levels), mollify=mollifier(config, event_shape),
    loss_fn=loss_fn(net), tx=optimizer(config),
    total_steps=config.total_steps, ema_decay=config.ema_decay, accumulate=config.accumulate)
  with check.keys_of(config, 'mollify'):
    return curricula.by_example(update, spread_by=config.mollify.spread,
                                conditioned=level_condition(config))


def loss_fn(net):
  """What the update differentiates: params and model_state in, loss [B] and model_state out."""

  def fn(params, model_state, x, keys, progress, cond, mask):
    variables = {'params': params, **model_state}
    (loss, metrics), new_state = net.apply(
      variables, x, keys, train=True, progress=progress, cond=cond, mask=mask, method='loss',
      mutable=list(model_state))
    return loss, metrics, dict(new_state), net.apply(variables, method='penalty')

  return fn


def create_state(config, batch, levels, level):
  """TrainState initialised on one stored batch [B, *event], mollified to `level` or clean.

  Under the seed's own keys, so that runs that differ in mollification alone start alike.
  """
  # Key and level are arguments: runs that differ in seed or arm share the compiled program.
  with check.keys_of(config, 'model'):   # a model looks at its options when it is first traced
    return initialiser(config, batch.shape[1:], levels)(
      batch, rng.purpose_key(config.seed, 'init'), level)


def initialiser(config, event_shape, levels):
  """(batch [B, *event], key, level) -> TrainState, compiled."""
  net = model(config, event_shape)
  if config.mollify.init_on not in ('mollified', 'clean'):
    raise ValueError("mollify.init_on must be 'mollified' or 'clean', got "
                     f'{config.mollify.init_on!r}.')

  def init(batch, root, level):
    key, draws = jax.random.split(root)
    data_keys, noise_keys, model_keys = rng.step_keys(draws, 0, 0, len(batch))
    x = prepare_fn(config, levels)(batch, data_keys)
    if config.mollify.init_on == 'mollified':
      level, noise_keys = curricula.of_examples(level, noise_keys, config.mollify.spread)
      x = mollifier(config, event_shape)(x, level, noise_keys)
    # The layers' collective axis, of size 1: the statistics are those of the global batch.
    cond = jnp.zeros((len(batch), num_classes(config))) if num_classes(config) else None
    variables = jax.vmap(
      lambda x, keys: net.init(key, x, keys, train=True, cond=cond, method='loss'),
      axis_name=parallel.AXIS)(x[None], model_keys[None])
    return TrainState.create(jax.tree.map(lambda a: a[0], variables), optimizer(config),
                             ema=config.ema_decay > 0)

  return jax.jit(init)


def smoke(config, batch_size=0):
  """A copy of the config that ends after a few small updates: does it run at all?

  0: a `batch_size` of 8 on each device here, where another one asks for no device and accumulates
  nothing.
  """
  config = config.copy_and_resolve_references()
  size = config.steps_per_call = min(config.steps_per_call, 2)
  config.total_steps = 4 * size
  if batch_size:
    config.batch_size, config.accumulate = min(config.batch_size, batch_size), 1
  else:
    config.batch_size = min(config.batch_size, 8 * jax.device_count())
    config.accumulate = math.gcd(config.accumulate, config.batch_size // jax.device_count())
  config.mollify.steps = min(config.mollify.steps, 2 * size)
  config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, size)
  config.log.every = size
  config.eval.every = config.checkpoint.every = 2 * size
  config.eval.sample_every = 2 * size if config.eval.sample_every else 0
  config.checkpoint.keep_every = 2 * size if config.checkpoint.keep_every else 0
  config.eval.num_samples = min(config.eval.num_samples, 4)
  config.eval.refresh_examples = min(config.eval.refresh_examples, 64)
  config.eval.importance_samples = min(config.eval.importance_samples,
                                       config.eval.importance_chunk or 10)
  return config


def steps_per_epoch(config, dataset):
  """Updates in one pass over the training examples."""
  return _steps_per_epoch(config, dataset.train)


def _steps_per_epoch(config, split):
  with check.keys_of(config, 'data'):
    return batches.steps_per_epoch(split.num_examples, config.batch_size, config.data.remainder)


def _create_state(config, dataset):
  """TrainState of the first `INIT_ROWS` of the first global batch, by every process alone.

  Data-dependent layers then start alike on any number of devices.
  """
  batch, _, _ = _rows(config, dataset.train, 0, 1, slice(INIT_ROWS))
  level = schedule(config, steps_per_epoch(config, dataset))(0)
  return create_state(config, batch[0], dataset.levels, level)


def host_batch(config, split, first, count):
  """(batch [count, B, *event], cond, mask [count, B]) of `count` updates: this process's part."""
  return _rows(config, split, first, count, parallel.batch_share(config.batch_size))


def _rows(config, split, first, count, part):
  """What `host_batch` returns, of the rows `part` (a slice) of each global batch."""
  picked = [batches.batch_indices(first + i, seed=config.seed, num_examples=split.num_examples,
                                  batch_size=config.batch_size, remainder=config.data.remainder)
            for i in range(count)]
  indices = np.stack([indices[part] for indices, _ in picked])
  rows = batches.gather(split.x, indices.ravel()).reshape(*indices.shape, *split.x.shape[1:])
  mask = np.stack([mask[part] for _, mask in picked]) if config.data.remainder == 'pad' else None
  cond = split.one_hot(num_classes(config), indices.ravel())
  return rows, None if cond is None else cond.reshape(*indices.shape, -1), mask


def num_classes(config):
  """Classes that the model is conditioned on, as one-hot labels; 0 for none."""
  return config.model.classes if 'classes' in config.model else 0


def _in_turn(config, n):
  """Conditions [n, classes] of samples: one class after another, from the first again."""
  classes = num_classes(config)
  return np.eye(classes, dtype=np.float32)[np.arange(n) % classes] if classes else None


def model_variables(config, net, prepare, split, state, key=None):
  """Model variables of the configured parameters; running statistics of clean data.

  Where the noise is the model's own (it is conditioned on the level, or its samples are denoised)
  they are of data as the last update had them: else what is evaluated is not what was trained.
  Draws are of `key`, that of the config's seed for None.
  """
  params = state.ema_params if config.eval.params == 'ema' else state.params
  variables = {'params': params, **state.model_state}
  if not config.eval.refresh:
    return variables
  return {'params': params, **base.refresh(
    net, variables, _batches_to_refresh(config, net, prepare, split, key))}


def _of_last(fn):
  """`fn` of one argument, which answers at once where it is asked for the same object again."""
  last = [None, None]

  def call(argument):
    if last[0] is not argument:
      last[:] = argument, fn(argument)
    return last[1]

  return call


def _batches_to_refresh(config, net, prepare, split, key):
  count = min(split.num_examples, config.eval.refresh_examples)
  key = rng.purpose_key(config.seed, 'refresh') if key is None else key
  noisy = config.mollify.denoise or level_condition(config)
  last = schedule(config, _steps_per_epoch(config, split))(config.total_steps - 1)
  spread = batches.spread_rows(split.num_examples, count)
  for first in range(0, count, config.eval.refresh_batch_size):
    rows = spread[first:first + config.eval.refresh_batch_size]
    batch = jnp.asarray(split.x[rows])
    data_keys, noise_keys, model_keys = rng.step_keys(key, 0, first, len(batch))
    x, cond = prepare(batch, data_keys), split.one_hot(num_classes(config), rows)
    if noisy:
      levels, noise_keys = curricula.of_examples(last, noise_keys, config.mollify.spread)
      x = mollifier(config, x.shape[1:])(x, levels, noise_keys)
    if level_condition(config):
      cond = curricula.condition(jnp.broadcast_to(levels, noise_keys.shape))
    # What is exact needs no draws; given keys, a flow would drop units out.
    yield x, None if net.EXACT_LIKELIHOOD else model_keys, None, cond
    batching.sign()


def _evaluate(evaluation, split, state):
  """{name: value} on (a part of) the validation split: what the loop logs and chooses by."""
  result = evaluation.log_likelihood(evaluation.variables(state), split)
  values = {'log_likelihood': result.mean, 'log_likelihood_sem': result.sem,
            'nonfinite': result.nonfinite}
  return values | ({} if result.bits_per_dim is None else {'bits_per_dim': result.bits_per_dim})


def _grids(evaluation, n, draw, state):
  """({folder: grid} of samples and of what else the model has to show, {name: figure of samples}).

  What fails in practice is to invert draws, not to invert what data are mapped to.
  """
  variables = evaluation.variables(state)
  samples = evaluation.show(variables, n)
  grid = sampling.grid(samples.x, math.ceil(math.sqrt(n)), levels=evaluation.dataset.levels, gap=1)
  return ({'samples': grid, **draw(variables)},
          {'nonfinite_share': samples.nonfinite / samples.n})
