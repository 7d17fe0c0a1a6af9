"""The contract of all bijectors, and those that only connect others.

*Forward* is data -> latent, everywhere; the inverse generates. Both return a log-determinant [B]:
of dz/dx forward, of dx/dz inverse, so at matching points they are opposite.
"""
import math
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mollification.models.dropout import part_keys


class Bijector(nn.Module):
  """Interface of an invertible layer; it has no state.

  `draws` says whether its forward map takes `keys`.
  """
  draws: ClassVar[bool] = False

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    """(z [B, *event'], log |det dz/dx| [B]) of x [B, *event].

    `train` chooses batch (True) or running (False) statistics, `mask` [B] bool leaves rows out of
    the batch's, `cond` [B, K] is a condition; a layer that has no use for one of them ignores it.
    Layers that `draw` also take `keys` [B], the noise of their dropout, or None for none.
    """
    raise NotImplementedError

  def inverse_and_log_det(self, z, *, cond=None):
    """(x [B, *event], log |det dx/dz| [B]) of z [B, *event']; running statistics always."""
    raise NotImplementedError


def positions(x):
  """Positions of an event of x [B, ..., C]: H W of an image, 1 of a vector.

  Raises ValueError for an x that is no batch.
  """
  if x.ndim < 2:
    raise ValueError(f'a bijector needs a batch of events [B, ..., C], got shape {x.shape}; the '
                     'batch comes first.')
  return math.prod(x.shape[1:-1])


class Chain(Bijector):
  """`bijectors` one after another, the first nearest to the data; log-determinants add up."""
  bijectors: tuple[Bijector, ...]
  draws: ClassVar[bool] = True

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None, keys=None):
    total = jnp.zeros(x.shape[0])
    for i, bijector in enumerate(self.bijectors):
      own = {'keys': part_keys(keys, i)} if bijector.draws else {}
      x, log_det = bijector.forward_and_log_det(x, train=train, mask=mask, cond=cond, **own)
      total += log_det
    return x, total

  def inverse_and_log_det(self, z, *, cond=None):
    total = jnp.zeros(z.shape[0])
    for bijector in reversed(self.bijectors):
      z, log_det = bijector.inverse_and_log_det(z, cond=cond)
      total += log_det
    return z, total


class Reshape(Bijector):
  """Events of `event_shape` to events of `new_shape`, in C order; log-determinant 0.

  Raises ValueError if the two differ in size, and for events of other shapes.
  """
  event_shape: tuple[int, ...]
  new_shape: tuple[int, ...]

  def setup(self):
    if math.prod(self.event_shape) != math.prod(self.new_shape):
      raise ValueError(f'cannot reshape events of shape {self.event_shape} to {self.new_shape}: '
                       'they differ in size.')

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    _check_shape(x, self.event_shape)
    return x.reshape(x.shape[0], *self.new_shape), jnp.zeros(x.shape[0])

  def inverse_and_log_det(self, z, *, cond=None):
    _check_shape(z, self.new_shape)
    return z.reshape(z.shape[0], *self.event_shape), jnp.zeros(z.shape[0])


def _check_shape(x, shape):
  if x.shape[1:] != tuple(shape):
    raise ValueError(f'events here are of shape {tuple(shape)}, got {x.shape[1:]}.')
