"""Arrays in npy and npz files: nothing is ever unpickled, and any damage is a ValueError."""
import contextlib
import math
import pathlib
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib

import numpy as np

# What NumPy, zipfile and zlib raise on files that are damaged, or no such files at all. NumPy
# parses a header as Python text, and makes room for as many numbers as it claims.
_DAMAGE = (ValueError, OSError, EOFError, TypeError, KeyError, RuntimeError, SyntaxError,
           tokenize.TokenError, MemoryError, OverflowError, zipfile.BadZipFile, zlib.error,
           struct.error)
_CHUNK = 1 << 20
_DEFLATE = 1040   # bytes out per byte in, at most


@contextlib.contextmanager
def _one_error():
  try:
    yield
  except _DAMAGE as error:
    reason = str(error) or type(error).__name__
    raise ValueError(reason.rstrip('.')) from error


def read(file, names=None):
  """{name: array} of an npz, a path or an open binary file; of `names` those that are there.

  Raises ValueError that says what is wrong with it; callers add its name and the way out.
  """
  with _one_error(), contextlib.ExitStack() as stack:
    if isinstance(file, (str, pathlib.Path)):   # np.load leaves a damaged one open
      file = stack.enter_context(pathlib.Path(file).open('rb'))
    archive = stack.enter_context(np.load(file, allow_pickle=False))
    wanted = [name for name in archive.files if names is None or name in names]
    for name in wanted:
      _check_claim(archive.zip, name)
    return {name: archive[name] for name in wanted}


def _check_claim(archive, name):
  """Raise ValueError for what is no array, and where one claims more memory than it can fill.

  NumPy makes room for all of it before it reads any.
  """
  members = archive.NameToInfo
  info = members.get(f'{name}.npy') or members[name]
  with archive.open(info) as member:
    if member.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
      raise ValueError(f'{name!r:.40} is no array')   # NumPy would give its bytes
  with archive.open(info) as member:
    shape, _, dtype = _header(member)
  if info.file_size > _DEFLATE * max(info.compress_size, 1):
    raise ValueError(f'{name!r:.40} claims {info.file_size} bytes, unpacked, of '
                     f'{info.compress_size}')
  if dtype.itemsize * math.prod(shape) > info.file_size:
    raise ValueError('its array has another size than its header says')


def _header(file):
  """(shape, Fortran order, dtype) of the npy that an open file holds; it is left at the numbers."""
  readers = {(1, 0): np.lib.format.read_array_header_1_0,
             (2, 0): np.lib.format.read_array_header_2_0}
  return readers[np.lib.format.read_magic(file)](file)


def mapped(path, choose):
  """The array in an npy file, or in an npz that of the name `choose(names)`, mapped read-only.

  What an npz holds as it is, as np.savez writes it, is mapped where it lies, once its checksum has
  been taken; what is compressed is unpacked into a nameless temporary file. Raises ValueError as
  `read`.
  """
  path = pathlib.Path(path)
  with _one_error():
    if path.suffix.lower() == '.npy':
      with path.open('rb') as file:
        return _mapped(file, 0, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
      info = archive.getinfo(choose([n.removesuffix('.npy') for n in archive.namelist()]) + '.npy')
      with archive.open(info) as member:
        if info.compress_type != zipfile.ZIP_STORED:
          with tempfile.TemporaryFile() as file:   # the mapping keeps it alive
            shutil.copyfileobj(member, file, _CHUNK)
            return _mapped(file, 0, info.file_size)
        while member.read(_CHUNK):
          pass
    with path.open('rb') as file:
      file.seek(info.header_offset + 26)   # of the lengths of name and extra field
      return _mapped(file, info.header_offset + 30 + sum(struct.unpack('<HH', file.read(4))),
                     info.file_size)


def _mapped(file, start, size):
  """The npy in `size` bytes of an open file, mapped."""
  file.seek(start)
  shape, fortran, dtype = _header(file)
  if dtype.hasobject:
    raise ValueError('Python objects, which only a pickle could hold')
  if file.tell() - start + dtype.itemsize * int(np.prod(shape, dtype=np.int64)) != size:
    raise ValueError('its array has another size than its header says')
  return np.memmap(file, dtype, 'r', file.tell(), shape, 'F' if fortran else 'C')
