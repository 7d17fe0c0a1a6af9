"""Weights of the FID Inception network: found, verified, converted; no torch, no TensorFlow.

The allow-lists of the readers keep a file from running code; the sha256 says that it is the file
that published figures were made with. Both are needed: well-formed weights of another network give
distances on another scale.
"""
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import pickle

import numpy as np

from mollification import files, npz
from mollification.evaluation import graph_file, inception, torch_file

TORCH_NAME = 'pt_inception-2015-12-05-6726825d.pth'
TORCH_SHA256 = '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2'
TORCH_URL = f'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{TORCH_NAME}'
JAX_FID_SHA256 = '4e030efa5bccac3222d975f658d1884f9e00fab24f2812082884539220b90d77'
KNOWN = {TORCH_SHA256: 'pytorch-fid', JAX_FID_SHA256: 'jax-fid'}
NPZ_NAME = 'inception-2015-12-05.npz'
FORMAT = 'mollification inception 1'
VARIABLE = 'FID_INCEPTION_WEIGHTS'
TF_BATCH_NORM = {'scale': 'gamma', 'bias': 'beta', 'mean': 'moving_mean', 'var': 'moving_variance'}
TORCH_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean',
                'var': 'running_var'}


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
  """`params` as `inception.Inception` takes them.

  `sha256` is that of the arrays, see `content_sha256`: of whatever form, equal weights have equal
  ones, and no file can say otherwise. `file_sha256` is that of the published file that they come
  from; `claimed` says that it was not taken here, but is what an npz says of itself.
  """
  params: dict = dataclasses.field(repr=False)
  sha256: str
  file_sha256: str
  claimed: bool = False

  @property
  def origin(self):
    """Where the weights come from, in words that promise no more than was looked at."""
    name = KNOWN.get(self.file_sha256, 'unverified')
    return f'{"npz that says it is of: " if self.claimed else ""}{name}, sha256 {self.file_sha256}'


def search_path(path=''):
  """Files that `find` tries, in order: `path` alone where it is given."""
  if path:
    return [pathlib.Path(path).expanduser()]
  home = pathlib.Path.home() / '.cache'
  given = os.environ.get(VARIABLE, '')
  return [*([pathlib.Path(given).expanduser()] if given else []), home / 'mollification' / NPZ_NAME,
          home / 'mollification' / TORCH_NAME, home / 'torch' / 'hub' / 'checkpoints' / TORCH_NAME]


def find(path=''):
  """The first file of `search_path` that exists.

  FileNotFoundError says where the weights are published, their sha256, and where they were sought.
  """
  tried = search_path(path)
  if not path and os.environ.get(VARIABLE) and not tried[0].is_file():
    raise FileNotFoundError(f'{VARIABLE} must name the Inception weights, got {tried[0]}, which is '
                            'no file; mend or unset it.')
  for candidate in tried:
    if candidate.is_file():
      return candidate
  raise FileNotFoundError(
    f'the Inception weights are not here; download {TORCH_URL} (sha256 {TORCH_SHA256}) and set '
    f'{VARIABLE} to its path (mollification.evaluate has --weights=FILE), or put it in one of the '
    f'places searched: {", ".join(map(str, tried))}.')


def load(path='', *, allow_unverified=False):
  """The `Weights` in a file of any known form; `path` of '' searches, see `search_path`.

  Forms: state dict of torch (legacy or zip), frozen TensorFlow graph, pickle of jax-fid, and the
  npz that `save` writes. Raises ValueError for a sha256 that is not known unless
  `allow_unverified`, for files that cannot be read safely, and for arrays that do not fit. Which
  file an npz was converted from it says itself (`Weights.claimed`).
  """
  path = find(path)
  content = path.read_bytes()
  try:
    arrays, sha256, claimed = _read(content)
    _check_arrays(arrays)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  if sha256 not in KNOWN and not allow_unverified:
    raise ValueError(f'{path} must have a known sha256 ({TORCH_SHA256} is that of {TORCH_NAME}), '
                     f'got {sha256}; download it again from {TORCH_URL}, or pass '
                     '--allow_unverified_weights.')
  return Weights(nest(arrays), content_sha256(arrays), sha256, claimed)


def save(weights, path):
  """Write `Weights` as npz, in one move: float32 arrays and a header that names their origin."""
  arrays = flatten(weights.params)
  header = {'format': FORMAT, 'source_sha256': weights.file_sha256,
            'content_sha256': content_sha256(arrays)}
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part, part.open('wb') as file:
    np.savez(file, header=np.array(json.dumps(header, sort_keys=True)), **arrays)


def flatten(params):
  """{'Mixed_5b/branch1x1/conv/kernel': array, ...} of nested params, in the network's order."""
  return {name: np.asarray(_leaf(params, name), np.float32) for name in inception.shapes()}


def content_sha256(arrays):
  """sha256 over names, shapes and little-endian float32 values, by name."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name], '<f4')
    digest.update(f'{name} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _leaf(params, name):
  for key in name.split('/'):
    params = params[key]
  return params


def nest(arrays):
  """Nested params of {name: array}, in float32; the inverse of `flatten`."""
  params = {}
  for name, array in arrays.items():
    *path, leaf = name.split('/')
    node = params
    for key in path:
      node = node.setdefault(key, {})
    node[leaf] = np.ascontiguousarray(array, np.float32)
  return params


def _read(content):
  """({name: array}, sha256 of the original, is it claimed) of a file, by what it starts with."""
  sha256 = hashlib.sha256(content).hexdigest()
  if _is_npz(content):
    return *_read_npz(content), True
  if torch_file.is_torch(content):
    return _from_torch(torch_file.read(content)), sha256, False
  if content[:1] == b'\x80':
    return _from_jax_fid(content), sha256, False
  return _from_graph(graph_file.read(content)), sha256, False


def _check_arrays(arrays):
  wanted = inception.shapes()
  missing, extra = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
  if missing or extra:
    raise ValueError(f'the {len(wanted)} arrays of the network are wanted; {len(missing)} are '
                     f'missing ({", ".join(missing[:3])}), {len(extra)} are unknown '
                     f'({", ".join(extra[:3])}): these are weights of another network.')
  for name, shape in wanted.items():
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != 'f':
      raise ValueError(f'{name} must be floats of shape {shape}, got {array.dtype} {array.shape}; '
                       'these are weights of another network.')
    if not np.isfinite(array).all():
      raise ValueError(f'{name} must be finite, got NaN or infinite entries; the file is damaged.')


# --- Forms --------------------------------------------------------------------------------------

def _is_npz(content):
  return content.startswith(torch_file.ZIP_START) and b'header.npy' in content[:64]


def _read_npz(content):
  try:
    found = npz.read(io.BytesIO(content))
    header = json.loads(str(found.pop('header')))
    fits = header['format'] == FORMAT and header['content_sha256'] == content_sha256(found)
    sha256 = str(header['source_sha256'])
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise ValueError(f'not an npz of convert-weights: {error}; convert the original again.'
                     ) from error
  if not fits:
    raise ValueError('its arrays are not those that its header describes; convert the original '
                     'again.')
  return found, sha256


def _from_torch(tensors):
  """State dict of torchvision's names, OIHW, to ours, HWIO."""
  counted = {name for name in tensors if name.endswith('.num_batches_tracked')}
  names = {'.'.join((*name.split('/')[:-1], TORCH_LEAVES[name.split('/')[-1]])): name
           for name in inception.shapes()}
  found = {}
  for theirs, array in tensors.items():
    if theirs not in counted:
      axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
      found[names.get(theirs, theirs)] = array.transpose(axes)
  return found


def graph_names():
  """{our name: node name in the TensorFlow graph} of all arrays.

  The graph numbers its scopes: 'conv', 'conv_1', ... for the stem, 'mixed', 'mixed_1', ... for the
  blocks; in a block a branch of one convolution is 'conv', the others are 'tower', 'tower_1', ...
  with 'conv', 'conv_1', ... inside; side by side convolutions stand under 'mixed' there.
  """
  names, stems, blocks = {}, 0, 0
  for stage in inception.STAGES:
    if isinstance(stage, inception.Conv):
      names |= _graph_leaves(stage.name, _numbered('conv', stems))
      stems += 1
    elif not isinstance(stage, inception.Pool):
      names |= _graph_block(stage[0], _numbered('mixed', blocks), stage[1])
      blocks += 1
  return names | {'fc/kernel': 'softmax/weights', 'fc/bias': 'softmax/biases'}


def _graph_block(block, scope, branches):
  names, towers = {}, 0
  for branch in branches:
    ops = [op for op in branch if not isinstance(op, inception.Pool)]
    if not ops:
      continue
    prefix = scope
    if len(branch) > 1:
      prefix = f'{scope}/{_numbered("tower", towers)}'
      towers += 1
    for i, op in enumerate(ops):
      if isinstance(op, inception.Fork):
        for j, conv in enumerate(op.convs):
          names |= _graph_leaves(f'{block}/{conv.name}', f'{prefix}/mixed/{_numbered("conv", j)}')
      else:
        names |= _graph_leaves(f'{block}/{op.name}', f'{prefix}/{_numbered("conv", i)}')
  return names


def _graph_leaves(ours, theirs):
  norms = {f'{ours}/bn/{leaf}': f'{theirs}/batchnorm/{name}'
           for leaf, name in TF_BATCH_NORM.items()}
  return {f'{ours}/conv/kernel': f'{theirs}/conv2d_params'} | norms


def _numbered(name, index):
  return f'{name}_{index}' if index else name


def _from_graph(constants):
  """Constants of the frozen graph; those that are no weights (sizes, scales) are left out."""
  return {ours: constants[theirs] for ours, theirs in graph_names().items() if theirs in constants}


def _from_jax_fid(content):
  """Nested dict {layer: {conv: {kernel}, bn: {scale, bias, mean, var}}, fc: {kernel, bias}}."""
  stream = io.BytesIO(content)
  try:
    torch_file.check_memo(stream)
    tree = _NumpyUnpickler(stream, encoding='latin1').load()
    left_over = stream.read(1)
    found = _leaves(tree)
  # A hostile or damaged pickle may raise whatever its opcodes can make Python raise.
  except Exception as error:
    raise ValueError(f'not a pickle of arrays that can be read safely: {error}; convert from '
                     f'{TORCH_NAME} instead.') from error
  if left_over:
    raise ValueError('bytes are left over after the pickle; convert from the .pth instead.')
  return found


def _leaves(tree):
  """{path: array} of nested dicts, of which one may stand in many places: their number is bound."""
  found, nodes, seen, most = {}, [('', tree)], 1, 10 * len(inception.shapes())
  while nodes:
    prefix, node = nodes.pop()
    if isinstance(node, _Pickled):
      found[prefix] = node.array()
    elif isinstance(node, dict) and prefix.count('/') < 4:
      seen += len(node)
      if seen > most:
        raise ValueError(f'it has more than {most} entries')
      nodes += [(f'{prefix}/{key}' if prefix else str(key), value) for key, value in node.items()]
    else:
      raise ValueError(f'{prefix!r:.60} is a {type(node).__name__}')
  return found


class _PickledType:
  """Stands for a dtype while unpickling; only plain floats are known."""

  def __init__(self, name, *rest):
    del rest
    self.dtype = np.dtype({'f4': '<f4', '<f4': '<f4', 'f8': '<f8', '<f8': '<f8'}[name])

  def __setstate__(self, state):
    if state[1] not in ('<', '|'):
      raise pickle.UnpicklingError('big-endian arrays')


class _Pickled:
  """Stands for an array while unpickling: NumPy's own would take whatever the file says."""

  def __init__(self, *rest):
    del rest
    self.state = None

  def __setstate__(self, state):
    self.state = state

  def array(self):
    """The array, its size checked against its bytes."""
    _, shape, kind, fortran, raw = self.state
    flat = np.frombuffer(raw.encode('latin1') if isinstance(raw, str) else raw, kind.dtype)
    return flat.reshape(shape, order='F' if fortran else 'C')


class _FromBuffer(torch_file.Sealed):
  """The function that newer NumPy pickles by; an object, since a function can be changed."""

  def __call__(self, raw, kind, shape, order):
    array = _Pickled()
    array.state = (1, shape, kind, order == 'F', raw)
    return array


class _Encode(torch_file.Sealed):
  """Stands for `_codecs.encode`, by which older protocols hold bytes."""

  def __call__(self, text, encoding):
    del encoding
    return text.encode('latin1')


class _NumpyUnpickler(pickle.Unpickler):
  """Knows how NumPy pickles float arrays; every other name raises."""

  NAMES = {   # noqa: RUF012
    ('multiarray', '_reconstruct'): _Pickled, ('numeric', '_frombuffer'): _FromBuffer(),
    ('numpy', 'ndarray'): None, ('numpy', 'dtype'): _PickledType,
    ('_codecs', 'encode'): _Encode(),
  }

  def find_class(self, module, name):
    for folder in ('numpy.core.', 'numpy._core.'):
      module = module.removeprefix(folder)
    if (module, name) not in self.NAMES:
      raise pickle.UnpicklingError(f'it names {module}.{name}, which no array needs')
    return self.NAMES[module, name]
