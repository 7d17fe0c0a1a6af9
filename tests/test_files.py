"""Files appear in one move, or stay as they were."""
import errno
import os
import pathlib
import resource
import socket
import subprocess
import sys

import numpy as np
import pytest

from mollification import files


def test_an_error_leaves_what_was_there(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('old')

  def fail():
    with files.replacing(path) as part:
      part.write_text('half')
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']
  assert path.read_text() == 'old'
  with files.replacing(path) as part:
    part.write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_bytes_are_on_disk_before_they_take_the_place_of_others(tmp_path, monkeypatch):
  """A machine that stops in between must not leave an empty file under the name."""
  order, of = [], lambda file: os.readlink(f'/proc/self/fd/{file}')
  synced, moved = os.fsync, os.replace
  monkeypatch.setattr(os, 'fsync', lambda file: order.append(of(file)) or synced(file))
  monkeypatch.setattr(os, 'replace', lambda *paths: order.append('moved') or moved(*paths))
  with files.replacing(tmp_path / 'a.json') as part:
    part.write_text('new')
  assert order == [str(part), 'moved', str(tmp_path)]


def test_files_of_a_folder_are_on_disk_before_it_takes_the_place_of_another(tmp_path, monkeypatch):
  order, moved = [], pathlib.Path.rename
  monkeypatch.setattr(files, 'to_disk', lambda path: order.append(path.name))
  monkeypatch.setattr(pathlib.Path, 'rename', lambda *paths: order.append('moved') or moved(*paths))
  with files.replacing_folder(tmp_path / 'run') as part:
    (part / 'records').mkdir()
    (part / 'records' / 'a').write_text('new')
  assert order == ['records', 'a', part.name, 'moved', tmp_path.name]


def _fill(path, text):
  with files.replacing_folder(path) as part:
    (part / 'a').write_text(text)
    if text == 'half':
      raise RuntimeError


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
  place = tmp_path / 'results' / 'run'
  _fill(place, 'old')
  with pytest.raises(RuntimeError):
    _fill(place, 'half')
  assert (place / 'a').read_text() == 'old'
  (place / 'b').touch()
  _fill(place, 'new')
  assert [(p.name, p.read_text()) for p in place.iterdir()] == [('a', 'new')]
  assert [p.name for p in place.parent.iterdir()] == ['run']


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch, error):
  """In its place; after what no program survives, beside it."""
  _fill(tmp_path / 'run', 'old')
  moves = []

  def fail_at_the_second(self, target):
    moves.append(target)
    if len(moves) == 2:
      raise error
    os.rename(self, target)
  monkeypatch.setattr(files.pathlib.Path, 'rename', fail_at_the_second)
  with pytest.raises(error):
    _fill(tmp_path / 'run', 'new')
  place = tmp_path / 'run' if error is OSError else next(tmp_path.glob('.run.*'))
  assert (place / 'a').read_text() == 'old'
  assert len(list(tmp_path.iterdir())) == 1


def test_two_writers_never_share_a_part(tmp_path, monkeypatch):
  """In containers on two hosts the ids of their processes are often equal."""
  monkeypatch.setattr(os, 'getpid', lambda: 1)
  path = tmp_path / 'a.json'
  with files.replacing(path) as first:
    first.write_text('whole')
    with files.replacing(path) as second:
      second.write_text('ha')
  assert path.read_text() == 'whole'
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
  """What one writes that still lives stays, and takes its place."""
  path = tmp_path / 'a.json'
  code = ('import pathlib, runpy, sys\n'
          'with runpy.run_path(sys.argv[1])["replacing"](pathlib.Path(sys.argv[2])) as part:\n'
          '  part.write_text("half")\n'
          '  print(part.name, flush=True)\n'
          '  sys.stdin.read()\n')
  start = lambda: subprocess.Popen([sys.executable, '-c', code, files.__file__, str(path)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
  with start() as killed, start() as living:
    parts = [process.stdout.readline().strip() for process in (killed, living)]
    with files.replacing(path) as part:
      part.write_text('new')
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*parts, 'a.json'])
    killed.kill()
    killed.wait()
    with files.replacing(path) as part:
      part.write_text('new')
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([parts[1], 'a.json'])
  assert living.returncode == 0
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']
  assert path.read_text() == 'half'


def test_only_leftovers_of_the_file_go_and_of_another_host_when_they_are_old(tmp_path):
  """Its locks may mean nothing here. A whole folder that was moved aside is no leftover."""
  here = socket.gethostname()
  names = {f'.a.json.{here}-0.part': 0, '.a.json.elsewhere-0.part': 7200,
           '.a.json.elsewhere-1.part': 60, f'.a.json.{here}-2-0.part': 60,
           f'.b.json.{here}-0.part': 7200}
  for name, age in names.items():
    (tmp_path / name).touch()
    seconds = (tmp_path / name).stat().st_mtime - age
    os.utime(tmp_path / name, (seconds, seconds))
  (tmp_path / f'.a.json.{here}-1.part').mkdir()
  with files.replacing(tmp_path / 'a.json') as part:
    part.write_text('new')
  assert sorted(p.name for p in tmp_path.iterdir()) == sorted([
    'a.json', '.a.json.elsewhere-1.part', f'.a.json.{here}-2-0.part', f'.b.json.{here}-0.part',
    f'.a.json.{here}-1.part'])


def test_a_part_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch):
  lock, taken = files.fcntl.flock, []

  def removed_first(file, how):
    if not taken:
      taken.append(os.unlink(file.name))
    lock(file, how)
  monkeypatch.setattr(files.fcntl, 'flock', removed_first)
  with files.replacing(tmp_path / 'a.json') as part:
    part.write_text('first')
    with files.replacing(tmp_path / 'a.json') as other:   # lets it be
      other.write_text('second')
  assert taken
  assert (tmp_path / 'a.json').read_text() == 'first'
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


@pytest.fixture
def small_files():
  """No file of this process may be larger than 64 kB, as where a disk is full."""
  old = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, old[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_what_a_disk_takes_a_part_of_says_what_the_disk_says(small_files, tmp_path):
  with pytest.raises(OSError, match='too large') as error:
    files.write_rows(tmp_path / 'a.npy', (100_000,), float, [np.zeros(100_000)])
  assert error.value.errno == errno.EFBIG
  with (tmp_path / 'b').open('wb+') as file, pytest.raises(OSError, match='too large'):
    files.reserve(file, 100_000)


def test_an_array_is_written_as_numpy_reads_it(tmp_path):
  array = np.arange(12.).reshape(3, 4).T
  files.write_rows(tmp_path / 'a.npy', array.shape, array.dtype, [array])
  np.testing.assert_array_equal(np.load(tmp_path / 'a.npy'), array)
