"""RealNVP (Dinh et al. 2017) on tables."""
from mollification.models.flows import tabular
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.coupling import MaskedAffineCoupling


def realnvp_tabular(event_shape, num_blocks=5, hidden=512, momentum=.9, learned_base=False,
                    classes=0, inverse_error=0, dropout=0., level_condition=False, dtype='float32',
                    axis_name=None):
  """The tabular RealNVP: `num_blocks` × [masked affine coupling, BatchNorm] on the flat event.

  The mask alternates between even and odd coordinates from block to block. `momentum` is that of
  the running statistics, `dtype` the type in which the nets of the couplings compute ('float32' or
  'bfloat16'); the other options are those of `tabular_flow`. Raises ValueError for events of fewer
  than two numbers, where no coordinate is left to condition on, for less than one block or hidden
  unit, and for another type.
  """
  tabular.check(event_shape, num_blocks, hidden, 'a coupling')

  def block(parity):
    return MaskedAffineCoupling(parity, hidden, dropout, dtype), BatchNorm(axis_name, momentum)

  return tabular.tabular_flow(event_shape, tabular.alternating(block, num_blocks),
                              learned_base=learned_base, classes=classes,
                              inverse_error=inverse_error, dropout=dropout,
                              level_condition=level_condition, axis_name=axis_name)
