"""Files appear in one move, or stay as they were."""
import os

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


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one_somewhere(tmp_path, monkeypatch):
  _fill(tmp_path / 'run', 'old')
  moves = []

  def die_at_the_second(self, target):
    moves.append(target)
    if len(moves) == 2:
      raise KeyboardInterrupt
    os.rename(self, target)
  monkeypatch.setattr(files.pathlib.Path, 'rename', die_at_the_second)
  monkeypatch.setattr(files.shutil, 'rmtree', lambda *args, **options: None)   # as a crash
  with pytest.raises(KeyboardInterrupt):
    _fill(tmp_path / 'run', 'new')
  assert sorted(p.read_text() for p in tmp_path.rglob('a')) == ['new', 'old']


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
