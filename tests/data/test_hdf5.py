"""The HDF5 file of BSDS300: of this file alone, and no more than it holds."""
import sys

import numpy as np
import pytest

from mollification import data
from mollification.data import density_tables
from tests.data.test_density_tables import SMALL, write_bsds300


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
  monkeypatch.setattr(density_tables, 'SHAPES', SMALL)


@pytest.mark.parametrize(('changes', 'message'), [
  ({'test': None}, r"BSDS300.hdf5: no HDF5 file with train, validation, test .*'test'"),
  ({'test': np.ones((30, 64))}, r'test must be float \(30, 63\), got float64 \(30, 64\).; put'),
  ({'test': np.ones((30, 63), int)}, r'test must be float \(30, 63\), got int64 \(30, 63\)'),
  ({'validation': np.full((20, 63), np.inf)}, r'hdf5 .validation.: inf at row 0, column 0')])
def test_what_is_wrong_with_patches_is_named(tmp_path, changes, message):
  write_bsds300(tmp_path, **changes)
  with pytest.raises(ValueError, match=message):
    data.load('bsds300', data_dir=tmp_path)


def _external(h5py, file, folder, rows):
  with h5py.File(folder / 'other.hdf5', 'w') as other:
    other['test'] = rows
  file['test'] = h5py.ExternalLink('../other.hdf5', '/test')


def _soft(h5py, file, folder, rows):
  file['elsewhere'] = rows
  file['test'] = h5py.SoftLink('/elsewhere')


def _raw_elsewhere(h5py, file, folder, rows):
  rows.tofile(folder / 'raw')
  file.create_dataset('test', rows.shape, rows.dtype, external=[(folder / 'raw', 0, rows.nbytes)])


def _virtual(h5py, file, folder, rows):
  layout = h5py.VirtualLayout(rows.shape, rows.dtype)
  layout[:] = h5py.VirtualSource('../other.hdf5', 'test', rows.shape)
  file.create_virtual_dataset('test', layout)


def _group(h5py, file, folder, rows):
  file.create_group('test')


def _null(h5py, file, folder, rows):
  file['test'] = h5py.Empty('f8')


def _unwritten(h5py, file, folder, rows):
  file.create_dataset('test', rows.shape, rows.dtype, chunks=(10, 63))


def _zeros(h5py, file, folder, rows):
  file.create_dataset('test', data=0 * rows, chunks=rows.shape, compression='gzip')


@pytest.mark.parametrize(('write', 'message'), [
  (_external, 'test must be in the file itself, not a link'),
  (_soft, 'test must be in the file itself, not a link'),
  (_raw_elsewhere, 'test must be in the file itself, not in others that it names'),
  (_virtual, 'test must be in the file itself, not in others that it names'),
  (_group, 'test must be a table, not a Group'),
  (_null, r'test must be float \(30, 63\), got float64 None'),
  (_unwritten, r'test claims 15,120 bytes, and the file holds 0\)'),
  (_zeros, r'test claims 15,120 bytes, and the file holds \d\d; more than 100 to 1')],
  ids=lambda value: getattr(value, '__name__', ''))
def test_no_other_file_is_read_and_no_room_made_for_what_a_file_does_not_hold(tmp_path, write,
                                                                              message):
  rows = write_bsds300(tmp_path, test=None)['train'][:30]
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'BSDS300' / 'BSDS300.hdf5', 'a') as file:
    write(h5py, file, tmp_path, rows)
  with pytest.raises(ValueError, match=rf'BSDS300.hdf5: no HDF5 file .*{message}'):
    data.load('bsds300', data_dir=tmp_path)


def test_packed_patches_are_read(tmp_path):
  rows = write_bsds300(tmp_path, test=None)['train'][:30]
  h5py = pytest.importorskip('h5py')
  with h5py.File(tmp_path / 'BSDS300' / 'BSDS300.hdf5', 'a') as file:
    file.create_dataset('test', data=rows, chunks=(7, 63), compression='gzip')
  loaded = data.load('bsds300', data_dir=tmp_path)
  np.testing.assert_array_equal(loaded.test.x, rows.astype(np.float32))


def test_a_file_that_is_no_hdf5_and_a_missing_reader(tmp_path, monkeypatch):
  (tmp_path / 'BSDS300').mkdir()
  (tmp_path / 'BSDS300' / 'BSDS300.hdf5').write_bytes(b'PK')
  pytest.importorskip('h5py')
  with pytest.raises(ValueError, match=r'BSDS300.hdf5: no HDF5 file with train'):
    data.load('bsds300', data_dir=tmp_path)
  def damaged(*args):
    raise RuntimeError('Unspecified error in H5Fopen')

  monkeypatch.setattr('h5py.File', damaged)   # which has errors of many types
  with pytest.raises(ValueError, match=r'BSDS300.hdf5: no HDF5 file .*Unspecified error.*; put'):
    data.load('bsds300', data_dir=tmp_path)
  monkeypatch.setitem(sys.modules, 'h5py', None)
  with pytest.raises(ImportError, match=r"h5py is needed here .*install 'mollification\[data\]'"):
    data.load('bsds300', data_dir=tmp_path)
