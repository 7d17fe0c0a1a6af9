"""MADE: one network whose i-th outputs see the coordinates before i alone."""
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mollification.models.dropout import dropout, part_keys
from mollification.models.matmul import matmul, products

# Units in a group of a hidden kernel. Smaller ones save more work and make smaller matmuls: at 128,
# 66 % of a 512² kernel is left in place of 77 %, and on a CPU core both take the same time.
GROUP_WIDTH = 256


class MADE(nn.Module):
  """Masked autoencoder (Germain et al. 2015, eqs. 8 to 11): x [B, D] -> [B, outputs, D].

  Output [:, :, i] depends on x[:, :i] and the condition only. Degrees: input i has i, hidden units
  have `arange(width) mod (D - 1)` in ascending order, output i has i - 1; a unit sees those of at
  most its own degree. A condition [B, K] enters the first hidden layer and, since output 0 sees no
  hidden unit, by a linear map the outputs too.

  Hidden units that are sorted by degree make the mask between two hidden layers block-triangular:
  such a kernel is stored in blocks (`Triangular`), and half of what the mask leaves out of it is
  neither stored nor multiplied nor moved by the optimiser. The first and the last kernel are
  small and masked in full. All kernels start orthogonal before masking, biases at zero. Where
  `keys` [B] are given, hidden units drop out at the rate `dropout`.

  Raises ValueError for an x that is not [B, D] with D at least 2, and for no hidden layer.
  """
  outputs: int = 2
  widths: tuple[int, ...] = (512, 512)
  activation: Callable = nn.relu
  kernel_init: Callable = nn.initializers.orthogonal()
  dropout: float = 0.

  @nn.compact
  def __call__(self, x, cond=None, keys=None):
    hidden = lambda h, i: dropout(self.activation(h), self.dropout, part_keys(keys, i))
    size = _check(x, self.widths)
    degrees = [np.arange(size), *(hidden_degrees(width, size) for width in self.widths),
               np.tile(np.arange(size) - 1, self.outputs)]
    masks = [below(a, b) for a, b in itertools.pairwise(degrees)]
    h = Masked(masks[0], self.kernel_init, name='first')(x)
    if cond is not None:
      h += nn.Dense(self.widths[0], use_bias=False, name='condition')(cond)
    for i, (a, b) in enumerate(itertools.pairwise(degrees[1:-1])):
      h = Triangular(a, b, self.kernel_init, name=f'hidden_{i}')(hidden(h, i))
    h = Masked(masks[-1], self.kernel_init, name='last')(hidden(h, len(self.widths) - 1))
    if cond is not None:
      h += nn.Dense(self.outputs * size, use_bias=False, name='condition_last')(cond)
    return h.reshape(x.shape[0], self.outputs, size)


def hidden_degrees(width, size):
  """Degrees [width] of hidden units for events [size], ascending: arange(width) mod (size - 1).

  Of fewer units than degrees the largest ones would be missing, and nobody would read the inputs
  from `width` on: they are spread evenly then, up to the largest.
  """
  if width < size - 1:
    return (np.arange(1, width + 1) * (size - 2)) // width
  return np.sort(np.arange(width) % (size - 1))


def below(inputs, outputs):
  """Mask [I, O]: 1 where the output's degree is at least the input's."""
  return (outputs[None] >= inputs[:, None]).astype(np.float32)


def groups(inputs, outputs):
  """Blocks of a kernel between units of ascending degrees: ((inputs, start, end), ...).

  Outputs start to end see no more than the first so many inputs. The numbers are multiples of 16,
  the width of a CPU's vectors, where the kernel's own are.
  """
  blocks = []
  for start in range(0, len(outputs), GROUP_WIDTH):
    end = min(start + GROUP_WIDTH, len(outputs))
    seen = int(np.searchsorted(inputs, outputs[end - 1] + 1))
    blocks.append((min(-(-seen // 16) * 16, len(inputs)), start, end))
  return tuple(blocks)


class Masked(nn.Module):
  """x @ (kernel * mask) + bias for x [B, I] and a constant `mask` [I, O]."""
  mask: np.ndarray
  kernel_init: Callable

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', self.kernel_init, self.mask.shape)
    bias = self.param('bias', nn.initializers.zeros, self.mask.shape[1:])
    return matmul(x, kernel * self.mask) + jnp.broadcast_to(bias, (x.shape[0], *bias.shape))


class Triangular(nn.Module):
  """`Masked` between units of ascending degrees, with the kernel stored without most of its zeros.

  The kernel is a dict of the blocks of `groups`: 'group_g' [inputs that group g may see, O_g].
  """
  inputs: np.ndarray
  outputs: np.ndarray
  kernel_init: Callable

  @nn.compact
  def __call__(self, x):
    blocks = groups(self.inputs, self.outputs)

    def init(key):
      return to_blocks(self.kernel_init(key, (len(self.inputs), len(self.outputs))), blocks)

    kernel = self.param('kernel', init)
    bias = self.param('bias', nn.initializers.zeros, (len(self.outputs),))
    masks = to_blocks(below(self.inputs, self.outputs), blocks)
    out = products(x, tuple(kernel[name] * mask for name, mask in masks.items()))
    return jnp.concatenate(out, axis=-1) + jnp.broadcast_to(bias, (x.shape[0], *bias.shape))


def to_blocks(kernel, blocks):
  """The blocks of `Triangular` of a full kernel [I, O]; what no block holds is dropped."""
  return {f'group_{g}': kernel[:seen, start:end] for g, (seen, start, end) in enumerate(blocks)}


def _check(x, widths):
  """D of x [B, D]."""
  if x.ndim != 2:
    raise ValueError(f'MADE needs vectors [B, D], got shape {x.shape}; flatten events first.')
  if x.shape[1] < 2:
    raise ValueError('an autoregressive network needs events of at least 2 numbers, got '
                     f'{x.shape[1]}; a single number has no other to be predicted from.')
  if not widths:
    raise ValueError('MADE needs at least one hidden layer, got widths (); give e.g. (512, 512).')
  return x.shape[1]
