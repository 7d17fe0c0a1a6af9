"""The dense layer of nets that may compute in bfloat16, and the bias that layers add."""
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dense(nn.Module):
  """x @ kernel + bias [..., features] for x [..., I], computed in `dtype`.

  The parameters are those of `nn.Dense`, float32; so is the sum over a batch that is the gradient
  of the bias, which `nn.Dense` takes in `dtype`. `dot_general` is the product's.
  """
  features: int
  dtype: str = 'float32'
  kernel_init: Callable = nn.initializers.lecun_normal()
  dot_general: Callable = jax.lax.dot_general

  @nn.compact
  def __call__(self, x):
    x = x.astype(self.dtype)
    kernel = self.param('kernel', self.kernel_init, (x.shape[-1], self.features))
    contracted = ((x.ndim - 1,), (0,)), ((), ())
    return add_bias(self, self.dot_general(x, kernel.astype(x.dtype), contracted))


def add_bias(module, y):
  """y [..., F] + the learned bias [F] of a layer, in y's type.

  The bias is float32 until it has y's shape, so that its gradient is summed in float32.
  """
  bias = module.param('bias', nn.initializers.zeros, y.shape[-1:])
  return y + jnp.broadcast_to(bias, y.shape).astype(y.dtype)
