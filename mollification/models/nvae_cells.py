"""The two networks of NVAE: features on the way up, latents on the way down.

`dtype` is the type of activations and products, 'float32' or 'bfloat16', inside cells and of the
convolutions between them. What a cell adds to is float32, since it adds little, and so are the
heads of the distributions, parameters, statistics, and what is summed over positions, backward too.
"""
import flax.linen as nn
import jax
import jax.numpy as jnp

from mollification.models import decoders, gaussian, moments, objectives
from mollification.models.convolution import Conv
from mollification.models.nets import BatchNorm

DEPTHWISE = 5      # side of the kernels inside the cells on the way down
RESIDUAL = .1      # weight of a cell's output beside its input, as in the released code
BOUND = 5.         # of log-deviations, softly


class BottomUp(nn.Module):
  """x [B, H, W, C] -> features of each scale, coarsest first, [G, B, H_s, W_s, channels].

  Groups are in the order in which the way down takes them.
  """
  groups: tuple[int, ...]
  width: int
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x, *, train, mask=None):
    h, found = _in(self.dtype, Conv(self.width, 3, padding=1), x), []
    for scale, count in reversed(list(enumerate(self.groups))):
      width = self.width * 2**(len(self.groups) - 1 - scale)
      h = _in(self.dtype, Conv(width, 4, stride=2, padding=1), nn.swish(h))
      cell = _repeat(UpCell, count)(self.axis_name, train, self.dtype, name=f'groups_{scale}')
      h, features = cell(h, None, mask)
      found.append(features[::-1])
    return found[::-1]


class TopDown(nn.Module):
  """(output [B, *net_shape], KL [B, G], log-ratio [B, G], stats) of noise and features.

  `noise` is a list of [G, B, H, W, latents], `features` that of `BottomUp`, or None to draw from
  the prior; KL and log-ratio are 0 then. `stats` are per scale (mean, log_var) of q in the
  coordinates of `Group`, each like `noise`.
  """
  groups: tuple[int, ...]
  width: int
  latents: int
  expansion: int
  net_shape: tuple[int, ...]
  axis_name: str | None = None
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, noise, features, *, train, mask=None):
    options = dict(axis_name=self.axis_name, train=train, dtype=self.dtype)
    start = (*noise[0].shape[2:4], self.width * 2**(len(self.groups) - 1))
    h = self.param('start', nn.initializers.normal(1.), start)
    h = jnp.broadcast_to(h, (noise[0].shape[1], *start))
    terms, stats = [], []
    for scale, count in enumerate(self.groups):
      if scale:
        h = _in(self.dtype, Conv(h.shape[-1] // 2, 1), _enlarge(nn.swish(h)))
      group = _repeat(Group, count)(self.latents, self.expansion, **options,
                                    name=f'groups_{scale}')
      h, (kl, ratio, found) = group(
          h, (noise[scale], None if features is None else features[scale]), mask)
      terms.append((kl, ratio))
      stats.append(found)
    h = _in(self.dtype, Conv(self.width, 1), _enlarge(nn.swish(h)))
    h = DownCell(self.expansion, **options)(h, mask)
    out = Conv(self.net_shape[-1], 3, padding=1)(nn.elu(h))
    kl, ratio = (jnp.concatenate(t).T for t in zip(*terms))
    return out, kl, ratio, stats


class Group(nn.Module):
  """One group: p(z | h), q(z | h, features), a draw, and its cell; a body of `_repeat`.

  With z = mean_p + sigma_p e, in the coordinates e, p is N(0, I) and

    q = N(d_mean / sigma_p, d_sigma^2),
    KL = 1/2 sum [d_mean^2 / sigma_p^2 + d_sigma^2 - log d_sigma^2 - 1]        (eqs. 2 and 3)

  Both heads start at zero, so that q = p = N(0, I): deviations that are exponentials of random
  features blow up from group to group, and four of them made the first loss NaN.
  """
  latents: int
  expansion: int
  axis_name: str | None
  train: bool
  dtype: str

  @nn.compact
  def __call__(self, h, inputs, mask):
    """(h, (KL [B], log q(z) - log p(z) [B], (mean, log_var) of e)); inputs: (noise, features)."""
    noise, features = inputs
    head = dict(kernel_init=nn.initializers.zeros)
    mean_p, log_sd = _halves(Conv(2 * self.latents, 1, name='prior', **head)(nn.elu(h)))
    mean = log_var = jnp.zeros_like(noise)
    if features is not None:
      both = features + _in(self.dtype, Conv(features.shape[-1], 1, name='down'), h)
      d_mean, d_log_sd = _halves(Conv(2 * self.latents, 3, padding=1, name='posterior',
                                      **head)(nn.elu(both)))
      mean, log_var = d_mean * jnp.exp(-log_sd), 2. * d_log_sd
    e = mean + jnp.exp(.5 * log_var) * noise
    kl = jnp.sum(objectives.gaussian_kl_terms(mean, log_var), axis=(1, 2, 3))
    ratio = decoders.gaussian_log_prob(e, mean, log_var) - gaussian.standard_normal_log_prob(e)
    z = mean_p + jnp.exp(log_sd) * e
    h = _in(self.dtype, Conv(h.shape[-1], 1, name='join'), jnp.concatenate([h, z], axis=-1))
    h = DownCell(self.expansion, self.axis_name, self.train, self.dtype)(h, mask)
    return h, (kl, ratio, (mean, log_var))


class UpCell(nn.Module):
  """x + .1 SE(conv3(swish(BN(conv3(swish(BN(x))))))): a body of `_repeat`."""
  axis_name: str | None
  train: bool
  dtype: str

  @nn.compact
  def __call__(self, x, inputs, mask):
    """(h, h) [B, H, W, C]."""
    del inputs
    y = x.astype(self.dtype)
    for _ in range(2):
      y = nn.swish(BatchNorm(self.axis_name)(y, train=self.train, mask=mask))
      y = Conv(x.shape[-1], 3, padding=1)(y)
    x = x + RESIDUAL * SqueezeExcite()(y).astype(x.dtype)
    return x, x


class DownCell(nn.Module):
  """x + .1 SE(BN(conv1(swish(BN(depthwise5(swish(BN(conv1(BN(x)))))))))), wider inside."""
  expansion: int
  axis_name: str | None
  train: bool
  dtype: str

  @nn.compact
  def __call__(self, x, mask):
    norm = lambda h: BatchNorm(self.axis_name)(h, train=self.train, mask=mask)
    channels = x.shape[-1]
    y = Conv(self.expansion * channels, 1)(norm(x.astype(self.dtype)))
    y = Depthwise()(nn.swish(norm(y)))
    y = norm(Conv(channels, 1)(nn.swish(norm(y))))
    return x + RESIDUAL * SqueezeExcite()(y).astype(x.dtype)


class SqueezeExcite(nn.Module):
  """x [B, H, W, C] times a gate in [0, 1] of its channels' means (Hu et al. 2018)."""

  @nn.compact
  def __call__(self, x):
    channels = x.shape[-1]
    gate = nn.relu(nn.Dense(max(channels // 16, 4))(x.mean((1, 2), dtype=jnp.float32)))
    gate = nn.sigmoid(nn.Dense(channels)(gate))
    # Cast behind the broadcast: backward it is a sum over positions.
    return x * jnp.broadcast_to(gate[:, None, None], x.shape).astype(x.dtype)


class Depthwise(nn.Module):
  """Each channel of x [B, H, W, C] convolved, zero-padded, with a kernel of its own."""

  @nn.compact
  def __call__(self, x):
    init = nn.initializers.variance_scaling(1., 'fan_in', 'truncated_normal', in_axis=(0, 1),
                                            out_axis=(), batch_axis=2)
    return depthwise(x, self.param('depthwise', init, (DEPTHWISE, DEPTHWISE, x.shape[-1])))


def depthwise(x, kernel):
  """x [B, H, W, C] convolved per channel with a float32 kernel [K, K, C], K odd: as x is.

  On CPU as a sum of shifts: XLA's own gradients are slow there, see `convolution`.
  """
  size, pad = kernel.shape[0], kernel.shape[0] // 2

  def shifts(x, kernel):
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = jnp.stack([padded[:, i:i + height] for i in range(size)])      # [i, B, H, W', C]
    # Of a bfloat16 x the products, and their sums, are float32: so is then the kernel's gradient.
    taps = [jnp.sum(rows * kernel[:, j, None, None, None], axis=0) for j in range(size)]
    return sum(tap[:, :, j:j + width] for j, tap in enumerate(taps)).astype(x.dtype)

  def direct(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel[:, :, None].astype(x.dtype), (1, 1), [(pad, pad)] * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=x.shape[-1])

  return jax.lax.platform_dependent(x, kernel, cpu=shifts, default=direct)


def _repeat(cell, count):
  """`cell` (carry, inputs, mask) -> (carry, outputs), `count` times with parameters of its own."""
  stacked = dict.fromkeys(('params', 'batch_stats', moments.COLLECTION), 0)
  return nn.scan(cell, variable_axes=stacked, split_rngs={'params': True},
                 in_axes=(0, nn.broadcast), length=count)


def _in(dtype, layer, x):
  """`layer` of x as it computes in `dtype`, in x's type again."""
  return layer(x.astype(dtype)).astype(x.dtype)


def _halves(x):
  """(mean, log-deviation) of the two halves of x's channels, the second within +-BOUND, softly."""
  mean, log_sd = jnp.split(x, 2, axis=-1)
  return mean, BOUND * jnp.tanh(log_sd / BOUND)


def _enlarge(x):
  """x [B, H, W, C] with each pixel four times."""
  return x.repeat(2, axis=1).repeat(2, axis=2)
