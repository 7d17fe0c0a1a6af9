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
