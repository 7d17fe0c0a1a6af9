"""The cache on disk: rival and failing writers, and what killed ones leave."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mollification import files
from mollification.data import cache


def _pixels(n):
  return np.random.default_rng(0).integers(0, 256, (n, 2, 2, 1), dtype=np.uint8)


_RIVAL = '''
import pathlib, sys, time
import numpy as np
from mollification.data import cache
folder, gate, value = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
def write(place):
  (gate / f'{value}.wrote').touch()
  for name in ('train', 'validation', 'test'):
    np.save(place / f'{name}.npy', np.full((50, 8, 8, 3), value, np.uint8))
    time.sleep(.05)
  return {'carve': 0, 'value': value}
(gate / str(value)).touch()
while len(list(gate.glob('?'))) < 3:
  time.sleep(.01)
cache.read(cache.ensure(folder, write), 'x')
'''


def test_concurrent_writers_leave_one_sound_cache(tmp_path):
  folder, gate = tmp_path / 'set/1.0.0', tmp_path / 'gate'
  gate.mkdir()
  root = pathlib.Path(__file__).parents[2]
  rivals = [subprocess.Popen([sys.executable, '-c', _RIVAL, folder, gate, str(value)], cwd=root)
            for value in range(3)]
  try:
    assert [rival.wait(60) for rival in rivals] == [0] * 3
  finally:
    for rival in rivals:
      rival.kill()
  assert len(list(gate.glob('*.wrote'))) == 1               # the others waited for it
  assert not cache.problem(folder)
  loaded = cache.read(folder, 'x')
  value = json.loads((folder / 'meta.json').read_text())['value']
  assert (loaded.train.x == value).all()
  assert (loaded.test.x == value).all()
  assert sorted(p.name for p in folder.parent.iterdir()) == ['.lock', '1.0.0']


def test_arrays_are_on_disk_before_a_stamp_vouches_for_them(tmp_path, monkeypatch):
  """Large ones are not hashed where it is theirs, also after a crash of the machine."""
  order = []
  monkeypatch.setattr(files, 'to_disk', lambda path: order.append(path.name))

  def write(folder):
    for name in ('train', 'validation', 'test'):
      np.save(folder / f'{name}.npy', _pixels(5))
    return {'carve': 0}

  cache.ensure(tmp_path / 'set', write)
  assert sorted(order[:3]) == ['test.npy', 'train.npy', 'validation.npy']
  assert any(name.startswith('.stamp.json') for name in order[3:])


def test_a_failing_writer_leaves_nothing(tmp_path):
  def write(place):
    files.write_rows(place / 'train.npy', (3, 2, 2, 1), np.uint8, [_pixels(2)])

  with pytest.raises(ValueError, match=r'train.npy: 2 examples came, 3 announced'):
    cache.ensure(tmp_path / 'set/1.0.0', write)
  assert [p.name for p in (tmp_path / 'set').iterdir()] == ['.lock']


def test_what_a_killed_writer_left_is_removed(tmp_path):
  stale = tmp_path / 'set/.building-1.0.0-dead'
  stale.mkdir(parents=True)

  def write(place):
    for name in ('train', 'validation', 'test'):
      np.save(place / f'{name}.npy', _pixels(2))
    return {'carve': 0}

  cache.ensure(tmp_path / 'set/1.0.0', write)
  assert not stale.exists()


def test_default_cache_dir_follows_xdg(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert cache.root('') == tmp_path / 'mollification'
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert cache.root('') == pathlib.Path.home() / '.cache/mollification'
