"""Tensors of a PyTorch state dict, without PyTorch: legacy files and zip archives, as NumPy arrays.

Unpickling runs code that the file names. Here a file may name an ordered dict, the function that
rebuilds a tensor and the storage types, and nothing else; what it says about sizes is checked
against the bytes that are there. Formats as written by `torch.save` of PyTorch 0.4 to 2.13.
"""
import collections
import dataclasses
import io
import math
import pickle
import pickletools
import zipfile

import numpy as np

MAGIC = 0x1950a86a20f9469cfc6c
PROTOCOL = 1001
LEGACY_START = b'\x80\x02\x8a\x0a' + MAGIC.to_bytes(10, 'little') + b'.'
ZIP_START = b'PK\x03\x04'
DTYPES = {
  'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'LongStorage': '<i8',
  'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
  'BoolStorage': '?',
}


class Sealed:
  """What a pickle makes and must not change afterwards: its BUILD would write past a check."""
  __slots__ = ()

  def __setstate__(self, state):
    raise pickle.UnpicklingError('it changes what has been checked')


@dataclasses.dataclass(frozen=True)
class _Storage(Sealed):
  key: str
  dtype: np.dtype
  count: int


@dataclasses.dataclass(frozen=True)
class _Tensor(Sealed):
  storage: _Storage
  offset: int
  size: tuple
  stride: tuple


class _StateDict(collections.OrderedDict):
  """An ordered dict whose attributes (`_metadata`) are ignored."""

  def __setstate__(self, state):
    del state


class _Unpickler(pickle.Unpickler):
  """Knows the few names that a state dict needs; every other raises."""

  def find_class(self, module, name):
    if (module, name) == ('collections', 'OrderedDict'):
      return _StateDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _Rebuild()
    if module == 'torch' and name in DTYPES:
      return name
    raise pickle.UnpicklingError(f'it names {module}.{name}, which no state dict needs')

  def persistent_load(self, pid):
    if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == 'storage'):
      raise pickle.UnpicklingError(f'unknown reference {pid!r:.80}')
    _, kind, key, _, count, *view = pid
    if not (isinstance(kind, str) and kind in DTYPES and isinstance(key, str)
            and _is_count(count)):
      raise pickle.UnpicklingError(f'unknown storage {pid!r:.80}')
    if view and view[0] is not None:
      raise pickle.UnpicklingError('it holds a view of a storage')
    return _Storage(key, np.dtype(DTYPES[kind]), count)


def is_torch(content):
  """Whether bytes start as a file of `torch.save` does."""
  return content.startswith((LEGACY_START, ZIP_START))


def read(content):
  """{name: array} of the state dict in the bytes of a file; arrays are read-only views.

  Raises ValueError for anything but tensors under names, for sizes that the bytes do not bear
  out, and for bytes left over.
  """
  try:
    tensors, data = (_read_zip if content.startswith(ZIP_START) else _read_legacy)(content)
    return {name: _array(name, tensor, data) for name, tensor in tensors.items()}
  # A hostile or damaged pickle may raise whatever its opcodes can make Python raise.
  except Exception as error:
    raise ValueError(f'not a state dict that can be read safely: {error}; a good file holds '
                     'tensors under names, whole, and nothing else.') from error


def _read_legacy(content):
  """Five pickles in a row, then for each key an int64 count and the raw elements."""
  if not content.startswith(LEGACY_START):
    raise ValueError('it does not start as a file of torch.save')
  stream = io.BytesIO(content)
  _, protocol, system = (_load(stream) for _ in range(3))
  if protocol != PROTOCOL:
    raise ValueError(f'its protocol is {protocol!r:.40}, not {PROTOCOL}')
  _check_little(isinstance(system, dict) and system.get('little_endian'))
  tensors, storages = _checked(_load(stream))
  keys = _load(stream)
  if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
    raise ValueError('its list of storages is not that of its tensors')
  data, position = {}, stream.tell()
  for key in keys:
    storage = storages[key]
    count = int.from_bytes(content[position:position + 8], 'little')
    position += 8
    if count != storage.count or position + count * storage.dtype.itemsize > len(content):
      raise ValueError(f'storage {key!r:.40} is cut short or of another size')
    data[key] = np.frombuffer(content, storage.dtype, count, position)
    position += count * storage.dtype.itemsize
  if position != len(content):
    raise ValueError(f'{len(content) - position} bytes are left over')
  return tensors, data


def _read_zip(content):
  """`ROOT/data.pkl` and one uncompressed file of raw elements per storage."""
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith('/data.pkl')]
    if len(pickles) != 1 or len(set(names)) != len(names):
      raise ValueError('it must hold one data.pkl, and each name once')
    root = pickles[0].removesuffix('data.pkl')
    if f'{root}byteorder' in names:
      _check_little(_member(archive, f'{root}byteorder') == b'little')
    stream = io.BytesIO(_member(archive, pickles[0]))
    tensors, storages = _checked(_load(stream))
    if stream.read(1):
      raise ValueError('bytes are left over after its pickle')
    data = {}
    for key, storage in storages.items():
      raw = _member(archive, f'{root}data/{key}')
      if len(raw) != storage.count * storage.dtype.itemsize:
        raise ValueError(f'storage {key!r:.40} is of another size')
      data[key] = np.frombuffer(raw, storage.dtype)
    return tensors, data


def _member(archive, name):
  """Bytes of a stored member. torch.save compresses nothing, so no member outgrows the file."""
  if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
    raise ValueError(f'{name!r:.40} is compressed')
  return archive.read(name)


def check_memo(stream):
  """Raise UnpicklingError where the pickle ahead numbers what it keeps beyond what it holds.

  An unpickler makes room up to the highest number: five bytes would take 64 GB. The stream stays
  where it is. So it is raised for a pickle that is cut short.
  """
  start = stream.tell()
  try:
    for count, (opcode, number, _) in enumerate(pickletools.genops(stream)):
      if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and number > count:
        raise pickle.UnpicklingError(f'it numbers object {number} after {count} steps')
  except ValueError as error:
    raise pickle.UnpicklingError(f'its pickle is truncated or damaged: {error}') from error
  stream.seek(start)


def _load(stream):
  check_memo(stream)
  return _Unpickler(stream, encoding='utf-8').load()


def _check_little(little):
  if little is not True:
    raise ValueError('it is not little-endian')


class _Rebuild(Sealed):
  """The function that a tensor comes from; an object, since a function's defaults can be set."""

  def __call__(self, storage, offset, size, stride, *rest):
    del rest   # requires_grad, hooks: of no meaning here
    if not isinstance(storage, _Storage):
      raise pickle.UnpicklingError('a tensor without a storage')
    return _Tensor(storage, offset, size, stride)


def _checked(tensors):
  """(tensors, {key: storage}) of an unpickled object that must be a dict of tensors."""
  if not isinstance(tensors, dict):
    raise ValueError(f'it holds a {type(tensors).__name__}, not a dict of tensors')
  storages = {}
  for name, tensor in tensors.items():
    if not (isinstance(name, str) and isinstance(tensor, _Tensor)):
      raise ValueError(f'its entry {name!r:.60} is no tensor')
    if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
      raise ValueError(f'storage {tensor.storage.key!r:.40} is described in two ways')
  return tensors, storages


def _array(name, tensor, data):
  """The strided view that a tensor is of its storage, within bounds."""
  size, stride, offset = tensor.size, tensor.stride, tensor.offset
  valid = (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 8
           and all(map(_is_count, (*size, *stride, offset))))
  if not valid:
    raise ValueError(f'tensor {name!r:.60} has no valid size')
  elements = math.prod(size)
  last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if elements else 0
  raw = data[tensor.storage.key]
  # Without the second bound a stride of 0 makes terabytes of one number.
  if last >= max(raw.size, 1) or elements > raw.size:
    raise ValueError(f'tensor {name!r:.60} reaches beyond its storage')
  if not elements:
    return np.zeros(size, raw.dtype)
  return np.lib.stride_tricks.as_strided(
    raw[offset:], size, [step * raw.itemsize for step in stride], writeable=False)


def _is_count(value):
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48
