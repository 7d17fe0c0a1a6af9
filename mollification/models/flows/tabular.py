"""What the flows of tables share: a flat event, blocks in one traced body, a learned base."""
import math

from mollification.models.flows.bijector import Chain, Reshape
from mollification.models.flows.flow import Flow
from mollification.models.flows.multiscale import GaussianBase
from mollification.models.flows.repeat import Repeat


def tabular_flow(event_shape, bijectors, *, learned_base=False, classes=0, axis_name=None):
  """The Flow of `bijectors` on the flattened event, onto N(0, I) or a learned base.

  `learned_base` makes the base a learned diagonal Gaussian; `classes` makes it class-conditional,
  with cond one-hot [B, classes], which the bijectors get too.
  """
  layers = [Reshape(tuple(event_shape), (math.prod(event_shape),)), *bijectors]
  if learned_base or classes:
    layers.append(GaussianBase(classes))
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name, bijector=Chain(tuple(layers)))


def alternating(make, num_blocks):
  """`num_blocks` blocks whose masks alternate: pairs of them in one traced body, then the odd one.

  `make(parity)` gives the layers of a block of parity 0 or 1.
  """
  pairs = Repeat(Chain((*make(0), *make(1))), num_blocks // 2) if num_blocks > 1 else None
  rest = make(0) if num_blocks % 2 else ()
  return ((pairs,) if pairs else ()) + tuple(rest)


def check(event_shape, num_blocks, layer):
  """Raise ValueError for events of fewer than two numbers and for less than one block."""
  size = math.prod(event_shape)
  if size < 2:
    raise ValueError(f'{layer} needs events of at least 2 numbers, got {size} in shape '
                     f'{tuple(event_shape)}; a single number has no other to be predicted from.')
  if num_blocks < 1:
    raise ValueError(f'num_blocks must be at least 1, got {num_blocks}.')
