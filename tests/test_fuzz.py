"""Fuzzing of what reads files and commands: it works, or raises a ValueError; nothing else.

No other exception, no hang, no memory without end, no code run. A few dozen inputs each in the fast
tier; in the soak tier MOLLIFICATION_FUZZ_SECONDS of each (ten minutes).
"""
import ast
import collections
import importlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import warnings

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck

from tests import fuzz_data, fuzz_evaluation, fuzz_runs, fuzzing

TARGETS = fuzz_data.TARGETS | fuzz_evaluation.TARGETS | fuzz_runs.TARGETS
SECONDS = float(os.environ.get('MOLLIFICATION_FUZZ_SECONDS', '600'))


def _fuzz(name, examples, seed, folder):
  """Counter of what became of so many inputs; raises on the first that is a finding, made small."""
  target, counts = TARGETS[name], collections.Counter()

  @hypothesis.seed(seed)
  @hypothesis.settings(max_examples=examples, deadline=None, database=None,
                       suppress_health_check=list(HealthCheck))
  @hypothesis.given(fuzzing.damaged(target.seeds()))
  def run(content):
    counts['read' if fuzzing.check(target, content, folder) else 'refused'] += 1

  run()
  return counts


@pytest.mark.parametrize('name', TARGETS)
def test_a_few_damaged_inputs(name, tmp_path):
  counts = _fuzz(name, 40, 0, tmp_path)
  assert counts['refused'] >= 5


@pytest.mark.parametrize('name', TARGETS)
def test_good_inputs_are_read(name, tmp_path):
  """Else nothing beyond the first bytes would be tried. The hostile ones are refused."""
  target = TARGETS[name]
  found = [fuzzing.check(target, content, tmp_path) for content in target.seeds()]
  assert all(found) if name == 'weights' else any(found)


def test_a_key_of_thousands_of_parts_is_refused(tmp_path):
  """What fuzzing found of ml_collections."""
  with pytest.raises(ValueError, match=r'^error: a flag is nested too deeply: --config\.x\.x'):
    TARGETS['overrides'].read(b'x' + b'.x' * 20_000 + b'=1', tmp_path)


# --- what the fuzzer itself sees, where a reader turns every Exception into a ValueError ---------

def _checked(plant, folder):
  """What `check` says of a reader that does what `plant(folder)` does, whatever comes of it."""
  def read(content, folder):
    try:
      plant(folder)
    except Exception as error:
      raise ValueError('damaged') from error

  return fuzzing.check(fuzzing.Target(list, read), b'', folder)


def _sleep(folder):
  time.sleep(60)


def _stubborn(folder):
  """Goes on once after whatever it is sent."""
  try:
    time.sleep(60)
  except BaseException:
    time.sleep(60)


def _other_error(folder):
  try:
    time.sleep(60)
  finally:
    raise OSError('of its own')


@pytest.mark.parametrize('plant', [_sleep, _stubborn, _other_error])
def test_a_hang_is_seen(plant, tmp_path, monkeypatch):
  monkeypatch.setattr(fuzzing, 'SECONDS', .05)
  monkeypatch.setattr(fuzzing, 'AGAIN', .2)
  with pytest.raises(AssertionError, match=r'no end after 0\.05 s'):
    _checked(plant, tmp_path)


def test_memory_that_is_taken_is_seen_after_more_was_taken_before(tmp_path, monkeypatch):
  monkeypatch.setattr(fuzzing, 'MEMORY', 400_000_000)
  np.ones(150_000_000, np.uint8)
  with pytest.raises(AssertionError, match='it took memory'):
    _checked(lambda folder: np.ones(80_000_000, np.uint8).sum(), tmp_path)
  assert _checked(lambda folder: np.ones(1_000_000, np.uint8).sum(), tmp_path)


def _tells(folder):
  """Names the error in one that is not raised from it."""
  try:
    np.ones(2**40, np.uint8)
  except MemoryError as error:
    reason = str(error)
  raise ValueError(f'1 of 2 images cannot be read: x.png ({reason})')


@pytest.mark.parametrize('plant', [lambda folder: np.ones(2**40, np.uint8), _tells])
def test_memory_that_is_asked_for_in_vain_is_seen(plant, tmp_path):
  with pytest.raises(AssertionError, match='it made room'):
    _checked(plant, tmp_path)


class _Hostile:
  def __reduce__(self):
    return print, ()


@pytest.mark.parametrize(('plant', 'event'), [
  (lambda folder: os.system('true'), 'os.system'),
  (lambda folder: subprocess.run(['true'], check=True), 'subprocess.Popen'),
  (lambda folder: socket.create_connection(('127.0.0.1', 9), .01), 'socket'),
  (lambda folder: pickle.loads(pickle.dumps(_Hostile())), 'pickle.find_class'),
  (lambda folder: eval('1 + 1'), 'exec'),
  (lambda folder: exec('x = 1'), 'exec'),
  (lambda folder: (folder.parent / 'x').write_text(''), 'open'),
  (lambda folder: (folder / '../x').open('a').close(), 'open'),
  (lambda folder: os.open(folder.parent / 'x', os.O_CREAT), 'open'),
  (lambda folder: os.rename(folder / 'x', folder.parent / 'x'), 'os.rename'),
  (lambda folder: (folder.parent / 'x').unlink(), 'os.remove'),
  (lambda folder: (folder.parent / 'y').mkdir(), 'os.mkdir'),
  (lambda folder: (folder / 'z').symlink_to(folder.parent), 'os.symlink')])
def test_what_no_reader_does_is_seen(plant, event, tmp_path):
  (tmp_path / 'own').mkdir()
  with pytest.raises(AssertionError, match=event):
    _checked(plant, tmp_path / 'own')


def test_what_readers_may_do(tmp_path):
  def plant(folder):
    ast.literal_eval('{"descr": "<f4"}')
    (folder / 'x').write_text('a')
    with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile():
      file.write((folder / 'x').read_bytes())
    for path in folder.iterdir():
      path.unlink()
    sys.modules.pop('sched', None)
    importlib.import_module('sched')   # which makes a namedtuple of text

  assert _checked(plant, tmp_path)


def test_what_users_are_only_warned_of_stops_no_reader(tmp_path):
  """As Pillow warns of an image that claims more pixels than its limit."""
  assert _checked(lambda folder: warnings.warn('too large', RuntimeWarning, stacklevel=1), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize('name', TARGETS)
def test_damaged_inputs_for_minutes(name, tmp_path, record_property):
  counts, until, seed = collections.Counter(), time.monotonic() + SECONDS, 1
  while time.monotonic() < until:
    counts += _fuzz(name, 500, seed, tmp_path)
    seed += 1
  for kind, count in counts.items():
    record_property(kind, count)
  print(name, dict(counts))
  assert counts['refused'] >= 5
