"""A matrix product whose gradients are matrix products that a CPU is good at."""
import jax


@jax.custom_jvp
def matmul(x, kernel):
  """x @ kernel for x [B, I] and kernel [I, O], with the usual derivatives of all orders.

  The kernel's gradient is x^T times a cotangent. On CPU a product with a transposed left side is
  a fifth to a third slower than a plain one in XLA; here x is transposed in memory first, which
  costs little beside it. The barrier keeps the compiler from undoing that.
  """
  return x @ kernel


@matmul.defjvp
def _matmul_jvp(primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  transposed = jax.lax.optimization_barrier(x.T)
  return x @ kernel, dx @ kernel + transposed.T @ dkernel
