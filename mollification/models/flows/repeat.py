"""K copies of a bijector as one traced body: depth costs no compile time."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mollification.models import moments
from mollification.models.flows.bijector import Bijector

MEMORY = ('store', 'remat', 'invertible')
# Every collection that a step may own, each with the K copies along axis 0.
_STACKED = {'params': 0, 'fixed': 0, 'batch_stats': 0, moments.COLLECTION: 0}


class Repeat(Bijector):
  """`count` copies of `bijector`, one after another, each with variables of its own on axis 0.

  The copies share one compiled body (`lax.scan`). Data-dependent initialisation sees the output
  of the copy before. `memory` says what the backward pass keeps of the forward one:

    store       what autodiff wants, all activations of all copies;
    remat       the inputs of the copies, from which each copy's activations are computed again;
    invertible  the output of the last copy alone, from which each copy's input is recomputed by
                its inverse (Gomez et al. 2017): memory does not grow with `count`. Not for a copy
                with batch statistics, whose inverse in training is not that of the forward map,
                and for reverse-mode derivatives alone: jvp, jacfwd and hence Hessian-vector
                products raise TypeError, as of every `jax.custom_vjp`. The gradients are as good
                as the inverse: a copy that float32 cannot invert makes them NaN or wrong, which
                metric 'inverse_error' shows. Nets in bfloat16 are no such case: float32's error
                flips some roundings of their inputs, which moved the gradients of a GLOW of
                2 × 16 steps, after 400 updates on digits, by 5e-4 of their norm, and the
                roundings as such by 1e-2.

  With `alternate`, every second copy is called with swap=True, the others with False (traced). No
  `keys` reach the copies: in one that has dropout no unit drops out.
  """
  bijector: Bijector
  count: int
  memory: str = 'store'
  alternate: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.count < 1:
      raise ValueError(f'a bijector can be repeated once or more, got {self.count}.')
    if self.memory not in MEMORY:
      raise ValueError(f'memory must be one of {MEMORY}, got {self.memory!r}.')
    if self.alternate and self.memory == 'invertible':
      raise ValueError("memory 'invertible' is not for copies that alternate; use remat.")

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    if self.memory == 'invertible' and not self.is_initializing():
      return self._invertible_forward(x, train, mask, cond)

    def step(bijector, carry, index):
      x, total = carry
      z, log_det = bijector.forward_and_log_det(x, train=train, mask=mask, cond=cond,
                                                **self._swap(index))
      return (z, total + log_det), None

    if self.memory == 'remat':
      # Inside a scan nothing can merge the two computations: no barriers are needed.
      step = nn.remat(step, prevent_cse=False)
    return self._scan(step, x, reverse=False)

  def inverse_and_log_det(self, z, *, cond=None):
    def step(bijector, carry, index):
      z, total = carry
      x, log_det = bijector.inverse_and_log_det(z, cond=cond, **self._swap(index))
      return (x, total + log_det), None

    return self._scan(step, z, reverse=True)

  def _swap(self, index):
    return {'swap': index % 2 == 1} if self.alternate else {}

  def _scan(self, step, x, reverse):
    scanned = nn.scan(step, variable_axes=_STACKED, split_rngs={'params': True},
                      length=self.count, reverse=reverse)
    carry, _ = scanned(self.bijector, (x, jnp.zeros(x.shape[0])), jnp.arange(self.count))
    return carry

  def _invertible_forward(self, x, train, mask, cond):
    variables = self.bijector.variables
    if variables.get('batch_stats'):
      raise ValueError("memory 'invertible' needs copies without batch statistics, got "
                       f'{type(self.bijector).__name__} with them; use remat.')
    bijector = self.bijector.clone(parent=None)
    fixed = {name: value for name, value in variables.items() if name != 'params'}

    def forward(variables, x, cond):
      return bijector.apply(variables, x, train=train, mask=mask, cond=cond,
                            method='forward_and_log_det')

    def inverse(variables, z, cond):
      return bijector.apply(variables, z, cond=cond, method='inverse_and_log_det')[0]

    return _invertible_scan(forward, inverse, variables['params'], fixed, x, cond)


def _invertible_scan(forward, inverse, params, fixed, x, cond):
  """(z, log det) of the copies in turn, with a backward pass that needs z and no activations."""

  def variables(params, fixed):
    return {'params': params, **fixed}

  def run(params, fixed, x, cond):
    def step(carry, copy):
      x, total = carry
      z, log_det = forward(variables(*copy), x, cond)
      return (z, total + log_det), None
    return jax.lax.scan(step, (x, jnp.zeros(x.shape[0])), (params, fixed))[0]

  def run_forward(params, fixed, x, cond):
    z, log_det = run(params, fixed, x, cond)
    return (z, log_det), (params, fixed, z, cond)

  def run_backward(kept, cotangents):
    params, fixed, z, cond = kept
    z_bar, log_det_bar = cotangents

    def step(carry, copy):
      z, z_bar, cond_bar = carry
      params, fixed = copy
      x = inverse(variables(params, fixed), z, cond)
      _, vjp = jax.vjp(lambda p, x, c: forward(variables(p, fixed), x, c), params, x, cond)
      params_bar, x_bar, step_cond_bar = vjp((z_bar, log_det_bar))
      return (x, x_bar, jax.tree.map(jnp.add, cond_bar, step_cond_bar)), params_bar

    zeros = jax.tree.map(jnp.zeros_like, cond)
    (_, x_bar, cond_bar), params_bar = jax.lax.scan(
        step, (z, z_bar, zeros), (params, fixed), reverse=True)
    return params_bar, _no_gradient(fixed), x_bar, cond_bar

  scan = jax.custom_vjp(run)
  scan.defvjp(run_forward, run_backward)
  return scan(params, fixed, x, cond)


def _no_gradient(tree):
  """Zero cotangents of constants; those of integers have a type without values."""
  def zeros(leaf):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
      return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
  return jax.tree.map(zeros, tree)
