"""What pytorch-fid's own network returns on seeded random weights: the tests' golden vectors.

  python -m experiments.bench.inception_golden     (needs the extra `bench`)

Writes tests/evaluation/golden/inception.npz, and small files of torch.save for the tests of the
reader. Weights and images come from the raw words of a Philox generator, which every NumPy gives
alike; so only the outputs are committed.
"""
import collections
import hashlib
import math
import pathlib

import numpy as np

from mollification.evaluation import inception

GOLDEN = (pathlib.Path(__file__).parents[2]
          / 'tests' / 'evaluation' / 'golden' / 'inception.npz')
SIZES = (32, 64, 299, 512)
RESIZED = (28, 32, 64, 512, 1024)
SAMPLED = (slice(None, None, 23), slice(None, None, 19))   # of the resized images' rows and columns


def uniform(name, shape, low, high):
  """float32 array of uniform numbers that depend on the name alone."""
  key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], 'little')
  count = math.prod(shape)
  words = np.random.Philox(key=key).random_raw(-(-count // 2)).view(np.uint32)[:count]
  share = (words >> np.uint32(8)).astype(np.float64) * 2.**-24
  return (low + (high - low) * share).reshape(shape).astype(np.float32)


def random_weights():
  """{'Mixed_5b/branch1x1/conv/kernel': array, ...}, such that signals pass all layers.

  Kernels are He-uniform, scales and variances lie in [1/2, 3/2], biases and means in [-.2, .2]:
  with the usual initial values activations fade, and with them every error.
  """
  weights = {}
  for name, shape in inception.shapes().items():
    low, high = (.5, 1.5) if name.endswith(('/scale', '/var')) else (-.2, .2)
    if len(shape) > 1:
      high = math.sqrt(6 / math.prod(shape[:-1]))
      low = -high
    weights[name] = uniform(name, shape, low, high)
  return weights


def image(size):
  """uint8 [1, size, size, 3]: noise on a gradient."""
  noise = uniform(f'image {size}', (1, size, size, 3), 0, 128)
  ramp = np.linspace(0, 127, size)[None, :, None, None]
  return np.floor(noise + ramp).astype(np.uint8)


def state_dict(weights):
  """The weights under the names and in the layout of pytorch-fid's file, as arrays."""
  names = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean',
           'var': 'running_var'}
  found = {}
  for name, array in weights.items():
    *path, leaf = name.split('/')
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    found['.'.join((*path, names[leaf]))] = np.ascontiguousarray(array.transpose(axes))
  return found


def reference(weights):
  """pytorch-fid's network (torch.nn.Module) with these weights."""
  import torch
  # PyPI's torchvision does not import beside a CPU build of torch: it describes operators of its
  # own that are not there. Its network needs none of them.
  register, torch.library.register_fake = torch.library.register_fake, lambda *_: lambda fn: fn
  try:
    from pytorch_fid import inception as theirs
  finally:
    torch.library.register_fake = register
  tensors = {name: torch.from_numpy(array) for name, array in state_dict(weights).items()}
  theirs.load_state_dict_from_url = lambda *args, **kwargs: tensors
  net = theirs.InceptionV3([0, 1, 2, 3]).eval()
  full = theirs.fid_inception_v3().eval()
  return net, full


def outputs(net, full, images, dtype):
  """{tap: array} of uint8 images [B, H, W, 3], as pytorch-fid prepares and averages them."""
  import torch
  net, full = net.to(dtype), full.to(dtype)
  x = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(dtype) / 255
  spatial = []
  block = net.blocks[2][6].branch1x1   # Mixed_6d
  hook = block.register_forward_hook(lambda module, args, out: spatial.append(out))
  with torch.no_grad():
    taps = {str(t.shape[1]): t.mean((2, 3)) for t in net(x)}
    taps['logits'] = full.fc(taps['2048'])
    taps['spatial'] = spatial[0][:, :7].permute(0, 2, 3, 1).flatten(1)
  hook.remove()
  return {name: t.numpy() for name, t in taps.items()}


def _save_small(torch):
  """A state dict with shared, transposed, empty and integer tensors, in both containers."""
  base = torch.arange(24, dtype=torch.float32)
  tensors = collections.OrderedDict(
    plain=base.reshape(2, 3, 4), transposed=base[:6].reshape(2, 3).T, cut=base[5:9],
    half=torch.tensor([.5, -2.], dtype=torch.float16), count=torch.tensor(7),
    empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(torch.ones(2)).data)
  for name, zipped in (('legacy', False), ('zip', True)):
    torch.save(tensors, GOLDEN.with_name(f'{name}.pth'), _use_new_zipfile_serialization=zipped)


def main():
  """Write the golden files."""
  import torch
  net, full = reference(random_weights())
  arrays = {}
  for size in SIZES:
    for name, array in outputs(net, full, image(size), torch.float32).items():
      if size == 64 or name not in ('logits', 'spatial'):
        arrays[f'{size}/{name}'] = array[0]
  for name, array in outputs(net, full, image(64), torch.float64).items():
    if name in ('192', '768', '2048'):
      arrays[f'64/{name}/float64'] = array[0]
  for size in RESIZED:
    x = torch.from_numpy(image(size).transpose(0, 3, 1, 2)).to(torch.float32)
    resized = torch.nn.functional.interpolate(
      x, (inception.SIZE,) * 2, mode='bilinear', align_corners=False)
    arrays[f'resized/{size}'] = resized[0].permute(1, 2, 0).numpy()[SAMPLED]
  GOLDEN.parent.mkdir(parents=True, exist_ok=True)
  _save_small(torch)
  np.savez_compressed(GOLDEN, torch=torch.__version__, **arrays)
  print(f'{GOLDEN}: {GOLDEN.stat().st_size:,} bytes')


if __name__ == '__main__':
  main()
