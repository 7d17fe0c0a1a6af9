"""MADE: one network whose i-th outputs see the coordinates before i alone."""
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mollification.models.dropout import dropout, part_keys
from mollification.models.matmul import matmul, products

# Output units in a block of a hidden kernel. The narrower the blocks, the less is left of a 512²
# kernel (77 % at 256, 66 % at 128, 55 % would do), but the more and the smaller its products are,
# and the more sums beside them: at 128 an update of the MAF of configs/uci_redwine_maf.py takes 1.0
# to 1.05 times as long on one core, at 64 1.1 to 1.2.
GROUP_WIDTH = 256


class MADE(nn.Module):
  """Masked autoencoder (Germain et al. 2015, eqs. 8 to 11): x [B, D] -> [B, outputs, D].

  Output [:, :, i] depends on x[:, :i] and the condition only. Degrees: input i has i, hidden units
  have `arange(width) mod (D - 1)` in ascending order, output i has i - 1; a unit sees those of at
  most its own degree. A condition [B, K] enters the first hidden layer and, since output 0 sees no
  hidden unit, by a linear map the outputs too.

  Hidden units that are sorted by degree make the mask between two hidden layers block-triangular:
  such a kernel is stored in blocks (`Triangular`), and half of what the mask leaves out of it is
  neither stored nor moved by the optimiser, and three quarters are not multiplied. The first and
  the last kernel are small and masked in full. Kernels start orthogonal before masking, those of
  the condition as Flax's Dense has them, biases at zero. Where `keys` [B] are given, hidden units
  drop out at the rate `dropout`. `precision` is that of the products, None for JAX's default, which
  those of the derivatives by masked kernels and by x have in any case (`matmul.products`).

  Raises ValueError for an x that is not [B, D] with D at least 2, and for no hidden layer.
  """
  outputs: int = 2
  widths: tuple[int, ...] = (512, 512)
  activation: Callable = nn.relu
  kernel_init: Callable = nn.initializers.orthogonal()
  dropout: float = 0.
  precision: str | None = None

  @nn.compact
  def __call__(self, x, cond=None, keys=None):
    hidden = lambda h, i: dropout(self.activation(h), self.dropout, part_keys(keys, i))
    size = _check(x, self.widths)
    degrees = [np.arange(size), *(hidden_degrees(width, size) for width in self.widths),
               np.tile(np.arange(size) - 1, self.outputs)]
    masks = [below(a, b) for a, b in itertools.pairwise(degrees)]
    h = Masked(masks[0], self.kernel_init, self.precision, name='first')(x)
    if cond is not None:
      h += self._of_condition(self.widths[0], 'condition')(cond)
    for i, (a, b) in enumerate(itertools.pairwise(degrees[1:-1])):
      h = Triangular(a, b, self.kernel_init, self.precision, name=f'hidden_{i}')(hidden(h, i))
    h = Masked(masks[-1], self.kernel_init, self.precision, name='last')(
      hidden(h, len(self.widths) - 1))
    if cond is not None:
      h += self._of_condition(self.outputs * size, 'condition_last')(cond)
    return h.reshape(x.shape[0], self.outputs, size)

  def _of_condition(self, features, name):
    return nn.Dense(features, use_bias=False, precision=self.precision, name=name)


def hidden_degrees(width, size):
  """Degrees [width] of hidden units for events [size], ascending: arange(width) mod (size - 1).

  Of fewer units than degrees the largest ones would be missing, and nobody would read the inputs
  from `width` on: they are spread evenly then, up to the largest.
  """
  if width < size - 1:
    return (np.arange(1, width + 1) * (size - 2)) // width
  return np.sort(np.arange(width) % (size - 1))


def below(inputs, outputs):
  """Mask [I, O]: whether the output's degree is at least the input's."""
  return outputs[None] >= inputs[:, None]


def groups(inputs, outputs):
  """Blocks of a kernel between units of ascending degrees: ((inputs, start, end), ...).

  Outputs start to end, GROUP_WIDTH of them, see no more than the first so many inputs. The numbers
  are multiples of 16, the width of a CPU's vectors, where the kernel's own are.
  """
  blocks = []
  for start in range(0, len(outputs), GROUP_WIDTH):
    end = min(start + GROUP_WIDTH, len(outputs))
    seen = int(np.searchsorted(inputs, outputs[end - 1] + 1))
    blocks.append((min(-(-seen // 16) * 16, len(inputs)), start, end))
  return tuple(blocks)


class Masked(nn.Module):
  """x @ (kernel where `mask`, or else 0) + bias for x [B, I] and a constant `mask` bool [I, O]."""
  mask: np.ndarray
  kernel_init: Callable
  precision: str | None = None

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', self.kernel_init, self.mask.shape)
    bias = self.param('bias', nn.initializers.zeros, self.mask.shape[1:])
    out = matmul(x, jnp.where(self.mask, kernel, 0.), self.precision)
    return out + jnp.broadcast_to(bias, out.shape)


class Triangular(nn.Module):
  """`Masked` between units of ascending degrees, with the kernel stored without most of its zeros.

  The kernel is a dict of the blocks of `groups`: 'group_g' [inputs that group g may see, O_g].
  """
  inputs: np.ndarray
  outputs: np.ndarray
  kernel_init: Callable
  precision: str | None = None

  @nn.compact
  def __call__(self, x):
    blocks = groups(self.inputs, self.outputs)

    def init(key):
      return to_blocks(self.kernel_init(key, (len(self.inputs), len(self.outputs))), blocks)

    kernel = self.param('kernel', init)
    bias = self.param('bias', nn.initializers.zeros, (len(self.outputs),))
    # As a mask of bytes it is read faster than one of floats.
    masked = tuple(
      jnp.where(below(self.inputs[:seen], self.outputs[start:end]), kernel[f'group_{g}'], 0.)
      for g, (seen, start, end) in enumerate(blocks))
    out = jnp.concatenate(products(x, masked, self.precision), axis=-1)
    return out + jnp.broadcast_to(bias, out.shape)


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
