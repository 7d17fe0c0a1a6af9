"""The workdir: one process at a time, one run, errors that leave everything as it was."""
import fcntl
import json
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from mollification import files
from mollification.data import dataset
from mollification.training import workdir


def test_a_second_process_is_refused(tmp_path):
  code = ('import sys; from mollification.training import workdir\n'
          'try:\n  workdir.lock(sys.argv[1]).__enter__()\n'
          'except RuntimeError as e: print(e)')
  attempt = lambda: subprocess.run([sys.executable, '-c', code, str(tmp_path)], check=True,
                                   capture_output=True, text=True).stdout
  assert not workdir.in_use(tmp_path)
  with workdir.lock(tmp_path):
    assert 'in use by another training process' in attempt()
    assert workdir.in_use(tmp_path)
  assert not workdir.in_use(tmp_path)
  assert attempt() == ''


def test_a_lock_file_that_goes_while_it_is_looked_for_is_nobodys(tmp_path, monkeypatch):
  monkeypatch.setattr(pathlib.Path, 'exists', lambda path: True)   # a moment ago
  assert not workdir.in_use(tmp_path)


def test_a_word_that_cannot_be_left_is_no_error(tmp_path):
  """That of a run which diverged, say, on a disk that is full: its own error tells more."""
  workdir.end(tmp_path / 'none', 'diverged')
  assert not workdir.has_ended(tmp_path / 'none')


def test_a_watcher_that_looks_does_not_keep_a_trainer_out(tmp_path):
  """`in_use` holds the lock for a moment."""
  (tmp_path / 'lock').touch()
  with (tmp_path / 'lock').open() as file:
    fcntl.flock(file, fcntl.LOCK_SH)
    threading.Timer(.08, fcntl.flock, (file, fcntl.LOCK_UN)).start()
    with workdir.lock(tmp_path):
      assert workdir.in_use(tmp_path)


def test_an_unwritable_workdir(tmp_path):
  (tmp_path / 'file').write_text('')
  for path in (tmp_path / 'file', tmp_path / 'file' / 'below'):
    with pytest.raises(PermissionError, match=r'cannot be written.*choose another --workdir'), \
        workdir.lock(path):
      pass


def test_a_bucket_is_no_folder():
  """It would be one called gs: on this very machine, and lost with it."""
  with pytest.raises(ValueError, match='gs://bucket/run is no folder of a file system; give'):
    workdir.local('gs://bucket/run')
  assert workdir.local('~/run') == pathlib.Path.home() / 'run'


def test_a_folder_that_a_process_does_not_share_is_an_error(tmp_path, monkeypatch):
  """What the first has written may be seen late."""
  (tmp_path / 'config.json').touch()   # of an earlier run, on this host
  looks = []
  monkeypatch.setattr(workdir.time, 'sleep', looks.append)
  workdir.check_shared(tmp_path)   # one process has nobody to share with
  monkeypatch.setattr(workdir.parallel, 'several', lambda: True)
  monkeypatch.setattr(workdir.parallel, 'of_first', lambda token: 'token')
  monkeypatch.setattr(workdir.parallel, 'is_first', lambda: False)
  with pytest.raises(ValueError, match=r'shared-token, which the first process has written, is '
                                       'not there for this one'):
    workdir.check_shared(tmp_path)
  assert len(looks) == files.LOOKS
  monkeypatch.setattr(workdir.time, 'sleep', lambda _: (tmp_path / '.shared-token').touch())
  workdir.check_shared(tmp_path)


def test_data_of_another_process_may_differ_by_what_machines_do():
  own = {'shape': [8, 2], 'dtype': '<f4', 'means': [.1, 2.]}
  workdir.check_data_of_first({'train': own}, {'train': own | {'means': [.1, 2. + 1e-9]}})
  for other in ({'means': [.1, 2.1]}, {'shape': [9, 2]}):
    with pytest.raises(ValueError, match=r'the train split of the first has shape \[8, 2\]'):
      workdir.check_data_of_first({'train': own}, {'train': own | other})
  for first, second in (({}, {'train': own}), ({'train': own}, {})):
    with pytest.raises(ValueError, match='the same data: the train split of the first has shape'):
      workdir.check_data_of_first(first, second)


def test_a_strange_folder_is_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('x')
  with pytest.raises(ValueError, match=r'not empty and holds no run \(found thesis.tex\)'):
    workdir.claim(tmp_path, {'seed': 0}, {})
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


def test_another_run_is_left_alone(tmp_path):
  config = {'seed': 0, 'total_steps': 1, 'data': {'name': 'a'}, 'log': {'every': 1}}
  workdir.claim(tmp_path, config, {})
  before = (tmp_path / 'config.json').read_text()
  with pytest.raises(ValueError, match=r"data.name was 'a', now 'b'"):
    workdir.claim(tmp_path, config | {'data': {'name': 'b'}}, {})
  assert (tmp_path / 'config.json').read_text() == before
  workdir.claim(tmp_path, config | {'log': {'every': 2}}, {})
  workdir.claim(tmp_path, config | {'data': {'name': 'a', 'data_dir': '/moved'},
                                    'log': {'every': 2}}, {})
  assert json.loads((tmp_path / 'config.json').read_text())['log'] == {'every': 2}


def test_other_data_of_the_same_name_are_another_run(tmp_path):
  """A folder of data may move, so its path says nothing; what is in it does."""
  x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
  summary = lambda x: {'train': dataset.summary(x)}
  workdir.claim(tmp_path, {'seed': 0}, summary(x))
  before = {p.name: p.read_text() for p in tmp_path.iterdir()}
  assert set(before) == {'config.json', 'data.json'}
  for other in (x[::-1], x[:99], x + .01, x.astype(np.float64)):
    with pytest.raises(ValueError, match=r'holds a run of other data: its train split .*data_dir'):
      workdir.claim(tmp_path, {'seed': 0}, summary(other))
    assert before == {p.name: p.read_text() for p in tmp_path.iterdir()}
  workdir.claim(tmp_path, {'seed': 0}, summary(x * np.float32(1 + 1e-6)))   # another machine's
  (tmp_path / 'data.json').unlink()   # a run from before there was one
  workdir.claim(tmp_path, {'seed': 0}, summary(x[:99]))
  assert json.loads((tmp_path / 'data.json').read_text())['train']['shape'] == [99, 3]


def test_a_lock_file_that_was_taken_away_locks_nothing(tmp_path):
  """Opened before a refused run unlinked it, held after: the next process must not share it."""
  stale = (tmp_path / 'lock').open('a')
  (tmp_path / 'lock').unlink()
  assert not files.is_at(stale, tmp_path / 'lock')
  with workdir.lock(tmp_path) as path:
    assert not files.is_at(stale, path / 'lock')
    with (path / 'lock').open() as file:
      assert files.is_at(file, path / 'lock')
  stale.close()


def test_a_lock_is_had_of_the_file_that_is_there(tmp_path, monkeypatch):
  """A refused run takes its file away between this one's open and its lock."""
  take, taken = workdir._lock, []

  def unlinked_first(file):
    if not taken:
      taken.append((tmp_path / 'lock').unlink())
    return take(file)

  monkeypatch.setattr(workdir, '_lock', unlinked_first)
  with workdir.lock(tmp_path):
    assert workdir.in_use(tmp_path)


@pytest.mark.parametrize(('text', 'message'), [
  ('{"seed": ', 'is not JSON'), ('[' * 10**5, 'is not JSON .maximum recursion'),
  ('[]', 'holds a list'),
  ('{"seed": 0, "mollify": []}', r'config\.json has mollify = \[\], not the keys of that group'),
  ('{"seed": 0, "model": {"name": []}}', r'model.name was \[\], now'),
  ('{"seed": 0, "total_steps": "1"}', "total_steps was '1', now 2")])
def test_a_damaged_config(tmp_path, text, message):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=message):
    workdir.claim(tmp_path, {'seed': 0, 'total_steps': 2}, {})
  assert (tmp_path / 'config.json').read_text() == text


@pytest.mark.parametrize('damaged', [
  [], {}, {'shape': [4, 3], 'dtype': '<f4'}, {'shape': [4, 3], 'dtype': '<f4', 'means': 1.},
  {'shape': [4, 3], 'dtype': '<f4', 'means': ['a'] * 4},
  {'shape': [4, 3], 'dtype': '<f4', 'means': [10**400] * 4}])
def test_a_damaged_record_of_the_data(tmp_path, damaged):
  good = {'train': dataset.summary(np.ones((4, 3), np.float32))}
  workdir.claim(tmp_path, {'seed': 0}, good)
  (tmp_path / 'data.json').write_text(json.dumps({'train': damaged}))
  with pytest.raises(ValueError, match=r'data\.json does not describe the train split; restore it'):
    workdir.claim(tmp_path, {'seed': 0}, good)


def test_a_record_of_fewer_means_is_of_other_data(tmp_path):
  good = {'train': dataset.summary(np.ones((4, 3), np.float32))}
  workdir.claim(tmp_path, {'seed': 0}, good)
  (tmp_path / 'data.json').write_text(json.dumps({'train': good['train'] | {'means': []}}))
  with pytest.raises(ValueError, match='holds a run of other data'):
    workdir.claim(tmp_path, {'seed': 0}, good)


def test_an_error_before_the_run_leaves_no_new_folder_and_touches_no_old_one(tmp_path):
  old = tmp_path / 'old'
  old.mkdir()
  for folder in (old, tmp_path / 'new'):
    with pytest.raises(ValueError, match='refused'), workdir.lock(folder):
      raise ValueError('refused')
  assert [p.name for p in tmp_path.rglob('*')] == ['old']
  with pytest.raises(OSError), workdir.lock(tmp_path / 'new') as path:
    (path / 'config.json' / 'no folder').write_text('')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['old']


def test_an_error_leaves_what_a_run_has_written(tmp_path):
  with pytest.raises(ZeroDivisionError), workdir.lock(tmp_path / 'new') as path:
    1 / (path / 'config.json').write_text('')
  assert (tmp_path / 'new' / 'config.json').exists()
