"""Matrix products whose gradients are matrix products that a CPU is good at."""
import functools

import jax
import jax.numpy as jnp
from jax import custom_derivatives


def matmul(x, kernel):
  """x @ kernel for x [B, I] and kernel [I, O], with the usual derivatives of all orders."""
  return products(x, (kernel,))[0]


@jax.custom_jvp
def products(x, kernels):
  """x[:, :I] @ kernel for each kernel [I, O] of a tuple, x [B, D] with D >= I.

  A kernel's gradient is x^T times a cotangent. On CPU a product with a transposed left side is a
  fifth to two thirds slower than a plain one in XLA; here x is transposed in memory first, once
  for all kernels, which costs little beside it. The barrier keeps the compiler from undoing that,
  but not everywhere: where depth is a `lax.scan`, the residual comes back untransposed, and
  nothing is gained.
  """
  return tuple(x[:, :kernel.shape[0]] @ kernel for kernel in kernels)


# Symbolic zeros: data have no derivative, and kernels have none where a score is asked for; a
# product with zeros in their place would be made all the same.
@functools.partial(products.defjvp, symbolic_zeros=True)
def _products_jvp(primals, tangents):
  (x, kernels), (dx, dkernels) = primals, tangents
  transposed = jax.lax.optimization_barrier(x.T)

  def by_kernel(kernel, dkernel):
    size, outputs = kernel.shape
    if 4 * outputs > size:
      return transposed[:size].T @ dkernel
    # Few outputs: backward the cotangent is transposed in place of x, and the result turned back.
    turned = jax.lax.optimization_barrier(dkernel.T) @ x[:, :size].T
    return jax.lax.optimization_barrier(turned).T

  def product(kernel, dkernel):
    parts = [] if _is_zero(dx) else [dx[:, :kernel.shape[0]] @ kernel]
    parts += [] if _is_zero(dkernel) else [by_kernel(kernel, dkernel)]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros((len(x), kernel.shape[1]), x.dtype)

  return products(x, kernels), tuple(map(product, kernels, dkernels))


def _is_zero(tangent):
  return isinstance(tangent, custom_derivatives.SymbolicZero)


def dot_general(x, kernel, dimension_numbers, precision=None):
  """`matmul` in the form that `nn.Dense` takes, for x [B, I]."""
  if x.ndim != 2 or dimension_numbers != (((1,), (0,)), ((), ())) or precision is not None:
    raise ValueError(f'this product is that of x [B, I] and a kernel [I, O], got {x.shape}, '
                     f'{dimension_numbers}, precision {precision}; use lax.dot_general.')
  return matmul(x, kernel)
