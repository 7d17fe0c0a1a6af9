"""The interface of every model, and `refresh`, which recomputes running statistics.

Shapes, here and in all of `models/`: B examples of a batch, N samples, D numbers of one example,
H, W, C height, width and channels of an image (NHWC), Z latents of a VAE. `event` is the shape of
one example. Everything is in model space, in nats, per example, batch first.

A model is used through `apply` with the method's name:

  variables = model.init(key, x, keys, train=True, method='loss')
  (loss, metrics), model_state = model.apply(
      variables, x, keys, train=True, method='loss', mutable=list(model_state))

Collection 'params' is learned; all other collections ('batch_stats', ...) are the `model_state`.
With `axis_name` set, `init` and training passes run under an axis of that name: `pmap`, or
`vmap(..., axis_name=...)`.
"""
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from mollification.models import moments


class Model(nn.Module, kw_only=True):
  """Interface of a likelihood-based model; it has no state, and no model derives from another.

  Fields of every model: `event_shape`, the shape of one example, and `axis_name`, the collective
  axis over which batch statistics are taken in training (None: this device's batch).
  `EXACT_LIKELIHOOD` says whether `log_likelihood` is exact (True) or a lower bound (False),
  `starts_from_data` whether `init` takes values from its batch (ActNorm) and not its shape alone.
  """
  EXACT_LIKELIHOOD: ClassVar[bool]
  starts_from_data: ClassVar[bool] = False

  event_shape: tuple[int, ...]
  axis_name: str | None = None

  def loss(self, x, keys, *, train, progress=1., cond=None, mask=None):
    """(loss [B] in nats, {name: [B]}) of x [B, *event]; its mean is what training minimises.

    `keys` [B] is the noise, or one key, which is split over the batch. `train` says whether
    statistics of the batch enter (True), by which its examples depend on each other, or not
    (False: running ones where there are any), and nothing else: draws are made either way.
    `progress` [] is the share of updates done. `cond` is a condition, [B, K], for models that take
    one; others raise ValueError. `mask` [B] bool, or None, marks with False the padded rows of a
    last partial batch: they do not enter batch statistics, and their own entries mean nothing.
    Pad with zeros or repeated rows: a padded row whose loss overflows makes gradients NaN.
    """
    raise NotImplementedError

  def log_likelihood(self, x, keys, cond=None):
    """Log-density [B] in nats of x [B, *event], or a bound on it; running statistics always.

    `keys` [B], or one key, are the noise of a bound; an exact likelihood ignores them.
    """
    raise NotImplementedError

  def sample(self, keys, *, temperature=1., cond=None):
    """Samples [N, *event], one per key of `keys` [N]; running statistics always.

    `temperature` scales the standard deviation of the base or prior.
    """
    raise NotImplementedError

  def check(self):
    """Raise ValueError where options do not fit each other or the event: nothing is computed.

    What `setup` looks at every method finds; a model asks parts of its that look at more.
    """

  def penalty(self):
    """Regulariser [] of the parameters, in nats, that is added to the mean loss; 0 by default."""
    return jnp.zeros(())


def check_events(model, x):
  """Raise ValueError unless x is a batch of the model's events: broadcasting would go on."""
  if x.shape[1:] != model.event_shape:
    raise ValueError(f'this model is of events {model.event_shape}, got a batch of shape '
                     f'{x.shape}; the batch comes first.')


def refresh(model, variables, batches):
  """model_state of `variables` with running statistics recomputed on `batches`; a new pytree.

  Each batch is `(x, keys)`, `(x, keys, mask)` or `(x, keys, mask, cond)`, as for `Model.loss`.
  Every layer is normalised by its own batch statistics on the way. One batch that holds the whole
  training set gives exactly its statistics (the protocol of the paper's tabular code: momentum 0,
  one pass over the clean data); several give pooled moments, mean of means and
  E[var + mean^2] - mean^2, weighted by the number of unmasked rows.

  A model without batch statistics gets its model_state back, and `batches` is not read. Raises
  ValueError if there are statistics to compute and no batch. Compiled once per batch shape.
  """
  model_state = {name: value for name, value in variables.items() if name != 'params'}
  if not model_state.get('batch_stats'):
    return model_state
  pooled = None
  for batch in batches:
    found = _moments_of_batch(model, variables, batch)
    pooled = found if pooled is None else _merge(pooled, found)
  if pooled is None:
    raise ValueError('refresh needs at least one batch to compute statistics from, got none; '
                     'pass the clean training set as one batch or several.')
  stats = traverse_util.flatten_dict(model_state['batch_stats'])
  # Other state may live in 'batch_stats' too (spectral norms): only moments are replaced.
  for (*layer, _), found in traverse_util.flatten_dict(pooled).items():
    stats[(*layer, 'mean')], stats[(*layer, 'var')] = found.mean, found.var
  return {**model_state, 'batch_stats': traverse_util.unflatten_dict(stats)}


@partial(jax.jit, static_argnums=0)
def _moments_of_batch(model, variables, batch):
  """Collection of `Moments`, one per BatchNorm, of one `batch` passed through `model`."""
  def run(x, keys, mask=None, cond=None):
    # All state is mutable, as in a training pass; of what comes back only the moments are kept.
    _, found = model.apply(variables, x, keys, train=True, mask=mask, cond=cond, method='loss',
                           mutable=[*(set(variables) - {'params'}), moments.COLLECTION])
    return found[moments.COLLECTION]

  if model.axis_name is None:
    return run(*batch)
  # The layers reduce over an axis of that name: give them one of size 1.
  mapped = jax.vmap(run, axis_name=model.axis_name)(*jax.tree.map(lambda a: a[None], batch))
  return jax.tree.map(lambda a: a[0], mapped)


@jax.jit
def _merge(a, b):
  return jax.tree.map(moments.merge, a, b, is_leaf=lambda n: isinstance(n, moments.Moments))
