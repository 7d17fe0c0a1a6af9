"""POWER, GAS, HEPMASS, MINIBOONE and BSDS300: the data sets of the density-estimation literature.

Splits and preprocessing are those of Papamakarios, Pavlakou and Murray, *Masked Autoregressive Flow
for Density Estimation* (NeurIPS 2017, arXiv 1705.07057), in the code that came with it
(github.com/gpapamak/maf, datasets/); only with these are figures comparable with the literature's.
The files are the user's, where the authors' archive data.tar.gz (zenodo.org/record/1161203) puts
them: `data.data_dir` is the folder `data` of it. Pickled files are not read; see `gas`.

                                  train      validation  test     D
  power/data.npy                  1,659,917  184,435     204,928  6
  gas/data.npy or                   852,174   94,685     105,206  8
    gas/ethylene_CO.txt
  hepmass/1000_train.csv and        315,123   35,013     174,987  21
    hepmass/1000_test.csv
  miniboone/data.npy                 29,556    3,284       3,648  43
  BSDS300/BSDS300.hdf5            1,000,000   50,000     250,000  63
"""
import math
import pathlib
import warnings

import numpy as np

from mollification.data import dataset, tabular

ARCHIVE = 'https://zenodo.org/record/1161203'
GAS = 'https://archive.ics.uci.edu/dataset/322/gas+sensor+array+under+dynamic+gas+mixtures'
# Rows and columns of what is read of each file: of the two of HEPMASS the features of class 1.
SHAPES = {
  'power': {'data.npy': (2_049_280, 8)},
  'gas': {'data.npy': (1_052_065, 16), 'ethylene_CO.txt': (4_208_261, 16)},
  'hepmass': {'1000_train.csv': (350_136, 27), '1000_test.csv': (174_987, 27)},
  'miniboone': {'data.npy': (36_488, 43)},
  'bsds300': {'train': (1_000_000, 63), 'validation': (50_000, 63), 'test': (250_000, 63)},
}
SEED = 42   # of np.random.RandomState, in the original code too
# Upper ends of the uniform noise on the columns of POWER that are kept, as in the original; minutes
# stay whole.
POWER_NOISE = (.001, .01, 1., 1., 1., 0.)
MAX_CORRELATION = .98
MAX_REPEATS = 5
MAX_COMPRESSION = 100   # of measured numbers in an HDF5 file; deflate packs zeros a thousandfold


def _file(folder, name):
  """The path of a file of the archive; FileNotFoundError says where it comes from."""
  path = folder / name
  if not path.exists():
    raise FileNotFoundError(f'no {path}; unpack data.tar.gz of {ARCHIVE} and set data.data_dir to '
                            'its folder `data`.')
  return path


def _read_text(path, num_columns, delimiter=None):
  """float64 [N, num_columns] of the first columns of a text table below one line of header."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', UserWarning)   # of a file without rows: its shape tells
      return np.loadtxt(path, delimiter=delimiter, skiprows=1, usecols=range(num_columns), ndmin=2,
                        comments=None)
  except ValueError as error:
    raise ValueError(f'{path}: no table of {num_columns} columns of numbers below a header '
                     f'({error}); put the original in its place.') from error


def power(folder):
  """Household power by the minute, 6 columns: active power, voltage, three meters, minute of day.

  The rows are shuffled; reactive power and intensity are dropped; uniform noise
  (`POWER_NOISE`) lies on the rest. Both are drawn from RandomState(42), in the original's
  order, so that these are its very splits.
  """
  path = _file(folder, 'power/data.npy')
  rows = tabular.check_shape('power', tabular.read_npy(path), SHAPES['power']['data.npy'], path)
  dataset.check_rows(rows, path)
  rng = np.random.RandomState(SEED)
  order, n = rng.permutation(len(rows)), len(rows)
  rows = np.delete(rows, (1, 3), axis=1)[order]
  voltage, active, meters = rng.rand(n, 1), rng.rand(n, 1), rng.rand(n, 3)   # in this order
  rows += np.hstack([active, voltage, meters, np.zeros((n, 1))]) * POWER_NOISE
  return tabular.split_rows('power', rows, path)


def gas(folder):
  """Readings of 16 gas sensors, of which 8 stay: see `uncorrelated`.

  Mean and sd (ddof 1) of all rows standardise them, test rows included, as in the original. That
  reads a pickled table: a quarter of the rows of UCI's ethylene_CO.txt, drawn without a seed. Here
  `gas/data.npy` holds its sensors [1,052,065, 16], converted by whoever trusts the pickle; else a
  quarter of ethylene_CO.txt is drawn, by RandomState(42): the same law and the same sizes, but not
  the same rows, so that figures differ from the literature's by that draw.
  """
  npy, text = folder / 'gas/data.npy', folder / 'gas/ethylene_CO.txt'
  shapes = SHAPES['gas']
  if npy.exists():
    source, rows = npy, tabular.check_shape('gas', tabular.read_npy(npy), shapes['data.npy'], npy)
  elif text.exists():
    # Time and the two concentrations go before the sensors.
    source, rows = text, _read_text(text, 19)[:, 3:]
    tabular.check_shape('gas', rows, shapes['ethylene_CO.txt'], text)
    order = np.random.RandomState(SEED).permutation(len(rows))
    rows = rows[order[:round(len(rows) / 4)]]
  else:
    raise FileNotFoundError(
      f'neither data.npy nor ethylene_CO.txt in {folder / "gas"}; put one there: the text file of '
      f'{GAS}, or the sensors of gas/ethylene_CO.pickle of {ARCHIVE} (a pickle can run any code '
      "and is not read here; if you trust it: numpy.save('data.npy', pandas.read_pickle("
      "'ethylene_CO.pickle').drop(columns=['Time', 'Meth', 'Eth']).to_numpy())).")
  rows = dataset.check_rows(rows, source)[:, uncorrelated(rows)]
  _check_left('gas', rows, 8, 16, source)
  return tabular.split_rows('gas', rows, source,
                            dataset.Scaling(rows.mean(0), rows.std(0, ddof=1)))


def uncorrelated(rows):
  """The columns of rows [N, D] that stay: no two of them correlate above .98.

  As long as two do, the first column that correlates so with another one goes.
  """
  high = np.corrcoef(rows, rowvar=False) > MAX_CORRELATION
  kept = list(range(rows.shape[1]))
  while True:
    with_another = high[np.ix_(kept, kept)].sum(1) > 1   # each with itself
    if not with_another.any():
      return kept
    del kept[with_another.argmax()]


def hepmass(folder):
  """Collisions with a new particle of mass 1000 (class 1), 21 of 27 features: see `continuous`.

  Test is the archive's own file, validation the last tenth of the training file; mean and sd
  (ddof 1) of the whole training file standardise all three.
  """
  fit, test = (_class_1(_file(folder, f'hepmass/{name}'), shape)
               for name, shape in SHAPES['hepmass'].items())
  kept = continuous(fit)
  source = folder / 'hepmass/1000_train.csv'
  fit = dataset.check_rows(fit[:, kept], source)
  test = dataset.check_rows(test[:, kept], folder / 'hepmass/1000_test.csv')
  _check_left('hepmass', fit, 21, 27, source)
  edge = len(fit) - len(fit) // 10
  return tabular.standardised('hepmass', dataset.Scaling(fit.mean(0), fit.std(0, ddof=1)),
                              train=fit[:edge], validation=fit[edge:], test=test)


def _class_1(path, shape):
  """float64 [N, 27]: the features of the rows whose label, the first column, is 1.

  What stands behind them is not read: the table of the test file has one column more.
  """
  rows = _read_text(path, 1 + shape[1], ',')
  strange = np.setdiff1d(rows[:, 0], (0, 1))
  if len(strange):
    raise ValueError(f'{path}: labels, the first column, must be 0 and 1, got {strange[0]}; put '
                     'the original in its place.')
  return tabular.check_shape('hepmass', rows[rows[:, 0] == 1, 1:], shape, f'{path} (class 1)')


def continuous(rows):
  """The columns of rows [N, D] whose smallest value occurs at most 5 times.

  The original means to drop discrete features, and looks at the smallest value alone.
  """
  return np.flatnonzero((rows == rows.min(0)).sum(0) <= MAX_REPEATS)


def miniboone(folder):
  """Events of MiniBooNE, 43 features; the archive's file is cleared of outliers and discrete ones.

  Mean and sd (ddof 0) of train and validation standardise all three splits.
  """
  path = _file(folder, 'miniboone/data.npy')
  rows = tabular.read_npy(path)
  tabular.check_shape('miniboone', rows, SHAPES['miniboone']['data.npy'], path)
  return tabular.split_rows('miniboone', rows, path)


def bsds300(folder):
  """8×8 patches of natural images without mean and last pixel, 63 values, as the file has them."""
  path = _file(folder, 'BSDS300/BSDS300.hdf5')
  parts = _read_hdf5(path, SHAPES['bsds300'])
  for split, rows in parts.items():
    dataset.check_rows(rows, f'{path} ({split})')
  return dataset.Dataset('bsds300', **{
    split: dataset.Split(split, rows.astype(np.float32)) for split, rows in parts.items()})


def _read_hdf5(path, shapes):
  """{name: float [N, D]} of the tables of an HDF5 file that `shapes`, {name: (N, D)}, names.

  They are read from this file alone, once all of them are known to be what is looked for.
  """
  h5py = dataset.require('h5py', 'data')
  try:
    with h5py.File(path, 'r') as file:
      found = {name: _hdf5_table(h5py, file, name, shape) for name, shape in shapes.items()}
      return {name: table[()] for name, table in found.items()}
  except Exception as error:   # its C library tells of damage by errors of many types
    raise ValueError(f'{path}: no HDF5 file with {", ".join(shapes)} as published ({error}); put '
                     'the original in its place.') from error


def _hdf5_table(h5py, file, name, shape):
  """The dataset `name` of an open HDF5 file, of which nothing is read; ValueError says what it is.

  What it claims takes room before anything is read: chunks that were never written, or zeros that
  are packed well, let a small file claim any size.
  """
  if not file.id.links.exists(name.encode()):
    raise ValueError(f'there is no {name!r}')
  # Of h5py itself, `get` and `in` open the file that an external link names.
  if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
    raise ValueError(f'{name} must be in the file itself, not a link')
  table = file[name]
  if not isinstance(table, h5py.Dataset):
    raise ValueError(f'{name} must be a table, not a {type(table).__name__}')
  if table.external or table.is_virtual:
    raise ValueError(f'{name} must be in the file itself, not in others that it names')
  if table.shape != shape or table.dtype.kind != 'f':
    raise ValueError(f'{name} must be float {shape}, got {table.dtype} {table.shape}')
  claimed = max(table.size, math.prod(table.chunks or ())) * table.dtype.itemsize
  held = min(table.id.get_storage_size(), file.id.get_filesize())
  packed = table.id.get_create_plist().get_nfilters() > 0
  if claimed > held * (MAX_COMPRESSION if packed else 1):
    most = f'; more than {MAX_COMPRESSION} to 1 is not believed' if packed else ''
    raise ValueError(f'{name} claims {claimed:,} bytes, and the file holds {held:,}{most}')
  return table


def _check_left(name, rows, expected, total, source):
  if rows.shape[1] != expected:
    raise ValueError(f'{source}: {rows.shape[1]} of {total} columns are left where {name} has '
                     f'{expected}; put the original in its place.')


LOADERS = {'power': power, 'gas': gas, 'hepmass': hepmass, 'miniboone': miniboone,
           'bsds300': bsds300}


# Files of each table, of which one of each group has to be there.
FILES = {'power': (('power/data.npy',),), 'gas': (('gas/data.npy', 'gas/ethylene_CO.txt'),),
         'hepmass': (('hepmass/1000_train.csv',), ('hepmass/1000_test.csv',)),
         'miniboone': (('miniboone/data.npy',),), 'bsds300': (('BSDS300/BSDS300.hdf5',),)}


def missing(name, data_dir):
  """What is not there of a table, and where it comes from; '' where nothing is missing."""
  if not str(data_dir):
    return f'{name} needs the folder `data` of data.tar.gz of {ARCHIVE}'
  folder = pathlib.Path(data_dir).expanduser()
  lost = [' or '.join(group) for group in FILES[name]
          if not any((folder / file).exists() for file in group)]
  if not lost:
    return ''
  return (f'no {", no ".join(lost)} in {folder}; put what is in `data` of data.tar.gz of {ARCHIVE} '
          'there')


def load(name, data_dir):
  """The Dataset `name` of `LOADERS`, float32, from the files below `data_dir` (see above).

  FileNotFoundError where they are not there, ImportError without h5py (bsds300 only), ValueError
  for an empty `data_dir` and for files that are not this data set.
  """
  if name not in LOADERS:
    raise ValueError(f'no table {name!r}; choose one of {sorted(LOADERS)}.')
  if not str(data_dir):
    raise ValueError(f'{name} needs data.data_dir, the folder `data` of data.tar.gz of {ARCHIVE}.')
  return LOADERS[name](pathlib.Path(data_dir).expanduser())
