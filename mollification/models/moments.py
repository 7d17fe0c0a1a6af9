"""Batch moments and their running averages: the one source of statistics for every BatchNorm.

`flax.linen.BatchNorm` averages the masked means of the shards, which is not the masked mean of
the batch when the shards hold different numbers of padded rows. The moments here are sums over
the collective axis divided by the summed count, so they are those of the whole unpadded batch.
"""
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# Collection in which a training pass leaves raw batch statistics, if the caller makes it mutable.
COLLECTION = 'batch_moments'


class Moments(NamedTuple):
  """Statistics per channel: `mean` [C], `var` [C] (biased, plus epsilon), `count` [] of rows."""
  mean: jax.Array
  var: jax.Array
  count: jax.Array


def batch_moments(x, *, epsilon=0., mask=None, axis_name=None):
  """Moments of x [B, ..., C] over all axes but the last, and over `axis_name` if given.

  `mask` [B] bool leaves out the rows where it is False, exactly, whatever their number on each
  shard. Two passes (the mean first, then the squares about it): E[x^2] - E[x]^2 loses all digits
  for a channel whose mean is large against its spread.
  """
  rows = (x.shape[0],) + (1,) * (x.ndim - 1)
  if mask is not None and mask.shape != x.shape[:1]:
    raise ValueError(f'mask must have one entry per example, {x.shape[:1]}, got {mask.shape}.')
  keep = jnp.ones(rows, bool) if mask is None else mask.reshape(rows)
  positions = x.size // (x.shape[0] * x.shape[-1])

  def total(values):
    return values if axis_name is None else jax.lax.psum(values, axis_name)

  def mean_of(values):
    summed = jnp.sum(jnp.where(keep, values, 0.), axis=tuple(range(x.ndim - 1)))
    return total(summed) / jnp.maximum(count, 1.)

  count = total(jnp.sum(keep, dtype=jnp.float32) * positions)
  mean = mean_of(x)
  centred = x - jnp.broadcast_to(mean, x.shape)
  return Moments(mean, mean_of(centred**2) + epsilon, count)


def merge(a, b):
  """Moments of the union of two sets of rows; with an empty `a` it is `b`, bit for bit.

  Those of K scanned layers at once are stacked: mean and var [K, C], count [K].

  mean = mean of means, var = E[var + mean^2] - mean^2, both weighted by count, in the form
  w_a var_a + w_b var_b + w_a w_b (mean_b - mean_a)^2 that does not cancel.
  """
  count = a.count + b.count
  w = (b.count / jnp.maximum(count, 1.))[..., None]
  delta = b.mean - a.mean
  return Moments(a.mean + w * delta,
                 (1. - w) * a.var + w * b.var + w * (1. - w) * delta**2,
                 count)


class RunningMoments(nn.Module):
  """Statistics that a BatchNorm divides by: of the batch in training, else the running ones.

  `batch_stats` holds `mean` [C] and `var` [C]; `var` includes `epsilon`, so that what is stored
  is what is divided by. Each training pass with a mutable `batch_stats` moves them,
  `running = momentum * running + (1 - momentum) * batch`; gradients flow through the batch's own.
  If the caller makes `batch_moments` mutable, the raw `Moments` of the batch are left there for
  `base.refresh`. A part of a batch that is all padding, as accumulation may make one, has no
  statistics: the running ones are taken, and stay.
  """
  momentum: float = .9
  epsilon: float = 1e-5
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    """(mean [C], var [C]) for x [B, ..., C]."""
    size = x.shape[-1:]
    mean = self.variable('batch_stats', 'mean', jnp.zeros, size)
    var = self.variable('batch_stats', 'var', jnp.ones, size)
    if not train:
      return mean.value, var.value
    moments = batch_moments(x, epsilon=self.epsilon, mask=mask, axis_name=self.axis_name)
    if mask is not None:
      own = Moments(mean.value, var.value, moments.count)
      moments = jax.tree.map(lambda a, b: jnp.where(moments.count > 0., a, b), moments, own)
    # `init` runs the loss once and must leave the statistics where they start.
    if not self.is_initializing():
      if self.is_mutable_collection('batch_stats'):
        mean.value = self.momentum * mean.value + (1. - self.momentum) * moments.mean
        var.value = self.momentum * var.value + (1. - self.momentum) * moments.var
      if self.is_mutable_collection(COLLECTION):
        self.put_variable(COLLECTION, 'moments', moments)
    return moments.mean, moments.var
