"""Invertible linear map of the last axis: the 1×1 convolution of images, a matrix for vectors."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from mollification.models.flows.bijector import Bijector, positions

# Below this ratio of the smallest to the largest pivot, float32 cannot invert the matrix.
SMALLEST_PIVOT = 1e-6


class LULinear(Bijector):
  """z = W x along the last axis of events [..., C] (Kingma & Dhariwal 2018, eq. 10).

    W = P L (U + diag(sign e^{log_diag})),  log det = positions × sum log_diag

  with L unit lower and U strictly upper triangular. Learned are `lower`, `upper` [C, C], of which
  only those triangles act, and `log_diag` [C]; collection 'fixed' keeps `permutation` [C], which
  says that row i of P M is row permutation[i] of M, and `sign` [C]. W starts as a random rotation.

  Products have precision 'highest': rounded to bfloat16, as a TPU's are by default, W^-1 W would
  miss the identity by 1e-2. XLA's triangular solves are at full precision by themselves.
  W is singular where e^{log_diag} is 0 in float32: at minus infinity the loss is infinite and the
  update is skipped; above that the loss is finite and the inverse is not, so that 'inverse_error'
  is infinite and samples are refused (`evaluation/sampling.py`). `decompose` takes no such matrix.
  """

  @nn.compact
  def _factors(self, x):
    """(L, U + diag, permutation, log_diag) for x [..., C]."""
    size = x.shape[-1]
    start = None
    if self.is_initializing():
      start = _random_rotation(self.make_rng('params'), size)
    given = lambda name: lambda *_: start[name]
    fixed = {name: self.variable('fixed', name, given(name)).value
             for name in ('permutation', 'sign')}
    lower, upper, log_diag = (self.param(name, given(name) if start else _shaped(shape))
                              for name, shape in (('lower', (size, size)), ('upper', (size, size)),
                                                  ('log_diag', (size,))))
    lower = jnp.tril(lower, -1) + jnp.eye(size)
    upper = jnp.triu(upper, 1) + jnp.diag(fixed['sign'] * jnp.exp(log_diag))
    return lower, upper, fixed['permutation'], log_diag

  def forward_and_log_det(self, x, *, train=False, mask=None, cond=None):
    lower, upper, permutation, log_diag = self._factors(x)
    weight = jnp.matmul(lower, upper, precision='highest')[permutation]
    return _apply(weight, x), _log_det(log_diag, x)

  def inverse_and_log_det(self, z, *, cond=None):
    lower, upper, permutation, log_diag = self._factors(z)
    # W^-1 = (U + diag)^-1 L^-1 P^T, once for all positions.
    transposed = jnp.eye(z.shape[-1])[permutation].T
    inner = jax.scipy.linalg.solve_triangular(lower, transposed, lower=True, unit_diagonal=True)
    return _apply(jax.scipy.linalg.solve_triangular(upper, inner), z), -_log_det(log_diag, z)


def decompose(weight):
  """({'lower', 'upper', 'log_diag'}, {'permutation', 'sign'}): the variables of a matrix [C, C].

  Raises ValueError unless it is square and, to float32, invertible.
  """
  weight = np.asarray(weight, np.float64)
  if weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
    raise ValueError(f'an invertible linear layer needs a square matrix, got {weight.shape}.')
  if not np.isfinite(weight).all():
    raise ValueError('an invertible linear layer needs a finite matrix, got NaN or infinity in '
                     f'{weight.shape}.')
  row_permutation, lower, upper = scipy.linalg.lu(weight)
  diagonal = np.diag(upper)
  smallest, largest = np.abs(diagonal).min(), np.abs(diagonal).max()
  if not smallest > SMALLEST_PIVOT * largest:
    raise ValueError('an invertible linear layer needs a matrix that is not singular, got pivots '
                     f'from {smallest:.3g} to {largest:.3g}; start from a rotation.')
  return ({'lower': np.tril(lower, -1).astype(np.float32),
           'upper': np.triu(upper, 1).astype(np.float32),
           'log_diag': np.log(np.abs(diagonal)).astype(np.float32)},
          {'permutation': row_permutation.argmax(1).astype(np.int32),
           'sign': np.sign(diagonal).astype(np.float32)})


def _random_rotation(key, size):
  """The variables of an orthogonal matrix [C, C], drawn uniformly."""
  weight = nn.initializers.orthogonal()(key, (size, size))
  row_permutation, lower, upper = jax.scipy.linalg.lu(weight)
  diagonal = jnp.diag(upper)
  return {'lower': jnp.tril(lower, -1), 'upper': jnp.triu(upper, 1),
          'log_diag': jnp.log(jnp.abs(diagonal)), 'sign': jnp.sign(diagonal),
          'permutation': row_permutation.argmax(1).astype(jnp.int32)}


def _shaped(shape):
  return lambda _: jnp.zeros(shape)


def _apply(weight, x):
  """weight [C, C] times each vector of x [..., C]."""
  return jnp.matmul(x.reshape(-1, x.shape[-1]), weight.T, precision='highest').reshape(x.shape)


def _log_det(log_diag, x):
  return jnp.broadcast_to(positions(x) * log_diag.sum(), x.shape[:1])
