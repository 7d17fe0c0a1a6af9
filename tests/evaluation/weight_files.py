"""Writers of weight files for the readers' tests: state dicts of torch, graphs of TensorFlow."""
import collections
import io
import pickle
import struct
import zipfile

import numpy as np

from mollification.evaluation import torch_file

STORAGES = {np.dtype(v): k for k, v in torch_file.DTYPES.items()}


class _Named:
  """Pickled as the global `module.name`."""

  def __init__(self, module, name):
    self.module, self.name = module, name

  def __call__(self, *args):
    raise AssertionError('only for pickling')


class _Call:
  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


class _Storage:
  def __init__(self, dtype, key, count):
    self.pid = ('storage', _Named('torch', STORAGES[np.dtype(dtype)]), key, 'cpu', count)


class _Built:
  """Pickled as `obj`, to which a BUILD then gives `state`."""

  def __init__(self, obj, state):
    self.obj, self.state = obj, state


class _Pickler(pickle._Pickler):
  """Writes `_Named` as globals, which the C pickler would want to be importable."""

  dispatch = dict(pickle._Pickler.dispatch)   # noqa: RUF012
  legacy = False

  def persistent_id(self, obj):
    if isinstance(obj, _Storage):
      return (*obj.pid, None) if self.legacy else obj.pid
    return None

  def save_named(self, obj):
    self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())

  dispatch[_Named] = save_named

  def save_built(self, obj):
    self.save(obj.obj)
    self.save(obj.state)
    self.write(pickle.BUILD)

  dispatch[_Built] = save_built


def dumps(obj, *, legacy=False):
  """Pickle, protocol 2, as torch.save does."""
  stream = io.BytesIO()
  pickler = _Pickler(stream, 2)
  pickler.legacy = legacy
  pickler.dump(obj)
  return stream.getvalue()


def rebuilt_storage(array, key, state):
  """A pickled tensor whose storage is given another `state` once it has been read."""
  return _tensor(_Built(_Storage(array.dtype, key, array.size), state), array)


def rebuilt_tensor(array, key, state):
  """A pickled tensor that is given another `state` once it has been made."""
  return _Built(tensor(array, key), state)


def rebuilt_function(state):
  """The function that makes tensors, given another `state`: for all who read files afterwards."""
  return _Built(_Named('torch._utils', '_rebuild_tensor_v2'), state)


def _tensor(storage, array):
  return _Call(_Named('torch._utils', '_rebuild_tensor_v2'), storage, 0, array.shape,
               tuple(s // array.itemsize for s in array.strides), False, collections.OrderedDict())


def tensor(array, key, *, size=None, stride=None, offset=0, count=None):
  """A pickled tensor over storage `key`; keywords tell lies about it."""
  item = array.itemsize
  return _Call(_Named('torch._utils', '_rebuild_tensor_v2'),
               _Storage(array.dtype, key, array.size if count is None else count), offset,
               array.shape if size is None else size,
               tuple(s // item for s in array.strides) if stride is None else stride, False,
               collections.OrderedDict())


def state_dict(arrays, **lies):
  """(object to pickle, {key: array}) of {name: array}."""
  data = {str(i): np.ascontiguousarray(a) for i, a in enumerate(arrays.values())}
  return collections.OrderedDict(
    (name, tensor(a, key, **lies)) for name, (key, a) in zip(arrays, data.items())), data


def legacy(obj, data, *, protocol=torch_file.PROTOCOL, little=True):
  """Bytes of the legacy container."""
  parts = [dumps(torch_file.MAGIC), dumps(protocol),
           dumps({'protocol_version': protocol, 'little_endian': little, 'type_sizes': {}}),
           dumps(obj, legacy=True), dumps(sorted(data))]
  for key in sorted(data):
    parts += [struct.pack('<q', data[key].size), data[key].tobytes()]
  return b''.join(parts)


def zipped(obj, data, *, compression=zipfile.ZIP_STORED, byteorder=b'little'):
  """Bytes of the zip container."""
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', dumps(obj))
    archive.writestr('archive/byteorder', byteorder)
    for key, array in data.items():
      archive.writestr(f'archive/data/{key}', array.tobytes())
  return stream.getvalue()


def named(module, name):
  """A global, and with `call` what a hostile file makes of it."""
  return _Named(module, name)


def call(function, *args):
  """A call of a global at unpickling."""
  return _Call(function, *args)


def _varint(value):
  out = bytearray()
  while value > 127:
    out.append(value & 127 | 128)
    value >>= 7
  return bytes([*out, value])


def field(number, value):
  """A field of a protocol buffer: ints as varints, bytes with their length."""
  if isinstance(value, int):
    return _varint(number << 3) + _varint(value)
  return _varint(number << 3 | 2) + _varint(len(value)) + value


def graph(arrays):
  """Bytes of a GraphDef with a float Const of each array, and nodes of other kinds."""
  nodes = [field(1, b'input') + field(2, b'Placeholder'),
           field(1, b'size') + field(2, b'Const') + field(5, field(1, b'value') + field(
             2, field(8, field(1, 3) + field(4, struct.pack('<i', 299)))))]
  for name, array in arrays.items():
    shape = b''.join(field(2, field(1, n)) for n in array.shape)
    proto = field(1, 1) + field(2, shape) + field(4, array.astype('<f4').tobytes())
    nodes.append(field(1, name.encode()) + field(2, b'Const')
                 + field(5, field(1, b'dtype') + field(2, field(6, 1)))
                 + field(5, field(1, b'value') + field(2, field(8, proto))))
  return b''.join(field(1, node) for node in nodes)
