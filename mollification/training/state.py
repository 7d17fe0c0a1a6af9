"""What a run carries from one update to the next, and all that a checkpoint holds."""
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class TrainState:
  """`step` counts updates done, skipped ones included; everything else is a pytree of arrays."""
  step: Any            # [] int32
  params: Any
  model_state: Any     # collections other than 'params', e.g. running statistics
  opt_state: Any
  ema_params: Any      # like params, or None
  skipped: Any         # [] int32, non-finite updates so far
  skipped_in_row: Any  # [] int32, of which in a row up to now

  @classmethod
  def create(cls, variables, tx, *, ema=False):
    """The state before the first update; `variables` as `model.init` returns them."""
    variables = dict(variables)
    params = variables.pop('params')
    # A buffer of its own for every leaf: the step donates the state, and a buffer cannot be
    # given away twice.
    return cls(step=jnp.zeros((), jnp.int32), params=params, model_state=variables,
               opt_state=tx.init(params), ema_params=_copy(params) if ema else None,
               skipped=jnp.zeros((), jnp.int32), skipped_in_row=jnp.zeros((), jnp.int32))


def is_finite(state):
  """Whether what the next update builds on is: parameters, their mean, the optimizer's numbers."""
  leaves = map(np.asarray, jax.tree.leaves((state.params, state.ema_params, state.opt_state)))
  return all(np.isfinite(leaf).all() for leaf in leaves)


def _copy(tree):
  return jax.tree.map(jnp.array, tree)
