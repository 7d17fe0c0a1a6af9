"""Sharpness: the largest eigenvalue of the Hessian of a loss, by Lanczos' method."""
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


def largest_eigenvalue(product, start, iterations):
  """Largest eigenvalue [] of the symmetric operator `product`: [N] -> [N], from `start` [N].

  Lanczos' method (Golub and Van Loan, Matrix Computations, 4th ed., ch. 10), each new direction
  made orthogonal to all before, twice: float32 loses orthogonality otherwise, and finds copies. A
  lower bound, which rises with `iterations` (at most N); exact once they reach the number of
  different eigenvalues in `start`.
  """
  def step(basis, i):
    image = product(basis[i])
    diagonal = basis[i] @ image
    for _ in range(2):   # rows after the i-th are still 0
      image = image - basis.T @ (basis @ image)
    length = jnp.linalg.norm(image)
    # Nothing is left where the space is exhausted: what is divided by then is noise.
    alive = length > 1e-5 * (jnp.abs(diagonal) + 1e-20)
    following = jnp.where(alive, image / jnp.where(alive, length, 1.), 0.)
    return basis.at[i + 1].set(following), (diagonal, jnp.where(alive, length, 0.))

  basis = jnp.zeros((iterations + 1, start.size), start.dtype)
  basis = basis.at[0].set(start / jnp.linalg.norm(start))
  _, (diagonal, off) = jax.lax.scan(step, basis, jnp.arange(iterations))
  tridiagonal = jnp.diag(diagonal) + jnp.diag(off[:-1], 1) + jnp.diag(off[:-1], -1)
  # Of directions that were never there the diagonal is 0, which is no eigenvalue.
  present = jnp.concatenate([jnp.ones(1), off[:-1]]).cumprod() > 0
  lowest = -jnp.abs(tridiagonal).sum(-1).max()
  return jnp.linalg.eigvalsh(tridiagonal + jnp.diag(jnp.where(present, 0., lowest)))[-1]


def of_flow(net, variables, x, *, iterations=15):
  """Sharpness [] of the mean negative log-density in nats of x [B, *event], by the parameters.

  Running statistics stay as they are: with batch norms this is no Hessian of the training loss,
  whose statistics are those of its batch and depend on the parameters.
  """
  flat, unravel = ravel_pytree(variables['params'])

  def loss(flat):
    return -net.apply({**variables, 'params': unravel(flat)}, x, method='log_prob').mean()

  product = lambda v: jax.jvp(jax.grad(loss), (flat,), (v,))[1]
  start = jax.random.normal(jax.random.key(2023), flat.shape)
  return largest_eigenvalue(product, start, iterations)
