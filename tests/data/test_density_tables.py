"""Data sets of the density-estimation literature: splits, dropped columns, noise, statistics."""

import numpy as np
import pytest

from mollification import data
from mollification.data import density_tables, tabular

SMALL = {
  'power': {'data.npy': (2000, 8)},
  'gas': {'data.npy': (2000, 16), 'ethylene_CO.txt': (2000, 16)},
  'hepmass': {'1000_train.csv': (300, 27), '1000_test.csv': (150, 27)},
  'miniboone': {'data.npy': (200, 43)},
  'bsds300': {'train': (100, 63), 'validation': (20, 63), 'test': (30, 63)},
}
DISCRETE = (3, 8, 12, 16, 20, 26)   # of the features of HEPMASS here
FOLDERS = {'bsds300': 'BSDS300'}


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
  monkeypatch.setattr(density_tables, 'SHAPES', SMALL)


def _normal(shape, seed=0):
  """Columns of mean 10 j and standard deviation 1 + j."""
  columns = np.arange(shape[1])
  return 10 * columns + np.random.default_rng(seed).standard_normal(shape) * (1 + columns)


def _save(folder, name, rows):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  np.save(path, rows)
  return rows


def _write(folder, name, header, rows, delimiter):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [header, *(delimiter.join(map(repr, row)) for row in rows.tolist())]
  path.write_text('\n'.join(lines) + '\n')


def _power(folder):
  """Whole numbers, so that what is beyond them is noise; column j lies about 100 j."""
  rows = np.random.default_rng(0).integers(0, 50, (2000, 8)) + 100. * np.arange(8)
  return _save(folder, 'power/data.npy', rows)


def _sensors():
  """16 columns: 1, 4 and 7 follow one another, so do 0 and 15, and 9 to 13; 5 mirrors 6."""
  rows = np.random.default_rng(0).standard_normal((2000, 16))
  follow = lambda first, *others: [rows.__setitem__(
    (slice(None), other), 3 * rows[:, first] + .01 * rows[:, other]) for other in others]
  follow(1, 4, 7)
  follow(0, 15)
  follow(9, 10, 11, 12, 13)
  rows[:, 2] = 5 * rows[:, 3] + .01 * rows[:, 2]
  rows[:, 6] = -rows[:, 5] + .01 * rows[:, 6]
  return rows + np.arange(16)


def _hepmass(folder):
  """The features of class 1 of both files, [300, 27] and [150, 27], classes in turn."""
  found = []
  for seed, (name, (n, d)) in enumerate(SMALL['hepmass'].items()):
    rows = _normal((2 * n, 1 + d), seed)
    rows[:, 0] = np.arange(2 * n) % 2
    for j in DISCRETE:
      rows[:, 1 + j] = np.round(rows[:, 1 + j] / (1 + j)).clip(10 * j / (1 + j) - .5)
    found.append(rows[1::2, 1:])
    # The test table has one column more.
    rows = np.hstack([rows, np.full((2 * n, 1), 1000.)]) if 'test' in name else rows
    _write(folder, f'hepmass/{name}', '# label,' + ','.join(f'f{i}' for i in range(27)), rows, ',')
  return found


def write_bsds300(folder, **changes):
  h5py = pytest.importorskip('h5py')
  (folder / 'BSDS300').mkdir()
  parts = {split: _normal(shape, i) for i, (split, shape) in enumerate(SMALL['bsds300'].items())}
  parts |= changes
  with h5py.File(folder / 'BSDS300' / 'BSDS300.hdf5', 'w') as file:
    for split, rows in parts.items():
      if rows is not None:
        file[split] = rows
  return parts


def _miniboone(folder):
  return _save(folder, 'miniboone/data.npy', _normal((200, 43)))


def _gas(folder):
  return _save(folder, 'gas/data.npy', _sensors())


WRITERS = {'power': _power, 'gas': _gas, 'hepmass': _hepmass, 'miniboone': _miniboone,
           'bsds300': write_bsds300}
SIZES = {'power': (1620, 180, 200), 'gas': (1620, 180, 200), 'hepmass': (270, 30, 150),
         'miniboone': (162, 18, 20), 'bsds300': (100, 20, 30)}


def _splits(loaded):
  return loaded.train, loaded.validation, loaded.test


def _raw(loaded):
  """float64 [N, D] before standardisation, in the order of the splits."""
  return np.concatenate([s.x for s in _splits(loaded)]) * loaded.scaling.sd + loaded.scaling.mean


@pytest.mark.parametrize('name', WRITERS)
def test_splits_and_spec(tmp_path, name):
  WRITERS[name](tmp_path)
  loaded = data.load(name, data_dir=str(tmp_path))
  assert tuple(s.num_examples for s in _splits(loaded)) == SIZES[name]
  assert (loaded.event_shape, loaded.train.x.dtype, loaded.levels) == data.spec(name)
  again = data.load(name, data_dir=tmp_path)
  assert [s.sha256 for s in _splits(again)] == [s.sha256 for s in _splits(loaded)]


def test_the_sizes_of_the_literature(monkeypatch):
  """A tenth of the rows for test, then a tenth of the rest for validation."""
  monkeypatch.undo()
  split = lambda n: (n - n // 10 - (n - n // 10) // 10, (n - n // 10) // 10, n // 10)
  shapes = density_tables.SHAPES
  assert split(shapes['power']['data.npy'][0]) == (1_659_917, 184_435, 204_928)
  assert split(shapes['gas']['data.npy'][0]) == (852_174, 94_685, 105_206)
  assert round(shapes['gas']['ethylene_CO.txt'][0] / 4) == shapes['gas']['data.npy'][0]
  assert split(shapes['miniboone']['data.npy'][0]) == (29_556, 3_284, 3_648)
  assert shapes['hepmass']['1000_train.csv'][0] == 315_123 + 35_013


def test_power_is_shuffled_thinned_and_noised_as_in_the_original(tmp_path):
  rows = _power(tmp_path)
  loaded = data.load('power', data_dir=tmp_path)
  raw = _raw(loaded)
  # The original's stream, in its order: rows in place, then voltage, active power, meters.
  rng = np.random.RandomState(42)
  rng.shuffle(rows)
  voltage, active, meters = .01 * rng.rand(2000, 1), .001 * rng.rand(2000, 1), rng.rand(2000, 3)
  kept = rows[:, [0, 2, 4, 5, 6, 7]]
  noise = raw - kept
  np.testing.assert_allclose(noise, np.hstack([active, voltage, meters, np.zeros((2000, 1))]),
                             atol=1e-4)
  assert (noise.max(0) < np.array([.001, .01, 1, 1, 1, 0]) + 1e-4).all()
  assert (noise.max(0)[:5] > np.array([.0009, .009, .99, .99, .99]) - 1e-4).all()
  fit = (kept + np.hstack([active, voltage, meters, np.zeros((2000, 1))]))[:1800]
  np.testing.assert_allclose(loaded.scaling.mean, fit.mean(0), rtol=1e-12)
  np.testing.assert_allclose(loaded.scaling.sd, fit.std(0, ddof=0), rtol=1e-12)


def test_of_correlated_sensors_the_first_goes_until_none_is_left(tmp_path):
  rows = _gas(tmp_path)
  loaded = data.load('gas', data_dir=tmp_path)
  kept = [3, 5, 6, 7, 8, 13, 14, 15]   # the last of each group, and mirrored ones
  np.testing.assert_allclose(_raw(loaded), rows[:, kept], atol=1e-4)
  np.testing.assert_allclose(loaded.scaling.mean, rows[:, kept].mean(0), rtol=1e-12)
  np.testing.assert_allclose(loaded.scaling.sd, rows[:, kept].std(0, ddof=1), rtol=1e-12)


def test_a_chain_of_sensors_loses_no_more_than_it_must():
  """0 follows 1 and 1 follows 2, but 0 and 2 are apart: without 1 there is nothing to drop."""
  a, b, c = np.random.default_rng(0).standard_normal((3, 20_000))
  rows = np.stack([a + .25 * b, a, a - .25 * b, c], 1)
  assert np.corrcoef(rows[:, 0], rows[:, 2])[0, 1] < .9
  assert np.corrcoef(rows[:, 0], rows[:, 1])[0, 1] < .98
  assert density_tables.uncorrelated(rows) == [0, 1, 2, 3]
  rows[:, 0], rows[:, 2] = a + .18 * b, a - .18 * b
  assert density_tables.uncorrelated(rows) == [2, 3]   # 0 goes, then 1, which follows 2
  assert density_tables.uncorrelated(rows[:, [1, 0, 2, 3]]) == [1, 2, 3]


def test_gas_draws_a_quarter_of_the_text_file(tmp_path):
  rows = np.hstack([np.arange(2000)[:, None], np.ones((2000, 2)), _sensors()])
  _write(tmp_path, 'gas/ethylene_CO.txt', 'Time (seconds), CO conc (ppm), sensors', rows, '  ')
  loaded = data.load('gas', data_dir=tmp_path)
  assert tuple(s.num_examples for s in _splits(loaded)) == (405, 45, 50)
  raw, sensors = _raw(loaded), rows[:, [3 + j for j in (3, 5, 6, 7, 8, 13, 14, 15)]]
  drawn = [int(np.abs(sensors - row).max(1).argmin()) for row in raw]
  np.testing.assert_allclose(raw, sensors[drawn], atol=1e-4)
  assert len(set(drawn)) == 500   # without replacement, from all over the file
  assert min(drawn[:50]) < 200
  assert max(drawn[:50]) > 1800
  assert drawn == np.random.RandomState(42).permutation(2000)[:500].tolist()
  # What the user has converted goes before it.
  _gas(tmp_path)
  assert data.load('gas', data_dir=tmp_path).train.num_examples == 1620


def test_hepmass_keeps_continuous_features_of_class_1(tmp_path):
  fit, test = _hepmass(tmp_path)
  loaded = data.load('hepmass', data_dir=tmp_path)
  kept = [j for j in range(27) if j not in DISCRETE]
  np.testing.assert_allclose(_raw(loaded), np.concatenate([fit, test])[:, kept], atol=1e-4)
  np.testing.assert_allclose(loaded.scaling.mean, fit[:, kept].mean(0), rtol=1e-12)
  np.testing.assert_allclose(loaded.scaling.sd, fit[:, kept].std(0, ddof=1), rtol=1e-12)


def test_discrete_is_what_repeats_its_smallest_value_more_than_5_times():
  rows = np.random.default_rng(0).standard_normal((100, 4))
  rows[:6, 0] = rows[:, 0].min()      # 6 or 7 times
  rows[:, 1].sort()
  rows[:5, 1] = rows[0, 1]            # 5 times
  rows[:50, 2] = rows[:, 2].max()     # often, but not the smallest
  assert density_tables.continuous(rows).tolist() == [1, 2, 3]


def test_miniboone_is_split_in_the_order_of_the_file(tmp_path):
  rows = _miniboone(tmp_path)
  loaded = data.load('miniboone', data_dir=tmp_path)
  np.testing.assert_allclose(_raw(loaded), rows, atol=1e-4)
  np.testing.assert_allclose(loaded.scaling.sd, rows[:180].std(0, ddof=0), rtol=1e-12)


def test_bsds300_is_as_the_file_has_it(tmp_path):
  parts = write_bsds300(tmp_path)
  loaded = data.load('bsds300', data_dir=tmp_path)
  for split in _splits(loaded):
    np.testing.assert_array_equal(split.x, parts[split.name].astype(np.float32))
  assert loaded.scaling is None


@pytest.mark.parametrize(('name', 'message'), [
  ('power', r'no .*/power/data.npy; unpack data.tar.gz of https://zenodo.org/.* set data.data_dir'),
  ('gas', r'neither data.npy nor ethylene_CO.txt in .*/gas; put one there: .*archive.*is not read'),
  ('hepmass', r'no .*/hepmass/1000_train.csv; unpack'),
  ('miniboone', r'no .*/miniboone/data.npy; unpack'),
  ('bsds300', r'no .*/BSDS300/BSDS300.hdf5; unpack')])
def test_a_missing_file_is_named_and_where_it_comes_from(tmp_path, name, message):
  with pytest.raises(FileNotFoundError, match=message):
    data.load(name, data_dir=tmp_path)
  with pytest.raises(ValueError, match=fr'{name} needs data\.data_dir, the folder `data` of data'):
    data.load(name)


def test_a_pickled_table_is_never_loaded(tmp_path):
  (tmp_path / 'gas').mkdir()
  (tmp_path / 'gas' / 'ethylene_CO.pickle').write_bytes(b'cos\nsystem\n')
  with pytest.raises(FileNotFoundError, match='a pickle can run any code'):
    data.load('gas', data_dir=tmp_path)
  _save(tmp_path, 'miniboone/data.npy', np.array([{}], dtype=object))
  with pytest.raises(ValueError, match=r'miniboone/data.npy: not a readable .npy file'):
    data.load('miniboone', data_dir=tmp_path)


NPY = {'power': 8, 'gas': 16, 'miniboone': 43}


@pytest.mark.parametrize('name', NPY)
@pytest.mark.parametrize(('change', 'message'), [
  (lambda rows: rows[:-1], r'{name} has {n} rows × {d} columns, this file \({m}, {d}\); put'),
  (lambda rows: rows[:, 1:], r'{name} has {n} rows × {d} columns, this file \({n}, {c}\)'),
  (lambda rows: rows.astype(str), r'data.npy: a table must be float .*; got <U32'),
  (lambda rows: np.where(rows == rows[7, 5], np.nan, rows), r'data.npy: nan at row \d+, column 5'),
  (lambda rows: np.where(np.arange(rows.shape[1]) == 7, 3., rows), r'column 7 is constant .3\.0.'),
], ids=['rows', 'columns', 'text', 'nan', 'constant'])
def test_what_is_wrong_with_an_array_is_named(tmp_path, name, change, message):
  rows = WRITERS[name](tmp_path)
  _save(tmp_path, f'{name}/data.npy', change(rows))
  n, d = rows.shape
  with pytest.raises(ValueError, match=message.format(name=name, n=n, m=n - 1, d=d, c=d - 1)):
    data.load(name, data_dir=tmp_path)


def _line(row, entries):
  return lambda lines: lines.__setitem__(row + 1, ','.join(entries))


@pytest.mark.parametrize(('damage', 'message'), [
  (lambda lines: lines.pop(), r'train.csv .class 1.: hepmass has 300 rows × 27 .* \(299, 27\)'),
  (lambda lines: lines.clear(), r'1000_train.csv'),
  (_line(8, ['1', '2']), r'1000_train.csv: no table of 28 columns of numbers below a header .*row'),
  (_line(8, ['1', 'x', *map(str, range(26))]), r"could not convert string 'x' .*row 8, column 2"),
  (_line(9, ['1', 'nan', *map(str, range(26))]), r'1000_train.csv: nan at row 4, column 0'),
  (_line(8, ['2', *map(str, range(27))]), r'labels, the first column, must be 0 and 1, got 2\.0'),
], ids=['rows', 'empty', 'short', 'text', 'nan', 'label'])
def test_damaged_lines_are_named(tmp_path, damage, message):
  _hepmass(tmp_path)
  path = tmp_path / 'hepmass' / '1000_train.csv'
  lines = path.read_text().splitlines()
  damage(lines)
  path.write_text('\n'.join(lines))
  with pytest.raises(ValueError, match=message):
    data.load('hepmass', data_dir=tmp_path)


def test_other_columns_than_the_literature_drops_are_an_error(tmp_path):
  rows = _sensors()
  rows[:, 15] = np.random.default_rng(9).standard_normal(2000)
  _save(tmp_path, 'gas/data.npy', rows)
  with pytest.raises(ValueError, match=r'data.npy: 9 of 16 columns are left where gas has 8; put'):
    data.load('gas', data_dir=tmp_path)


def test_names_and_options_of_others_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"no table 'redwine'; choose one of \['bsds300', 'gas'"):
    density_tables.load('redwine', tmp_path)
  with pytest.raises(ValueError, match="'power' has no option 'download'"):
    data.load('power', data_dir=tmp_path, download=True)
  assert not set(density_tables.LOADERS) & set(tabular.TABLES)


@pytest.mark.parametrize('name, there, said', [
  ('hepmass', (), 'no hepmass/1000_train.csv, no hepmass/1000_test.csv in '),
  ('hepmass', ('hepmass/1000_train.csv',), 'no hepmass/1000_test.csv in '),
  ('gas', (), 'no gas/data.npy or gas/ethylene_CO.txt in '),
  ('gas', ('gas/ethylene_CO.txt',), ''), ('gas', ('gas/data.npy',), ''),
  ('bsds300', ('BSDS300/BSDS300.hdf5',), '')])
def test_files_that_are_missing_are_named_without_reading_any(name, there, said, tmp_path):
  for file in there:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
  assert density_tables.missing(name, tmp_path).partition(str(tmp_path))[0] == said
  assert set(density_tables.FILES) == set(density_tables.LOADERS)
