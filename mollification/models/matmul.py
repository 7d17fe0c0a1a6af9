"""Matrix products whose gradients are matrix products that a CPU is good at."""
import functools

import jax
import jax.numpy as jnp
from jax import custom_derivatives


def matmul(x, kernel, precision=None):
  """x @ kernel for x [B, I] and kernel [I, O], with the usual derivatives of all orders.

  `precision` is that of `products`.
  """
  return products(x, (kernel,), precision)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def products(x, kernels, precision=None):
  """x[:, :I] @ kernel for each kernel [I, O] of a tuple, x [B, D] with D >= I.

  `precision` is that of the value, as `jax.lax.Precision` has it. Derivatives have the default one,
  as those of other nets have, those by x among them, of which a score is made.
  """
  return tuple(jnp.matmul(x[:, :kernel.shape[0]], kernel, precision=precision)
               for kernel in kernels)


# Symbolic zeros: data have no derivative, and kernels have none where a score is asked for; a
# product with zeros in their place would be made all the same.
@functools.partial(products.defjvp, symbolic_zeros=True)
def _products_jvp(precision, primals, tangents):
  (x, kernels), (dx, dkernels) = primals, tangents

  def product(kernel, dkernel):
    size = kernel.shape[0]
    parts = [] if _is_zero(dx) else [dx[:, :size] @ kernel]
    parts += [] if _is_zero(dkernel) else [_by_kernel(x[:, :size], dkernel)]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros((len(x), kernel.shape[1]), x.dtype)

  return products(x, kernels, precision), tuple(map(product, kernels, dkernels))


def _by_kernel(x, kernel):
  """x @ kernel, linear in the kernel [I, O], whose gradient x^T times a cotangent is a fast one.

  Of few outputs the cotangent is transposed in place of x, and the result turned back. The barriers
  keep the compiler from undoing that.
  """
  size, outputs = kernel.shape
  if 16 * outputs > size:
    return x @ kernel
  turned = jax.lax.optimization_barrier(kernel.T) @ x.T
  return jax.lax.optimization_barrier(turned).T


def _is_zero(tangent):
  return isinstance(tangent, custom_derivatives.SymbolicZero)


def dot_general(x, kernel, dimension_numbers, precision=None):
  """`matmul` in the form that `nn.Dense` takes, for x [B, I]."""
  if x.ndim != 2 or dimension_numbers != (((1,), (0,)), ((), ())) or precision is not None:
    raise ValueError(f'this product is that of x [B, I] and a kernel [I, O], got {x.shape}, '
                     f'{dimension_numbers}, precision {precision}; use lax.dot_general.')
  return matmul(x, kernel)
