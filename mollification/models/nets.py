"""Networks inside the models: MLPs, and the convolutional and residual pairs of the VAEs.

Encoders map x [B, *event] to [B, outputs], decoders z [B, Z] to [B, *event]. All are called as
`net(x, train=..., mask=...)`, as a BatchNorm needs it; the MLPs ignore both.

`dtype` is the type of activations and products, 'float32' or 'bfloat16', to which the gradients of
kernels are rounded, too, once they are summed over the batch. Sums are float32, those inside
products included; so are parameters, batch statistics and what a net returns.
"""
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models.convolution import Conv, ConvTranspose
from mollification.models.dense import Dense
from mollification.models.dropout import dropout, part_keys
from mollification.models.matmul import dot_general
from mollification.models.moments import RunningMoments

# Widths of the hidden layers (MLP) and of the strided convolutions (the paper's VAE library).
MLP_WIDTHS = (512, 512)
CONV_WIDTHS = (128, 256, 512, 1024)
RESNET_WIDTHS = (64, 128)
DTYPES = ('float32', 'bfloat16')
# (kernel, stride, padding, output padding) of the transposed convolutions of the decoder, by what
# its seed is multiplied with: 8 -> 16 -> 33 -> 32 px, and 8 -> 15 -> 31 -> 62 -> 64 px.
DECODER_LAYERS = {
    4: ((4, 2, 1, 0), (4, 2, 1, 1), (4, 1, 2, 0)),
    8: ((5, 2, 2, 0), (5, 2, 1, 0), (5, 2, 2, 1), (5, 1, 1, 0)),
}


class MLP(nn.Module):
  """Dense layers with `activation` between: [B, D] -> [B, outputs]; `widths` () is affine.

  It computes in x's type.

  Where `keys` [B] are given, hidden units drop out at the rate `dropout`.
  """
  widths: tuple[int, ...]
  outputs: int
  activation: Callable = nn.relu
  kernel_init: Callable = nn.initializers.lecun_normal()
  dropout: float = 0.

  @nn.compact
  def __call__(self, x, keys=None):
    for i, width in enumerate(self.widths):
      x = dropout(self.activation(self._dense(width, x.dtype)(x)), self.dropout, part_keys(keys, i))
    return self._dense(self.outputs, x.dtype)(x)

  def _dense(self, width, dtype):
    return Dense(width, dtype, self.kernel_init, dot_general)


class BatchNorm(nn.Module):
  """scale (x - mean) / sqrt(var) + bias for x [B, ..., C], with `RunningMoments` per channel.

  In float32; the result has x's type.
  """
  axis_name: str | None = None
  momentum: float = .9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    x, dtype = x.astype(jnp.float32), x.dtype
    mean, var = RunningMoments(self.momentum, self.epsilon, self.axis_name)(
        x, train=train, mask=mask)
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    # Centre first: x * factor + offset would cancel where the mean is large.
    centred = x - jnp.broadcast_to(mean, x.shape)
    factor = scale * jax.lax.rsqrt(var)
    scaled = centred * jnp.broadcast_to(factor, x.shape) + jnp.broadcast_to(bias, x.shape)
    return scaled.astype(dtype)


class MLPEncoder(nn.Module):
  """[B, *event] -> [B, outputs] by an MLP on the flattened event; it has no batch statistics."""
  outputs: int
  widths: tuple[int, ...] = MLP_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x, *, train=False, mask=None):
    flat = x.reshape(x.shape[0], -1).astype(self.dtype)
    return MLP(self.widths, self.outputs)(flat).astype(jnp.float32)


class MLPDecoder(nn.Module):
  """[B, Z] -> [B, *event_shape] by an MLP; `widths` are those of the encoder, mirrored here."""
  event_shape: tuple[int, ...]
  widths: tuple[int, ...] = MLP_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, z, *, train=False, mask=None):
    flat = MLP(self.widths[::-1], math.prod(self.event_shape))(z.astype(self.dtype))
    return flat.reshape(z.shape[0], *self.event_shape).astype(jnp.float32)


class ConvEncoder(nn.Module):
  """[B, H, W, C] -> [B, outputs]: a k4 s2 p1 convolution per width, BatchNorm + ReLU, then Dense.

  The convolutions of the paper's VAE library, without the biases that its BatchNorm cancels.
  Each halves the image, rounding down: 28 px ends at 1×1, 32 px at 2×2, 64 px at 4×4.
  """
  outputs: int
  widths: tuple[int, ...] = CONV_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    check_image(x.shape[1:], self.widths)
    x = x.astype(self.dtype)
    for width in self.widths:
      x = Conv(width, 4, stride=2, padding=1, use_bias=False)(x)
      x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
    return Dense(self.outputs, self.dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


class ConvDecoder(nn.Module):
  """[B, Z] -> [B, H, W, C]: Dense to a seed image, then transposed convolutions.

  BatchNorm + ReLU stand between, the output is linear. `widths` are those of the encoder: the
  seed has the last, and each following layer the one before it. Two stacks (`DECODER_LAYERS`): a
  seed of H/8 × W/8 for images of at least 64 px whose sides are multiples of 8, otherwise of
  H/4 × W/4; so 28 px is the 32 px decoder with a seed of 7×7: 7 -> 14 -> 29 -> 28.
  """
  event_shape: tuple[int, ...]
  widths: tuple[int, ...] = CONV_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, z, *, train, mask=None):
    check_image(self.event_shape, self.widths)
    height, width, channels = self.event_shape
    zoom = seed_zoom(self.event_shape)
    layers = DECODER_LAYERS[zoom]
    seed, *widths = self.widths[::-1][:len(layers)]
    x = Dense(height // zoom * (width // zoom) * seed, self.dtype)(z)
    x = x.reshape(z.shape[0], height // zoom, width // zoom, seed)
    for features, layer in zip(widths, layers):
      x = ConvTranspose(features, *layer, use_bias=False)(x)
      x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
    return ConvTranspose(channels, *layers[-1])(x).astype(jnp.float32)


def seed_zoom(event_shape):
  """How many times larger than its seed the image of a `ConvDecoder` is: 8 from 64 px on, or 4."""
  sides = event_shape[:2]
  return 8 if min(sides) >= 64 and all(n % 8 == 0 for n in sides) else 4


def check_image(event_shape, widths):
  """Raises ValueError where the convolutional pair does not fit `event_shape` or `widths`."""
  if len(event_shape) != 3 or any(n % 4 for n in event_shape[:2]):
    raise ValueError("net 'conv' needs images [H, W, C] with H and W multiples of 4, got "
                     f"{tuple(event_shape)}; use 'mlp', or pad the images.")
  if min(event_shape[:2]) >> len(widths) == 0:
    raise ValueError(f'widths {tuple(widths)} are {len(widths)} strided convolutions, which need '
                     f"at least {2**len(widths)} px, got {tuple(event_shape)}; give fewer, or use "
                     "net 'mlp'.")
  needed = len(DECODER_LAYERS[seed_zoom(event_shape)])
  if len(widths) < needed:
    raise ValueError(f'widths must be at least {needed} for the decoder of images '
                     f"{tuple(event_shape)}, got {tuple(widths)}; give more, or use net 'resnet'.")


class ResidualBlock(nn.Module):
  """x + conv(relu(norm(conv(relu(norm(x)))))) for x [B, H, W, C]; He et al. 2016, identity map."""
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    y = x
    for _ in range(2):
      y = nn.relu(BatchNorm(self.axis_name)(y, train=train, mask=mask))
      y = Conv(x.shape[-1], 3, padding=1)(y)
    return x + y


class ResNetEncoder(nn.Module):
  """[B, H, W, C] -> [B, outputs]: per width a k4 s2 p1 convolution and a block, then Dense.

  The image is halved as often as there are widths.
  """
  outputs: int
  widths: tuple[int, ...] = RESNET_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    check_halvings(x.shape[1:], self.widths)
    x = x.astype(self.dtype)
    for width in self.widths:
      x = Conv(width, 4, stride=2, padding=1)(x)
      x = ResidualBlock(self.axis_name)(x, train=train, mask=mask)
    x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
    return Dense(self.outputs, self.dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


class ResNetDecoder(nn.Module):
  """[B, Z] -> [B, H, W, C]: `ResNetEncoder` mirrored, with a linear output; `widths` are its."""
  event_shape: tuple[int, ...]
  widths: tuple[int, ...] = RESNET_WIDTHS
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, z, *, train, mask=None):
    check_halvings(self.event_shape, self.widths)
    zoom = 2**len(self.widths)
    height, width, channels = self.event_shape
    x = Dense(height // zoom * (width // zoom) * self.widths[-1], self.dtype)(z)
    x = x.reshape(z.shape[0], height // zoom, width // zoom, self.widths[-1])
    for features in (*self.widths[-2::-1], self.widths[0]):
      x = ResidualBlock(self.axis_name)(x, train=train, mask=mask)
      x = ConvTranspose(features, 4, 2, 1)(x)
    x = nn.relu(BatchNorm(self.axis_name)(x, train=train, mask=mask))
    return Conv(channels, 3, padding=1)(x).astype(jnp.float32)


def check_halvings(event_shape, widths):
  """Raises ValueError where the residual pair cannot halve `event_shape` once per width."""
  zoom = 2**len(widths)
  if len(event_shape) != 3 or not widths or any(n % zoom for n in event_shape[:2]):
    raise ValueError("net 'resnet' needs at least one width and images [H, W, C] whose sides can "
                     f'be halved once per width, got {tuple(event_shape)} and widths '
                     f'{tuple(widths)}; give fewer widths, or pad the images.')


# Kind -> (encoder, decoder, default widths, what refuses events; an MLP takes any).
PAIRS = {
    'mlp': (MLPEncoder, MLPDecoder, MLP_WIDTHS, lambda event_shape, widths: None),
    'conv': (ConvEncoder, ConvDecoder, CONV_WIDTHS, check_image),
    'resnet': (ResNetEncoder, ResNetDecoder, RESNET_WIDTHS, check_halvings),
}


def check_event(net, event_shape, widths=None):
  """Raises ValueError where the pair of kind `net` does not fit `event_shape` or `widths`."""
  *_, default, check = _pair(net)
  check(event_shape, _checked(default if widths is None else widths))


def make_encoder(net, outputs, *, widths=None, axis_name=None, dtype='float32'):
  """Encoder [B, *event] -> [B, outputs] of kind `net` of `PAIRS`; `widths` None: its default.

  Raises ValueError for an unknown kind or dtype and for widths below 1.
  """
  encoder, _, default, _ = _pair(net)
  return encoder(outputs, _checked(default if widths is None else widths), axis_name,
                 check_type(dtype))


def make_decoder(net, event_shape, *, widths=None, axis_name=None, dtype='float32'):
  """Decoder [B, Z] -> [B, *event_shape] of kind `net`; `widths` are the encoder's, mirrored."""
  _, decoder, default, _ = _pair(net)
  return decoder(event_shape, _checked(default if widths is None else widths), axis_name,
                 check_type(dtype))


def _pair(net):
  if net not in PAIRS:
    raise ValueError(f'net must be one of {sorted(PAIRS)}, got {net!r}.')
  return PAIRS[net]


def _checked(widths):
  if min(widths, default=1) < 1:
    raise ValueError(f'widths must be at least 1 each, got {tuple(widths)}; leave a layer out by '
                     'giving fewer, () for an affine MLP.')
  return widths


def check_type(dtype):
  """`dtype`; ValueError unless nets can compute in it."""
  if dtype not in DTYPES:
    raise ValueError(f'dtype must be one of {DTYPES}, got {dtype!r}.')
  return dtype
