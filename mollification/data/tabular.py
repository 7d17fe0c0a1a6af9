"""The three UCI tables, with the protocol of the paper's tabular experiments.

The last 10 % of the rows are the test set and the last 10 % of the rest validation, in the order
of the file; mean and standard deviation of train and validation together standardise all three.
"""
import csv
import dataclasses
import http.client
import io
import pathlib
import urllib.request

import numpy as np

from mollification import files, npz
from mollification.data import dataset

_TIMEOUT = 30  # seconds without an answer
_LIMIT = 10_000_000  # bytes of an answer; the largest table has 0.9 million
_ARCHIVE = 'https://archive.ics.uci.edu/ml/machine-learning-databases'
_WINE = ('fixed acidity', 'volatile acidity', 'citric acid', 'residual sugar', 'chlorides',
         'free sulfur dioxide', 'total sulfur dioxide', 'density', 'pH', 'sulphates', 'alcohol')
_PARKINSONS = ('test_time', 'motor_UPDRS', 'total_UPDRS', 'Jitter(Abs)', 'Jitter:PPQ5',
               'Jitter:DDP', 'Shimmer(dB)', 'Shimmer:APQ5', 'Shimmer:APQ11', 'Shimmer:DDA',
               'NHR', 'HNR', 'RPDE', 'DFA', 'PPE')


@dataclasses.dataclass(frozen=True)
class Table:
  """Where a table stands in the UCI archive, and which of its columns are used.

  `sha256` is the `dataset.digest` of these columns as float64, the numbers that a run sees: line
  ends and quotes of a copy are no matter.
  """
  file: str
  url: str
  delimiter: str
  columns: tuple
  num_rows: int
  sha256: str


TABLES = {
  'redwine': Table('winequality-red.csv', f'{_ARCHIVE}/wine-quality/winequality-red.csv', ';',
                   _WINE, 1599,
                   '3bdb641809055e09e1238b6600e1aa9dadc5ce1b37439ea61b3214e8a2577cf7'),
  'whitewine': Table('winequality-white.csv', f'{_ARCHIVE}/wine-quality/winequality-white.csv',
                     ';', _WINE, 4898,
                     '6dc12df43386d0f73dbb2be1475a1c3f03f8f71887a34b923641363ddfab8059'),
  'parkinsons': Table('parkinsons_updrs.data',
                      f'{_ARCHIVE}/parkinsons/telemonitoring/parkinsons_updrs.data', ',',
                      _PARKINSONS, 5875,
                      '8bbe6827c23f7eb9dd20a82539b402d3bb1b1ce094d39d31f77934de49edacbb'),
}


def read_csv(path, columns, delimiter):
  """float64 [rows, len(columns)] of a text table with a header: the named columns, in that order.

  ValueError for an empty file, a missing column, a short line or an entry that is not a number.
  """
  return _parse(pathlib.Path(path).read_bytes(), path, columns, delimiter)


def _parse(content, path, columns, delimiter):
  """`read_csv` of the bytes of a file that errors call `path`."""
  try:
    text = io.StringIO(content.decode('utf-8-sig'), newline='')
    lines = [line for line in csv.reader(text, delimiter=delimiter) if line]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f'{path}: not a table of text ({error}); put the original file in its place.'
                     ) from error
  if len(lines) < 2:
    raise ValueError(f'{path}: no rows below a header; remove the file and fetch it again.')
  header = [name.strip() for name in lines[0]]
  missing = [name for name in columns if name not in header]
  if missing:
    raise ValueError(f'{path}: no column {missing[0]!r} in the header {header}; put the '
                     'original file in its place.')
  places = [header.index(name) for name in columns]
  rows = np.empty((len(lines) - 1, len(columns)))
  for i, line in enumerate(lines[1:]):
    if len(line) != len(header):
      raise ValueError(f'{path}: row {i} has {len(line)} entries, the header {len(header)}; '
                       'the file is cut or damaged, fetch it again.')
    try:
      rows[i] = [float(line[place]) for place in places]
    except ValueError as error:
      raise ValueError(f'{path}: row {i} is not a row of numbers ({error}).') from error
  return rows


def read_npy(path):
  """The array of an .npy file, numbers as float64; ValueError where it is none, or is pickled."""
  try:
    rows = np.asarray(npz.mapped(path, None))
  except ValueError as error:
    raise ValueError(f'{path}: not a readable .npy file ({error}); write it with np.save.'
                     ) from error
  return rows.astype(np.float64) if rows.dtype.kind in 'fiu' else rows


def _whole(response):
  """The bytes of an answer; IncompleteRead where it is cut, ValueError where they are too many."""
  content = response.read(_LIMIT + 1)
  if len(content) > _LIMIT:
    raise ValueError(f'more than {_LIMIT:,} bytes')
  if getattr(response, 'length', None):   # what was announced beyond that; read(n) does not mind
    raise http.client.IncompleteRead(content, response.length)
  return content


def fetch(table, path):
  """Downloads the file of `table` to `path`, complete and with the known rows, or not at all.

  OSError, or ValueError for other rows and for more than 10 MB, names the URL and the folder to
  put the file in by hand.
  """
  url = table.url
  way_out = f'fetch it by other means and put {path.name} into {path.parent}'
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
      content = _whole(response)
    found = dataset.digest(_parse(content, 'the answer', table.columns, table.delimiter))
  except (OSError, http.client.HTTPException) as error:
    raise OSError(f'cannot download {url} ({error}); {way_out}.') from error
  except ValueError as error:
    raise ValueError(f'{url} gave no such table ({error!s:.200}); {way_out}.') from error
  if found != table.sha256:
    raise ValueError(f'{url} gave other rows than those of {path.name}: their sha256 is {found}, '
                     f'{table.sha256} expected; {way_out}, where it is taken as it is.')
  with files.replacing(path) as part:
    part.write_bytes(content)


def missing(name, data_dir):
  """What is not there of a table, and where it comes from; '' where there is nothing to miss."""
  table = TABLES[name]
  which = f'{name}.npy or {table.file}'
  if not str(data_dir):
    return f'{name} needs the folder of {which} ({table.url})'
  folder = pathlib.Path(data_dir).expanduser()
  if (folder / f'{name}.npy').exists() or (folder / table.file).exists():
    return ''
  return f'neither {name}.npy nor {table.file} in {folder}; put one there ({table.url})'


def _raw_rows(name, data_dir, download):
  """(float64 rows [N, D], the file they come from)."""
  table = TABLES[name]
  npy, text = data_dir / f'{name}.npy', data_dir / table.file
  if npy.exists():
    return read_npy(npy), npy
  if not text.exists():
    if not download:
      raise FileNotFoundError(f'{missing(name, data_dir)}, or set data.download=True.')
    fetch(table, text)
  return read_csv(text, table.columns, table.delimiter), text


def check_shape(name, rows, expected, source):
  """`rows` as they are, if of the shape `expected` (rows, columns); else ValueError."""
  if rows.shape != expected:
    raise ValueError(f'{source}: {name} has {expected[0]} rows × {expected[1]} columns, this file '
                     f'{rows.shape}; put the original in its place.')
  return rows


def split_rows(name, rows, source, scaling=None):
  """Dataset of raw float rows [N, D]: split, then standardised in float64, stored as float32.

  n_test = ⌊N/10⌋ last rows, n_validation = ⌊(N - n_test)/10⌋ before them; `scaling` is, if not
  given, mean and sd (ddof 0) of train and validation. ValueError as `dataset.check_rows`, or for
  fewer than 20 rows.
  """
  dataset.check_rows(rows, source)
  if len(rows) < 20:
    raise ValueError(f'{source}: {len(rows)} rows; three splits need at least 20.')
  num_test = len(rows) // 10
  rest = len(rows) - num_test
  edge = rest - rest // 10
  if scaling is None:
    # Again without the test rows: a column may be constant in these alone.
    fit = dataset.check_rows(rows[:rest].astype(np.float64), f'{source} (train and validation)')
    scaling = dataset.Scaling(fit.mean(0), fit.std(0))
  return standardised(name, scaling, train=rows[:edge], validation=rows[edge:rest],
                      test=rows[rest:])


def standardised(name, scaling, **parts):
  """Dataset of raw splits, float [N, D] by name: scaled in float64, stored as float32."""
  splits = {split: dataset.Split(split, ((part - scaling.mean) / scaling.sd).astype(np.float32))
            for split, part in parts.items()}
  return dataset.Dataset(name, **splits, scaling=scaling)


def load(name, data_dir, *, download=False):
  """redwine (1296/144/159 × 11), whitewine (3969/440/489 × 11) or parkinsons (4760/528/587 × 15).

  Reads `<data_dir>/<name>.npy` (raw rows, the columns of `TABLES` in order), else the file of the
  UCI archive in `data_dir`, which `download=True` fetches, and checks by its `sha256`; what is
  there already is not held to it. FileNotFoundError where neither is there; ValueError for an empty
  `data_dir`, and for a file that is not this table.
  """
  if name not in TABLES:
    raise ValueError(f'no table {name!r}; choose one of {sorted(TABLES)}.')
  table = TABLES[name]
  if not str(data_dir):
    raise ValueError(f'{missing(name, data_dir)}: set data.data_dir to it; with data.download=True '
                     f'{table.file} is fetched into it.')
  rows, source = _raw_rows(name, pathlib.Path(data_dir).expanduser(), download)
  check_shape(name, rows, (table.num_rows, len(table.columns)), source)
  return split_rows(name, rows, source)
