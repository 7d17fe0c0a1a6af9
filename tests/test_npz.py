"""Arrays in files: mapped where they lie, and any damage is a ValueError."""
import io
import pathlib
import pickle
import resource
import zipfile

import numpy as np
import pytest

from mollification import npz

X = np.arange(3000, dtype=np.int16).reshape(60, 50)


def first(names):
  return names[0]


@pytest.mark.parametrize('write', [np.savez, np.savez_compressed, np.save])
@pytest.mark.parametrize('x', [X, np.asfortranarray(X), X[:, 0]], ids=['C', 'Fortran', 'vector'])
def test_an_array_is_mapped_not_loaded(tmp_path, write, x):
  path = tmp_path / ('x.npy' if write is np.save else 'x.npz')
  write(path, x)
  found = npz.mapped(path, first)
  assert isinstance(found, np.memmap)
  assert not found.flags.writeable
  np.testing.assert_array_equal(found, x)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]   # what was unpacked has no name


def test_the_array_that_was_chosen(tmp_path):
  np.savez(tmp_path / 'x.npz', a=X + 1, b=X)
  np.testing.assert_array_equal(
    npz.mapped(tmp_path / 'x.npz', lambda names: names[names.index('b')]), X)
  assert set(npz.read(tmp_path / 'x.npz')) == {'a', 'b'}
  np.testing.assert_array_equal(npz.read(io.BytesIO((tmp_path / 'x.npz').read_bytes()))['b'], X)


def test_what_is_no_array_is_said(tmp_path):
  """Of other files in an archive NumPy gives the bytes."""
  np.savez(tmp_path / 'x.npz', a=X)
  with zipfile.ZipFile(tmp_path / 'x.npz', 'a') as archive:
    archive.writestr('note.txt', 'text')
  with pytest.raises(ValueError, match=r"'note\.txt' is no array"):
    npz.read(tmp_path / 'x.npz')
  np.testing.assert_array_equal(npz.read(tmp_path / 'x.npz', ['a'])['a'], X)


def _lying_header():
  """A member whose header says more rows than it has, and that another one follows."""
  stream, header = io.BytesIO(), io.BytesIO()
  np.save(header, X)
  lie = header.getvalue().replace(b'(60, 50)', b'(61, 50)')
  with zipfile.ZipFile(stream, 'w') as archive:
    archive.writestr('x.npy', lie)
    archive.writestr('y.npy', header.getvalue())
  return stream.getvalue()


def test_any_damage_is_one_kind_of_error(tmp_path):
  """Every cut, flipped bytes all along, other files under the name, and pickles."""
  path, rng = tmp_path / 'x.npz', np.random.default_rng(0)
  contents = [b'', b'no', _lying_header(), pickle.dumps([1])]
  for write in (np.savez, np.savez_compressed):
    write(path, X)
    whole = path.read_bytes()
    contents += [whole[:cut] for cut in range(1, len(whole), len(whole) // 40)]
    for at in range(0, len(whole), 97):
      flipped = bytearray(whole)
      flipped[at] ^= int(rng.integers(1, 256))
      contents.append(bytes(flipped))
  np.save(path.with_suffix('.npy'), X)
  contents.append(path.with_suffix('.npy').read_bytes())
  np.savez(path, np.array([{}], object), allow_pickle=True)
  contents.append(path.read_bytes())
  refused = 0
  for content in contents:
    path.write_bytes(content)
    for read in (lambda: npz.mapped(path, first), lambda: next(iter(npz.read(path).values()))):
      try:
        np.testing.assert_array_equal(read(), X)   # bytes that matter to nobody, such as times
      except ValueError:
        refused += 1
  assert refused > len(contents)
  path.write_bytes(_lying_header())
  with pytest.raises(ValueError, match='another size than its header says'):
    npz.mapped(path, first)
  with pytest.raises(ValueError, match=r'No such file'):
    npz.read(tmp_path / 'none.npz')


def _npy(header):
  """An npy file of version 1 with this text for its header, and 100 bytes of numbers."""
  text = header.encode().ljust(117) + b'\n'
  return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text + bytes(100)


@pytest.mark.parametrize('header', [
  "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000,), }",   # 40 GB
  "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), ", '{', 'x' * 100, '(' * 100])
def test_a_header_that_is_no_header_or_claims_too_much_takes_no_memory(header, tmp_path):
  (tmp_path / 'x.npy').write_bytes(_npy(header))
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('x.npy', _npy(header))
  limits = resource.getrlimit(resource.RLIMIT_AS)
  used = 4096 * int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000_000, limits[1]))
  try:
    for read in (lambda: npz.read(tmp_path / 'x.npz'),
                 lambda: npz.mapped(tmp_path / 'x.npz', first),
                 lambda: npz.mapped(tmp_path / 'x.npy', first)):
      with pytest.raises(ValueError) as error:
        read()
      assert not isinstance(error.value.__cause__, MemoryError)
  finally:
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_an_npz_under_the_name_of_an_npy_is_no_array(tmp_path):
  np.savez(tmp_path / 'x.npz', X)
  (tmp_path / 'x.npz').rename(tmp_path / 'x.npy')
  with pytest.raises(ValueError, match='magic string'):
    npz.mapped(tmp_path / 'x.npy', first)
