"""The UCI protocol: columns by name, splits in file order, standardisation without the test set."""
import dataclasses
import http.server
import io
import pathlib
import threading
import urllib.error

import numpy as np
import pytest

from mollification import data
from mollification.data import dataset, tabular

UCI = pathlib.Path(__file__).parents[3] / 'shared/data/uci'
SIZES = {'redwine': (1296, 144, 159), 'whitewine': (3969, 440, 489), 'parkinsons': (4760, 528, 587)}
# Columns of the original files in their order; those that are not used stand among the others.
HEADERS = {
  'redwine': [*tabular.TABLES['redwine'].columns, 'quality'],
  'whitewine': [*tabular.TABLES['whitewine'].columns, 'quality'],
  'parkinsons': ['subject#', 'age', 'sex', 'test_time', 'motor_UPDRS', 'total_UPDRS', 'Jitter(%)',
                 'Jitter(Abs)', 'Jitter:RAP', 'Jitter:PPQ5', 'Jitter:DDP', 'Shimmer', 'Shimmer(dB)',
                 'Shimmer:APQ3', 'Shimmer:APQ5', 'Shimmer:APQ11', 'Shimmer:DDA', 'NHR', 'HNR',
                 'RPDE', 'DFA', 'PPE'],
}


def _rows(name):
  """Raw rows in which column j has mean about 10 j and standard deviation 1 + j."""
  header, n = HEADERS[name], tabular.TABLES[name].num_rows
  noise = np.random.default_rng(0).standard_normal((n, len(header)))
  return np.round(10 * np.arange(len(header)) + noise * (1 + np.arange(len(header))), 6)


def _csv(name, rows):
  delimiter = tabular.TABLES[name].delimiter
  quote = '"' if delimiter == ';' else ''
  lines = [delimiter.join(f'{quote}{column}{quote}' for column in HEADERS[name])]
  return '\n'.join(lines + [delimiter.join(map(repr, row)) for row in rows.tolist()]) + '\n'


def _used(name, rows):
  return rows[:, [HEADERS[name].index(column) for column in tabular.TABLES[name].columns]]


@pytest.mark.parametrize('name', SIZES)
def test_original_file_through_the_whole_path(tmp_path, name):
  rows = _rows(name)
  (tmp_path / tabular.TABLES[name].file).write_text(_csv(name, rows))
  loaded = data.load(name, data_dir=tmp_path)
  splits = (loaded.train, loaded.validation, loaded.test)
  assert tuple(s.num_examples for s in splits) == SIZES[name]
  assert (loaded.event_shape, loaded.train.x.dtype, loaded.levels) == data.spec(name)

  raw = _used(name, rows)
  fit = raw[:sum(SIZES[name][:2])]
  np.testing.assert_allclose(loaded.scaling.mean, fit.mean(0), rtol=1e-12)
  np.testing.assert_allclose(loaded.scaling.sd, fit.std(0, ddof=0), rtol=1e-12)
  back = np.concatenate([s.x for s in splits]) * loaded.scaling.sd + loaded.scaling.mean
  np.testing.assert_allclose(back, raw, atol=1e-4)          # in the order of the file
  log_det = -np.log(np.abs(fit.std(0))).sum()
  assert loaded.scaling.log_det == pytest.approx(log_det, rel=1e-12)


def test_npy_goes_before_the_text_file(tmp_path):
  rows = _used('redwine', _rows('redwine'))
  np.save(tmp_path / 'redwine.npy', rows)
  (tmp_path / 'winequality-red.csv').write_text('not read')
  loaded = data.load('redwine', data_dir=tmp_path)
  np.testing.assert_allclose(loaded.scaling.mean, rows[:1440].mean(0))


@pytest.mark.skipif(not UCI.is_dir(), reason=f'no UCI tables in {UCI}')
@pytest.mark.parametrize('name', SIZES)
def test_the_real_tables(name):
  loaded = data.load(name, data_dir=UCI)
  splits = (loaded.train, loaded.validation, loaded.test)
  assert tuple(s.num_examples for s in splits) == SIZES[name]
  fit = np.concatenate([loaded.train.x, loaded.validation.x]).astype(np.float64)
  np.testing.assert_allclose(fit.mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(fit.std(0), 1, atol=1e-6)
  raw = np.load(UCI / f'{name}.npy')
  np.testing.assert_allclose(loaded.test.x[-1] * loaded.scaling.sd + loaded.scaling.mean, raw[-1],
                             rtol=1e-4)


@pytest.mark.parametrize('name', SIZES)
def test_a_missing_file_names_the_folder_and_the_url(tmp_path, name):
  table = tabular.TABLES[name]
  with pytest.raises(FileNotFoundError, match=f'neither {name}.npy nor {table.file} in '
                                              f'{tmp_path}; put one there .https://archive.*'
                                              f'/{table.file}., or set data.download=True'):
    data.load(name, data_dir=tmp_path)


def test_a_folder_or_a_name_that_is_missing(tmp_path):
  with pytest.raises(ValueError, match=r'redwine needs the folder of redwine\.npy or winequality'
                                       r'-red\.csv \(https://.*\): set data\.data_dir'):
    data.load('redwine')
  with pytest.raises(ValueError, match=r"no table 'power'; choose one of \['parkinsons'"):
    tabular.load('power', tmp_path)


@pytest.mark.parametrize(('text', 'message'), [
  ('', r'winequality-red.csv: no rows below a header'),
  ('"pH";"quality"\n1;2\n', "no column 'fixed acidity'"),
  (f'"pH"\n"{"1" * 200_000}"\n', r'winequality-red.csv: not a table of text .field larger than'),
])
def test_files_that_are_not_the_table(tmp_path, text, message):
  (tmp_path / 'winequality-red.csv').write_text(text)
  with pytest.raises(ValueError, match=message):
    data.load('redwine', data_dir=tmp_path)


def _damaged(name, damage):
  lines = _csv(name, _rows(name)).splitlines()
  damage(lines)
  return '\n'.join(lines)


def _entry(row, column, text):
  def damage(lines):
    entries = lines[row + 1].split(';')
    entries[column] = text
    lines[row + 1] = ';'.join(entries)
  return damage


@pytest.mark.parametrize(('damage', 'message'), [
  (lambda lines: lines.pop(), r'redwine has 1599 rows × 11 columns, this file \(1598, 11\)'),
  (lambda lines: lines.__setitem__(9, '1;2'), 'row 8 has 2 entries, the header 12'),
  (_entry(8, 3, 'x'), "row 8 is not a row of numbers .could not convert string to float: 'x'"),
  (_entry(8, 3, 'nan'), 'nan at row 8, column 3'),
  (_entry(8, 3, 'inf'), 'inf at row 8, column 3'),
])
def test_damaged_rows_are_named(tmp_path, damage, message):
  (tmp_path / 'winequality-red.csv').write_text(_damaged('redwine', damage))
  with pytest.raises(ValueError, match=message):
    data.load('redwine', data_dir=tmp_path)


def test_a_column_that_is_constant_but_for_test_rows():
  rows = np.random.default_rng(0).standard_normal((100, 3))
  rows[:90, 1] = 5
  with pytest.raises(ValueError, match=r'x .train and validation.: column 1 is constant .5.0.'):
    tabular.split_rows('redwine', rows, 'x')


def test_a_damaged_npy_is_named(tmp_path):
  (tmp_path / 'redwine.npy').write_bytes(b'')
  with pytest.raises(ValueError, match=r'redwine.npy: not a readable .npy file'):
    data.load('redwine', data_dir=tmp_path)
  np.save(tmp_path / 'redwine.npy', np.zeros((1599, 12)))
  with pytest.raises(ValueError, match=r'1599 rows × 11 columns, this file \(1599, 12\)'):
    data.load('redwine', data_dir=tmp_path)


@pytest.mark.parametrize(('change', 'message'), [
  (lambda rows: rows.__setitem__((7, 2), np.nan), r'redwine.npy: nan at row 7, column 2 .the'),
  (lambda rows: rows.__setitem__((slice(None), 4), 3.), r'column 4 is constant .3\.0. .*; drop it'),
  (lambda rows: rows.astype(str), r'redwine.npy: a table must be float .*; got <U32'),
  (lambda rows: rows.astype(object), r'redwine.npy: not a readable .npy file .*np\.save')])
def test_an_npy_with_bad_columns_is_named(tmp_path, change, message):
  rows = _used('redwine', _rows('redwine'))
  changed = change(rows)
  np.save(tmp_path / 'redwine.npy', rows if changed is None else changed)
  with pytest.raises(ValueError, match=message):
    data.load('redwine', data_dir=tmp_path)


@pytest.fixture
def known(monkeypatch):
  """The text of a table whose rows are those that a download must have."""
  rows = _rows('redwine')
  table = dataclasses.replace(tabular.TABLES['redwine'],
                              sha256=dataset.digest(_used('redwine', rows)))
  monkeypatch.setitem(tabular.TABLES, 'redwine', table)
  return _csv('redwine', rows)


def _answer(monkeypatch, text):
  monkeypatch.setattr(tabular.urllib.request, 'urlopen',
                      lambda url, timeout: io.BytesIO(text.encode()))


def test_download_puts_the_whole_file_in_place(tmp_path, monkeypatch, known):
  text = known
  asked = []

  def answer(url, timeout):
    asked.append((url, timeout))
    return io.BytesIO(text.encode())

  monkeypatch.setattr(tabular.urllib.request, 'urlopen', answer)
  loaded = data.load('redwine', data_dir=tmp_path / 'new', download=True)
  assert loaded.train.num_examples == 1296
  data.load('redwine', data_dir=tmp_path / 'new', download=True)
  assert asked == [(tabular.TABLES['redwine'].url, 30)]    # once, and never without a time limit
  assert [p.name for p in (tmp_path / 'new').iterdir()] == ['winequality-red.csv']


def _other_digit(text):
  """The last digit of the last row's first entry, one more or less."""
  head, last = text[:-1].rsplit('\n', 1)
  first, rest = last.split(';', 1)
  return f'{head}\n{first[:-1]}{int(first[-1]) ^ 1};{rest}\n'


def test_a_download_of_other_rows_is_refused(tmp_path, monkeypatch, known):
  other = _other_digit(known)
  assert sum(a != b for a, b in zip(other, known, strict=True)) == 1
  _answer(monkeypatch, other)
  expected = tabular.TABLES['redwine'].sha256
  with pytest.raises(ValueError, match=r'https://.*/winequality-red\.csv gave other rows .* sha256 '
                     rf'is [0-9a-f]{{64}}, {expected} expected; .* put winequality-red\.csv '
                     rf'into {tmp_path}'):
    data.load('redwine', data_dir=tmp_path, download=True)
  assert not list(tmp_path.iterdir())
  (tmp_path / 'winequality-red.csv').write_text(other)   # by hand: somebody wants just these
  data.load('redwine', data_dir=tmp_path, download=True)


def test_a_download_with_other_line_ends_is_the_same_table(tmp_path, monkeypatch, known):
  _answer(monkeypatch, known)
  wanted = data.load('redwine', data_dir=tmp_path, download=True)
  (tmp_path / 'other').mkdir()
  _answer(monkeypatch, known.replace('\n', '\r\n').replace('"', ''))
  found = data.load('redwine', data_dir=tmp_path / 'other', download=True)
  for split in ('train', 'validation', 'test'):
    np.testing.assert_array_equal(getattr(found, split).x, getattr(wanted, split).x)


def test_a_download_that_is_no_table_leaves_nothing(tmp_path, monkeypatch, known):
  _answer(monkeypatch, '<html>\nmoved\n')
  with pytest.raises(ValueError, match=r"https://.* gave no such table .*no column 'fixed acid.* "
                     rf'put winequality-red.csv into {tmp_path}'):
    data.load('redwine', data_dir=tmp_path, download=True)
  assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not UCI.is_dir(), reason=f'no UCI tables in {UCI}')
@pytest.mark.parametrize('name', SIZES)
def test_the_known_rows_are_those_of_the_real_tables(name, tmp_path, monkeypatch):
  """Through text: the archive's decimals have so few digits that they are these numbers."""
  rows = _rows(name)
  for place, column in zip([HEADERS[name].index(c) for c in tabular.TABLES[name].columns],
                           np.load(UCI / f'{name}.npy').T):
    rows[:, place] = column
  assert all(len(repr(x)) <= 16 for x in _used(name, rows).ravel().tolist())
  _answer(monkeypatch, _csv(name, rows))
  data.load(name, data_dir=tmp_path, download=True)


def test_a_download_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch, known):
  def half(self, content):
    with open(self, 'wb') as file:
      file.write(content[:2])
    raise OSError(28, 'No space left on device')

  _answer(monkeypatch, known)
  monkeypatch.setattr(pathlib.Path, 'write_bytes', half)
  with pytest.raises(OSError, match='No space left'):
    data.load('redwine', data_dir=tmp_path, download=True)
  assert not list(tmp_path.iterdir())


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
  class Cut(io.BytesIO):
    def read(self, size):
      raise tabular.http.client.IncompleteRead(b'half')

  def refuse(url, timeout):
    raise urllib.error.URLError('no network')

  for urlopen in (refuse, lambda url, timeout: Cut()):
    monkeypatch.setattr(tabular.urllib.request, 'urlopen', urlopen)
    with pytest.raises(OSError, match=r'cannot download https://.*put winequality-red.csv into'):
      data.load('redwine', data_dir=tmp_path, download=True)
    assert not list(tmp_path.iterdir())


def test_an_answer_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
  class Endless(io.BytesIO):
    def read(self, size=None):
      assert size < 20_000_000
      return b'1' * size

  monkeypatch.setattr(tabular.urllib.request, 'urlopen', lambda url, timeout: Endless())
  with pytest.raises(ValueError, match=r'https://.* gave no such table \(more than 10,000,000 bytes'
                     rf'\); .* put winequality-red\.csv into {tmp_path}'):
    data.load('redwine', data_dir=tmp_path, download=True)
  assert not list(tmp_path.iterdir())


class _Half(http.server.BaseHTTPRequestHandler):
  """Announces the text of `_Half.text`, and sends half of it."""
  text = b''

  def do_GET(self):
    self.send_response(200)
    self.send_header('Content-Length', str(len(self.text)))
    self.end_headers()
    self.wfile.write(self.text[:len(self.text) // 2])

  def log_message(self, *args):
    pass


def test_an_answer_that_is_cut_is_no_answer(tmp_path, monkeypatch, known):
  monkeypatch.setattr(_Half, 'text', known.encode())
  monkeypatch.setenv('no_proxy', 'localhost')
  with http.server.HTTPServer(('localhost', 0), _Half) as server:
    threading.Thread(target=server.handle_request, daemon=True).start()
    table = dataclasses.replace(tabular.TABLES['redwine'],
                                url=f'http://localhost:{server.server_port}/')
    monkeypatch.setitem(tabular.TABLES, 'redwine', table)
    with pytest.raises(OSError, match=r'cannot download http://.* bytes read, .* more expected'):
      data.load('redwine', data_dir=tmp_path, download=True)
  assert not list(tmp_path.iterdir())


def test_an_npz_under_the_name_of_an_npy_is_no_table(tmp_path):
  np.savez(tmp_path / 'x.npz', np.zeros((3, 2)))
  (tmp_path / 'x.npz').rename(tmp_path / 'x.npy')
  with pytest.raises(ValueError, match=r'x\.npy: not a readable \.npy file \(the magic string'):
    tabular.read_npy(tmp_path / 'x.npy')
