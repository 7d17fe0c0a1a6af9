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
