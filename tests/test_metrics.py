"""Means merge exactly; rows survive crashes and non-finite figures."""
import io
import json
import subprocess
import sys
import types

import numpy as np
import pytest

from experiments import figures
from mollification import metrics
from mollification.metrics import Moments


def test_merge_is_exact():
  values = np.random.default_rng(0).normal(1e6, 1., 1001)
  merged = Moments()
  for part in np.split(values, [1, 7, 500, 500]):
    merged = merged.merge(Moments.of(part))
  assert merged.count == 1001
  assert merged.mean == pytest.approx(values.mean(), rel=1e-14)
  assert merged.sem == pytest.approx(values.std(ddof=1) / np.sqrt(1001), rel=1e-9)


def test_mask_leaves_out():
  assert Moments.of([1., 2., 99.], [True, True, False]).mean == 1.5
  assert Moments.of([1.], [False]) == Moments()


def test_sem_of_one_is_nan():
  assert np.isnan(Moments.of([3.]).sem)


def test_rows_round_trip_and_are_cut(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = metrics.JsonlWriter(path)
  for step in (10, 20, 30):
    writer.write(step, {'loss': float('nan') if step == 20 else step / 7})
  writer.close()
  with path.open('a') as file:
    file.write('{"step": 40, "lo')   # a crash in the middle of a line
  for line in path.read_text().splitlines()[:3]:
    json.loads(line, parse_constant=pytest.fail)   # no NaN token: any reader takes it
  assert [row['step'] for row in metrics.read_rows(path)] == [10, 20, 30]
  rows = metrics.cut_rows(path, lambda rows: rows[:2])
  assert [row['step'] for row in rows] == [10, 20]
  assert rows[0]['loss'] == 10 / 7
  assert np.isnan(float(rows[1]['loss']))
  assert path.read_text().count('\n') == 2


def test_a_last_row_that_was_written_in_part_is_left_out(tmp_path):
  """Wherever it ends, for every reader; a run that goes on writes it as if it had never begun."""
  path, values = tmp_path / 'metrics.jsonl', {'train/loss': .5, 'valid/x': float('nan')}
  writer = metrics.JsonlWriter(path)
  for step in (1, 2, 3):
    writer.write(step, values)
  writer.close()
  content = path.read_bytes()
  *whole, last = content.splitlines(keepends=True)
  parts = [last[:size] for size in range(len(last) - 1)]
  for part in (*parts, bytes(40), last[:9] + b'\xff\xfe'):   # of a machine that failed: no text
    path.write_bytes(b''.join(whole) + part)
    assert [row['step'] for row in metrics.read_rows(path)] == [1, 2]
    assert list(figures.curve(path, 'train/loss')[0]) == [1, 2]
    metrics.cut_rows(path, lambda rows: rows)
    writer = metrics.JsonlWriter(path)
    writer.write(3, values)
    writer.close()
    assert path.read_bytes() == content
  path.write_bytes(content[:-1])
  assert [row['step'] for row in metrics.read_rows(path)] == [1, 2, 3]   # all but its end


def test_damage_that_no_crash_leaves_is_an_error(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n{"step": 2\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r'line 2 is no row of metrics .*remove that line'):
    metrics.read_rows(path)
  before = path.read_text()
  with pytest.raises(ValueError, match='line 2'):
    metrics.cut_rows(path, lambda rows: rows[:1])
  assert path.read_text() == before
  for line in ('{"step": NaN}', '{"step": true}', '{"step": 1.5}', '[' * 100_000, '[1]', '7'):
    path.write_text(f'{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match='line 1 is no row of metrics'):
      metrics.read_rows(path)


def test_evaluations_do_not_slow_the_rate_but_take_their_time():
  stream = io.StringIO()
  progress = metrics.Progress(200, stream=stream)
  progress._start -= 2.
  with progress.paused():
    progress._stopped -= 1.   # half of the two seconds
    assert progress.rate(100) == pytest.approx(100., rel=.05)   # also while it lasts
  assert progress.rate(100) == pytest.approx(100., rel=.05)
  progress.show(100, force=True)
  assert '0:02 left' in stream.getvalue()


def test_progress_says_rate_and_time_left():
  stream = io.StringIO()
  progress = metrics.Progress(1000, 0, 'run ', batch_size=8, stream=stream)
  progress.restart(0)
  progress._start -= 2.   # two seconds ago
  progress.show(100, 'loss 1', force=True)
  line = stream.getvalue()
  assert 'run 100/1,000 (10 %)' in line
  assert '0:18 left' in line
  assert 'loss 1' in line
  progress.show(101)   # too soon for another line in a file
  assert stream.getvalue() == line


def test_peak_memory_is_that_of_the_process_and_of_the_device_that_held_most(
    tmp_path, monkeypatch):
  devices = [types.SimpleNamespace(memory_stats=lambda stats=stats: stats)
             for stats in (None, {'peak_bytes_in_use': 7}, {'peak_bytes_in_use': 5}, {})]
  monkeypatch.setattr(metrics.jax, 'local_devices', lambda: devices)
  monkeypatch.setattr(metrics, '_STATUS', tmp_path / 'status')
  monkeypatch.setattr(metrics.sys, 'platform', 'linux')
  monkeypatch.setattr(metrics.resource, 'getrusage',
                      lambda who: types.SimpleNamespace(ru_maxrss=3))
  assert metrics.peak_memory() == {'host': 3072, 'device': 7}
  monkeypatch.setattr(metrics.jax, 'local_devices', lambda: devices[:1])
  assert metrics.peak_memory() == {'host': 3072}   # a CPU does not say
  (tmp_path / 'status').write_text('VmPeak:\t   9000 kB\nVmHWM:\t   2 kB\nVmRSS:\t   1 kB\n')
  assert metrics.peak_memory() == {'host': 2048}


@pytest.mark.skipif(not metrics._STATUS.exists(), reason='only Linux says so')
def test_peak_memory_is_not_that_of_whoever_started_the_process():
  """Runs are started by processes that held more: a grid's, a notebook's."""
  large = np.ones(500 * 2**20, np.uint8)
  own = int(subprocess.run(
    [sys.executable, '-c',
     "from mollification import metrics; print(metrics.peak_memory()['host'])"],
    check=True, capture_output=True, text=True).stdout)
  assert 2**20 < own < large.nbytes


def test_a_row_takes_the_place_of_the_one_of_its_step(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  writer = metrics.JsonlWriter(path)
  for step in (1, 2, 3):
    writer.write(step, {'a': step})
  writer.replace({'step': 2, 'a': 5, 'b': 6})
  writer.write(4, {'a': 4})
  writer.close()
  assert metrics.read_rows(path) == [{'step': 1, 'a': 1}, {'step': 2, 'a': 5, 'b': 6},
                                     {'step': 3, 'a': 3}, {'step': 4, 'a': 4}]
