"""RealNVP (Dinh et al. 2017)."""
import math

from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain, Reshape
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.flow import Flow


def realnvp_tabular(event_shape, num_blocks=5, hidden=512, momentum=.9, axis_name=None):
  """The tabular RealNVP: `num_blocks` × [masked affine coupling, BatchNorm] on the flat event.

  The mask alternates between even and odd coordinates from block to block. `momentum` is that of
  the running statistics. Raises ValueError for events of fewer than two numbers, where no
  coordinate is left to condition on, and for less than one block.
  """
  size = math.prod(event_shape)
  if size < 2:
    raise ValueError(f'a coupling needs events of at least 2 numbers, got {size} in shape '
                     f'{tuple(event_shape)}.')
  if num_blocks < 1:
    raise ValueError(f'num_blocks must be at least 1, got {num_blocks}.')
  layers = [Reshape(tuple(event_shape), (size,))]
  for block in range(num_blocks):
    layers += [MaskedAffineCoupling(block % 2, hidden), BatchNorm(axis_name, momentum)]
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name, bijector=Chain(tuple(layers)))
