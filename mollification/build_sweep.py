"""configs -> Sweep: many runs of one small model as one compiled program."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mollification import build, check, parallel, rng
from mollification.data import dataset as batches
from mollification.training.sweep import Sweep


def build_sweep(configs, dataset=None, observe=None):
  """The Sweep of configs that differ in nothing but the seed and the curve of levels.

  For flows of tables and 2-D densities: a sweep evaluates on validation and test data, every
  `eval.every` updates, what needs no draws. `checkpoint.every` is the length of a compiled call.
  `observe` adds to each evaluation: (model, variables) -> {name: array}, traced.
  Raises ValueError on configs that differ in another key and on what `build` refuses.
  """
  config = configs[0]
  check.check_sweep(configs)
  dataset = build.load_data(config) if dataset is None else dataset
  for c in configs:
    check.check(c, build.mollified_steps(c), devices=1)   # a run is whole on one
    check.check_examples(c, dataset.train.num_examples)
  net = build.model(config, dataset.event_shape)
  if dataset.levels is not None or not net.EXACT_LIKELIHOOD or build.num_classes(config):
    raise ValueError('a sweep is for flows of tables and 2-D densities without classes, got model '
                     f'{config.model.name} on {dataset.name}; run such cells one by one.')
  per_epoch, every = build.steps_per_epoch(config, dataset), config.eval.every
  periods = config.total_steps // every
  prepare = build.prepare_fn(config, dataset.levels)
  return Sweep(
    create_states=functools.partial(_create_states, configs, dataset),
    update=parallel.with_global_keys(build.train_step(config, dataset.event_shape, None)),
    evaluate=functools.partial(_evaluate_in_sweep, config, net, prepare, observe),
    data={split: jnp.asarray(getattr(dataset, split).x) for split in batches.SPLITS},
    keys={purpose: jnp.stack([rng.purpose_key(c.seed, purpose) for c in configs])
          for purpose in ('train', 'refresh')},
    levels=np.stack([np.asarray(build.schedule(c, per_epoch)(np.arange(config.total_steps)))
                     for c in configs]).reshape(len(configs), periods, every),
    order=functools.partial(_order, configs, dataset.train.num_examples),
    evaluations_per_call=max(config.checkpoint.every // every, 1))


def _create_states(configs, dataset):
  """TrainState of all runs, stacked; each as `create_state` makes it."""
  init = build.initialiser(configs[0], dataset.event_shape, dataset.levels)
  per_epoch = build.steps_per_epoch(configs[0], dataset)
  states = []
  for config in configs:
    batch, _, _ = build.host_batch(config, dataset.train, 0, 1)
    level = build.schedule(config, per_epoch)(0)
    states.append(init(batch[0, :build.INIT_ROWS], rng.purpose_key(config.seed, 'init'), level))
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _order(configs, num_examples, first, count):
  """(int32 [R, count, S, B], bool [count, S, B]): rows of the batches, and which are real."""
  every, size = configs[0].eval.every, configs[0].batch_size
  steps = range(first * every, (first + count) * every)
  picked = {seed: [batches.batch_indices(step, seed=seed, num_examples=num_examples,
                                         batch_size=size, remainder=configs[0].data.remainder)
                   for step in steps] for seed in {c.seed for c in configs}}
  indices = {seed: np.stack([i for i, _ in found]).astype(np.int32).reshape(count, every, size)
             for seed, found in picked.items()}
  mask = np.stack([m for _, m in picked[configs[0].seed]]).reshape(count, every, size)
  return np.stack([indices[c.seed] for c in configs]), mask


def _evaluate_in_sweep(config, net, prepare, observe, state, data, key):
  """{name: array} of one run: mean log-likelihood of held-out data in nats, the error of test's."""
  train = batches.Split('train', data['train'])
  variables = build.model_variables(config, net, prepare, train, state, key)

  def log_likelihood(x):
    one = lambda row: net.apply(variables, row[None], None, method='log_likelihood')[0]
    return jax.lax.map(one, x, batch_size=config.eval.batch_size)

  test = log_likelihood(data['test'])
  return {'validation': log_likelihood(data['validation']).mean(), 'test': test.mean(),
          'test_sem': test.std(ddof=1) / math.sqrt(len(test)),
          **(observe(net, variables) if observe else {})}
