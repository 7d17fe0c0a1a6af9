"""What the flows of tables share: a flat event, few blocks one after another, a learned base.

The blocks are no `Repeat`: slices of stacked parameters and stacks of their gradients took a tenth
of an update on CPU, and five small blocks compile in seconds.
"""
import math

from mollification.models.dropout import check as check_dropout
from mollification.models.flows.bijector import Chain, Reshape
from mollification.models.flows.flow import Flow
from mollification.models.flows.multiscale import GaussianBase


def tabular_flow(event_shape, bijectors, *, learned_base=False, classes=0, inverse_error=0,
                 dropout=0., level_condition=False, axis_name=None):
  """The Flow of `bijectors` on the flattened event, onto N(0, I) or a learned base.

  `learned_base` makes the base a learned diagonal Gaussian; `classes` makes it class-conditional,
  with cond one-hot [B, classes], which the bijectors get too. `inverse_error` is that of `Flow`.
  `dropout` is the rate at which hidden units of the conditioners drop out in training.
  `level_condition` conditions the bijectors on the level of noise in each row, as SoftFlow does
  (Kim et al., 2020, arXiv 2006.04604); see `Flow`. Raises ValueError for a dropout outside of
  [0, 1), and for classes and the level at once.
  """
  check_dropout(dropout)
  if classes and level_condition:
    raise ValueError(f'level_condition is for flows without classes, got classes {classes}; a '
                     'flow has one condition.')
  layers = [Reshape(tuple(event_shape), (math.prod(event_shape),)), *bijectors]
  if learned_base or classes:
    layers.append(GaussianBase(classes))
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name,
              conditions=classes or int(level_condition),
              inverse_error=inverse_error, dropout=dropout > 0, of_level=level_condition,
              bijector=Chain(tuple(layers)))


def alternating(make, num_blocks):
  """The layers of `num_blocks` blocks, `make(parity)` of parity 0, 1, 0, ... one after another."""
  return tuple(layer for i in range(num_blocks) for layer in make(i % 2))


def check(event_shape, num_blocks, hidden, layer):
  """Raise ValueError for events of fewer than two numbers, and for no block or hidden unit."""
  size = math.prod(event_shape)
  if size < 2:
    raise ValueError(f'{layer} needs events of at least 2 numbers, got {size} in shape '
                     f'{tuple(event_shape)}; a single number has no other to be predicted from.')
  if num_blocks < 1:
    raise ValueError(f'num_blocks must be at least 1, got {num_blocks}.')
  if hidden < 1:
    raise ValueError(f'hidden must be at least 1, got {hidden}.')
