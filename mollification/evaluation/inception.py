"""The network of the FID: Inception v3 of the TensorFlow graph of 2015-12-05, in Flax.

Szegedy et al. 2016 (arXiv 1512.00567) as pytorch-fid 0.3.0 runs it. Differs from torchvision's
network of that name: average pools leave the padding out, the last block pools by maximum, there
are 1008 classes and no auxiliary head. Convolutions have no bias; each is followed by BatchNorm
with eps 1e-3 and a ReLU.

One table describes the network. `Inception` runs it as it stands; `fuse` and `forward` run the
same function in fewer operations.
"""
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIZE = 299
EPS = 1e-3
CLASSES = 1008
PRECISION = jax.lax.Precision.HIGHEST   # the default is TF32 on recent GPUs and bfloat16 on TPUs
SPATIAL_CHANNELS = 7


class Conv(NamedTuple):
  """A convolution named as in the checkpoint, with its BatchNorm and ReLU; `pad` on either side."""
  name: str
  features: int
  kernel: tuple = (1, 1)
  stride: int = 1
  pad: tuple = (0, 0)


class Pool(NamedTuple):
  """A 3x3 pool, 'avg' (the padding not counted) or 'max'."""
  kind: str
  stride: int
  pad: int


class Fork(NamedTuple):
  """Convolutions of one input, side by side in the output."""
  convs: tuple


def _mixed_a(pool):
  return ((Conv('branch1x1', 64),),
          (Conv('branch5x5_1', 48), Conv('branch5x5_2', 64, (5, 5), 1, (2, 2))),
          (Conv('branch3x3dbl_1', 64), Conv('branch3x3dbl_2', 96, (3, 3), 1, (1, 1)),
           Conv('branch3x3dbl_3', 96, (3, 3), 1, (1, 1))),
          (Pool('avg', 1, 1), Conv('branch_pool', pool)))


def _mixed_b():
  return ((Conv('branch3x3', 384, (3, 3), 2),),
          (Conv('branch3x3dbl_1', 64), Conv('branch3x3dbl_2', 96, (3, 3), 1, (1, 1)),
           Conv('branch3x3dbl_3', 96, (3, 3), 2)),
          (Pool('max', 2, 0),))


def _mixed_c(width):
  wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
  return ((Conv('branch1x1', 192),),
          (Conv('branch7x7_1', width), Conv('branch7x7_2', width, *wide),
           Conv('branch7x7_3', 192, *tall)),
          (Conv('branch7x7dbl_1', width), Conv('branch7x7dbl_2', width, *tall),
           Conv('branch7x7dbl_3', width, *wide), Conv('branch7x7dbl_4', width, *tall),
           Conv('branch7x7dbl_5', 192, *wide)),
          (Pool('avg', 1, 1), Conv('branch_pool', 192)))


def _mixed_d():
  return ((Conv('branch3x3_1', 192), Conv('branch3x3_2', 320, (3, 3), 2)),
          (Conv('branch7x7x3_1', 192), Conv('branch7x7x3_2', 192, (1, 7), 1, (0, 3)),
           Conv('branch7x7x3_3', 192, (7, 1), 1, (3, 0)), Conv('branch7x7x3_4', 192, (3, 3), 2)),
          (Pool('max', 2, 0),))


def _mixed_e(pool):
  def fork(name):
    return Fork((Conv(f'{name}a', 384, (1, 3), 1, (0, 1)),
                 Conv(f'{name}b', 384, (3, 1), 1, (1, 0))))

  return ((Conv('branch1x1', 320),),
          (Conv('branch3x3_1', 384), fork('branch3x3_2')),
          (Conv('branch3x3dbl_1', 448), Conv('branch3x3dbl_2', 384, (3, 3), 1, (1, 1)),
           fork('branch3x3dbl_3')),
          (Pool(pool, 1, 1), Conv('branch_pool', 192)))


# Stages in order: convolutions, pools and (name, branches) of the mixed blocks. The features that
# each tap returns, averaged over space, are those after the stage of that index.
STAGES = (
  Conv('Conv2d_1a_3x3', 32, (3, 3), 2), Conv('Conv2d_2a_3x3', 32, (3, 3)),
  Conv('Conv2d_2b_3x3', 64, (3, 3), 1, (1, 1)), Pool('max', 2, 0),
  Conv('Conv2d_3b_1x1', 80), Conv('Conv2d_4a_3x3', 192, (3, 3)), Pool('max', 2, 0),
  ('Mixed_5b', _mixed_a(32)), ('Mixed_5c', _mixed_a(64)), ('Mixed_5d', _mixed_a(64)),
  ('Mixed_6a', _mixed_b()), ('Mixed_6b', _mixed_c(128)), ('Mixed_6c', _mixed_c(160)),
  ('Mixed_6d', _mixed_c(160)), ('Mixed_6e', _mixed_c(192)),
  ('Mixed_7a', _mixed_d()), ('Mixed_7b', _mixed_e('avg')), ('Mixed_7c', _mixed_e('max')),
)
TAPS = {3: '64', 6: '192', 14: '768', 17: '2048'}
SPATIAL_BLOCK = 'Mixed_6d'   # `mixed_6/conv:0` of the graph is the output of its 1x1 branch


class _BatchNorm(nn.Module):
  """Normalisation by running statistics, under the names of the checkpoint."""

  @nn.compact
  def __call__(self, x):
    """[B, H, W, C] -> [B, H, W, C]."""
    width = x.shape[-1:]
    scale, var = (self.param(name, nn.initializers.ones, width) for name in ('scale', 'var'))
    bias, mean = (self.param(name, nn.initializers.zeros, width) for name in ('bias', 'mean'))
    x = (x - mean[None, None, None]) * (scale / jnp.sqrt(var + EPS))[None, None, None]
    return x + bias[None, None, None]


class _ConvNorm(nn.Module):
  spec: Conv

  @nn.compact
  def __call__(self, x):
    """[B, H, W, C] -> [B, H', W', features]."""
    spec = self.spec
    x = nn.Conv(spec.features, spec.kernel, spec.stride, [(p, p) for p in spec.pad],
                use_bias=False, precision=PRECISION, name='conv')(x)
    return nn.relu(_BatchNorm(name='bn')(x))


class _Mixed(nn.Module):
  branches: tuple

  @nn.compact
  def __call__(self, x):
    """[B, H, W, C] -> (all branches side by side, the first branch)."""
    outputs = []
    for branch in self.branches:
      y = x
      for op in branch:
        if isinstance(op, Conv):
          y = _ConvNorm(op, name=op.name)(y)
        elif isinstance(op, Fork):
          y = jnp.concatenate([_ConvNorm(conv, name=conv.name)(y) for conv in op.convs], -1)
        else:
          y = pool(y, op)
      outputs.append(y)
    return jnp.concatenate(outputs, -1), outputs[0]


class Inception(nn.Module):
  """images [B, 299, 299, 3], scaled to about [-1, 1] -> {tap: float [B, features]}.

  Taps '64', '192', '768' and '2048' are spatial means, as pytorch-fid's; 'logits' [B, 1008] and
  'logits_unbiased' (of which the inception score is made; without the last layer's bias) and
  'spatial' [B, 17 * 17 * 7] (of which the sFID is made; NHWC order).
  """

  @nn.compact
  def __call__(self, x):
    """See the class."""
    _check_input(x)
    taps = {}
    for i, stage in enumerate(STAGES):
      if isinstance(stage, Conv):
        x = _ConvNorm(stage, name=stage.name)(x)
      elif isinstance(stage, Pool):
        x = pool(x, stage)
      else:
        name, branches = stage
        x, first = _Mixed(branches, name=name)(x)
        if name == SPATIAL_BLOCK:
          taps['spatial'] = _spatial(first)
      if i in TAPS:
        taps[TAPS[i]] = x.mean((1, 2))
    fc = self.param('fc', _init_fc, x.shape[-1])
    return taps | _logits(taps['2048'], fc)


def _init_fc(key, width):
  return {'kernel': nn.initializers.lecun_normal()(key, (width, CLASSES)),
          'bias': jnp.zeros(CLASSES)}


def _check_input(x):
  if x.ndim != 4 or x.shape[1:] != (SIZE, SIZE, 3):
    raise ValueError(f'images must be [B, {SIZE}, {SIZE}, 3], got {x.shape}; resize.py makes them.')


def _logits(features, fc):
  unbiased = jnp.matmul(features, fc['kernel'], precision=PRECISION)
  return {'logits_unbiased': unbiased, 'logits': unbiased + fc['bias'][None]}


def _spatial(branch):
  return branch[..., :SPATIAL_CHANNELS].reshape(len(branch), -1)


def pool(x, op):
  """A 3x3 `Pool` of [B, H, W, C]; what is beyond the edge counts neither in mean nor maximum."""
  window, strides = (1, 3, 3, 1), (1, op.stride, op.stride, 1)
  pads = ((0, 0), (op.pad, op.pad), (op.pad, op.pad), (0, 0))
  if op.kind == 'max':
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, pads)
  total = jax.lax.reduce_window(x, 0., jax.lax.add, window, strides, pads)
  ones = np.ones((1, *x.shape[1:3], 1), np.float32)
  padded = np.pad(ones, pads)
  count = sum(padded[:, i:i + x.shape[1], j:j + x.shape[2]] for i in range(3) for j in range(3))
  return total * (1 / jnp.asarray(count, x.dtype))


def convs():
  """(path, Conv) of all 94 convolutions, path as in the checkpoint: ('Mixed_5b', 'branch1x1')."""
  for stage in STAGES:
    if isinstance(stage, Conv):
      yield (stage.name,), stage
    elif not isinstance(stage, Pool):
      for op in (op for branch in stage[1] for op in branch):
        for conv in op.convs if isinstance(op, Fork) else (op,) * isinstance(op, Conv):
          yield (stage[0], conv.name), conv


@functools.cache
def shapes():
  """{'Mixed_5b/branch1x1/conv/kernel': shape, ...} of the 472 arrays of the network."""
  params = jax.eval_shape(lambda key: Inception().init(key, jnp.zeros((1, SIZE, SIZE, 3))),
                          jax.random.key(0))['params']
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {'/'.join(key.key for key in path): leaf.shape for path, leaf in leaves}


# --- The same function in fewer operations ------------------------------------------------------

def fuse(params):
  """What `forward` takes, of the params {'Mixed_5b': {'branch1x1': ...}, ...} of `Inception`.

  BatchNorm is folded into the kernel that it follows, in float64; the 1x1 convolutions that open
  the branches of a block become one.
  """
  folded = {}
  for path, conv in convs():
    leaf = params
    for key in path:
      leaf = leaf[key]
    folded['/'.join(path)] = _fold(leaf, conv)
  for stage in STAGES:
    if not isinstance(stage, (Conv, Pool)):
      merged = [folded.pop(f'{stage[0]}/{conv.name}') for _, conv in _openings(stage[1])]
      folded[stage[0]] = {
        'kernel': np.concatenate([m['kernel'] for m in merged], -1),
        'bias': np.concatenate([m['bias'] for m in merged])} if merged else None
  folded['fc'] = {name: np.asarray(array) for name, array in params['fc'].items()}
  return {name: layer for name, layer in folded.items() if layer}


def _fold(leaf, conv):
  kernel, norm = np.asarray(leaf['conv']['kernel']), leaf['bn']
  scale, bias, mean, var = (np.asarray(norm[name], np.float64)
                            for name in ('scale', 'bias', 'mean', 'var'))
  factor = scale / np.sqrt(var + EPS)
  assert kernel.shape[-1] == conv.features
  return {'kernel': (kernel * factor).astype(kernel.dtype),
          'bias': (bias - mean * factor).astype(kernel.dtype)}


def _openings(branches):
  """(position, Conv) of the 1x1 convolutions of a block's own input.

  A mean pool and a 1x1 convolution without bias commute: the pool waits, on fewer channels.
  """
  for i, branch in enumerate(branches):
    if isinstance(branch[0], Conv) and branch[0].kernel == (1, 1):
      yield i, branch[0]
    elif branch[0] == Pool('avg', 1, 1):
      yield i, branch[1]


def forward(fused, x):
  """`Inception` on `fuse`d weights: images [B, 299, 299, 3] -> the same taps, to 1e-5."""
  _check_input(x)
  taps = {}
  for i, stage in enumerate(STAGES):
    if isinstance(stage, Conv):
      x = _conv(x, fused[stage.name], stage)
    elif isinstance(stage, Pool):
      x = pool(x, stage)
    else:
      x, first = _fused_block(x, fused, *stage)
      if stage[0] == SPATIAL_BLOCK:
        taps['spatial'] = _spatial(first)
    if i in TAPS:
      taps[TAPS[i]] = x.mean((1, 2))
  return taps | _logits(taps['2048'], fused['fc'])


def _fused_block(x, fused, name, branches):
  """(all branches side by side, the first branch) of a mixed block."""
  openings = dict(_openings(branches))
  opened = {}
  if openings:
    merged = _raw_conv(x, fused[name]['kernel'], 1, (0, 0))
    cuts = np.cumsum([conv.features for conv in openings.values()])[:-1]
    parts = zip(openings, jnp.split(merged, cuts, -1), jnp.split(fused[name]['bias'], cuts))
    for i, y, bias in parts:
      y = pool(y, branches[i][0]) if isinstance(branches[i][0], Pool) else y
      opened[i] = nn.relu(y + bias[None, None, None])
  outputs = []
  for i, branch in enumerate(branches):
    y, rest = x, branch
    if i in opened:
      y, rest = opened[i], branch[2 if isinstance(branch[0], Pool) else 1:]
    for op in rest:
      if isinstance(op, Conv):
        y = _conv(y, fused[f'{name}/{op.name}'], op)
      elif isinstance(op, Fork):
        y = jnp.concatenate([_conv(y, fused[f'{name}/{c.name}'], c) for c in op.convs], -1)
      else:
        y = pool(y, op)
    outputs.append(y)
  return jnp.concatenate(outputs, -1), outputs[0]


def _conv(x, layer, spec):
  return nn.relu(_raw_conv(x, layer['kernel'], spec.stride, spec.pad)
                 + layer['bias'][None, None, None])


def _raw_conv(x, kernel, stride, pad):
  def convolve(x, pad):
    return jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), [(p, p) for p in pad],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision=PRECISION)

  if kernel.shape[:2] == (3, 3) and stride == 1 and pad == (0, 0):
    # XLA's CPU backend runs a VALID 3x3 at a quarter of the speed of a padded one.
    return jax.lax.platform_dependent(
      x, cpu=lambda x: convolve(x, (1, 1))[:, 1:-1, 1:-1], default=lambda x: convolve(x, (0, 0)))
  return convolve(x, pad)
