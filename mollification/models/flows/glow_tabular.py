"""GLOW (Kingma & Dhariwal 2018) on tables."""
from mollification.models.flows import tabular
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.linear import LULinear


def glow_tabular(event_shape, num_blocks=5, hidden=512, momentum=.9, learned_base=False,
                 classes=0, inverse_error=0, dropout=0., level_condition=False, dtype='float32',
                 axis_name=None):
  """The tabular GLOW: `num_blocks` × [BatchNorm, LU-decomposed linear map, masked affine coupling].

  Masks, options and errors as in `realnvp_tabular`.
  """
  tabular.check(event_shape, num_blocks, hidden, 'a coupling')

  def block(parity):
    coupling = MaskedAffineCoupling(parity, hidden, dropout, dtype)
    return BatchNorm(axis_name, momentum), LULinear(), coupling

  return tabular.tabular_flow(event_shape, tabular.alternating(block, num_blocks),
                              learned_base=learned_base, classes=classes,
                              inverse_error=inverse_error, dropout=dropout,
                              level_condition=level_condition, axis_name=axis_name)
