"""Records survive the disk, name what is wrong with a file, and never replace another figure."""
import dataclasses
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from mollification.evaluation import curve, records

REFERENCE = {'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a' * 64}
FEATURES = {'net': 'digits_cnn_8x8', 'sha256': 'b' * 64, 'input_mode': 'uint8',
            'quantisation': 'floor'}


def record(**changes):
  fields = {
    'metric': 'frechet', 'value': 1.25, 'standard_error': .1, 'n': 1000, 'unit': 'squared distance',
    'reference': REFERENCE, 'features': FEATURES, 'params': 'ema', 'step': 500, 'seed': 0,
    'config_sha256': 'c' * 64, 'seconds': 2.5, 'exact': None, 'extra': {'bias_corrected': 1.2}}
  return records.Record(**{**fields, **changes})


def test_a_record_comes_back_as_it_was(tmp_path):
  path = records.write(record(), tmp_path / 'records')
  assert path.name == 'frechet-test-ema-n1000-digits_cnn_8x8-000000500.json'
  assert records.read(path) == record()
  fields = json.loads(path.read_text())
  assert set(fields['versions']) == {'jax', 'jaxlib', 'flax', 'numpy', 'mollification', 'python'}
  assert all(fields['versions'].values())
  assert fields['device'] == 'cpu x 4'


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_nonfinite_figures_survive_any_json_reader(tmp_path, value):
  extra = {'list': [1., value], 'nested': {'x': value}, 'word': 'nannette'}
  path = records.write(record(value=value, standard_error=value, extra=extra), tmp_path)

  def refuse(constant):
    raise AssertionError(f'{constant} is not JSON')

  json.loads(path.read_text(), parse_constant=refuse)
  back = records.read(path)
  np.testing.assert_equal((back.value, back.standard_error), (value, value))
  np.testing.assert_equal(back.extra, extra)


def test_array_scalars_are_numbers(tmp_path):
  path = records.write(record(value=jnp.float32(.5), standard_error=np.float64(math.nan),
                              extra={'per_class': np.arange(2)}), tmp_path)
  back = records.read(path)
  assert back.value == .5
  assert math.isnan(back.standard_error)
  assert back.extra == {'per_class': [0, 1]}


def test_measuring_again_replaces_the_record(tmp_path):
  records.write(record(), tmp_path)
  records.write(record(value=2.), tmp_path)
  assert [r.value for r in records.read_all(tmp_path)] == [2.]


def test_another_network_is_another_figure(tmp_path):
  """The same metric at the same step: neither in the way of the other, nor on its curve."""
  first, second = record(), record(features={**FEATURES, 'net': 'other_net'})
  plain = record(features=None)
  assert len({r.figure for r in (first, second, plain)}) == 3
  paths = {records.write(r, tmp_path) for r in (first, second, plain)}
  assert len(paths) == len(records.read_all(tmp_path)) == 3
  later = record(features={**FEATURES, 'net': 'other_net'}, step=first.step + 1)
  drawn = curve.draw([first, second, later], tmp_path / 'curves')
  assert [path.name for path in drawn] == [f'{second.figure}.png']


@pytest.mark.parametrize(('changes', 'message'), [
  ({'config_sha256': 'd' * 64}, 'another config_sha256'),
  ({'seed': 1}, 'another seed'),
  ({'reference': {**REFERENCE, 'dataset': 'mnist'}}, 'another reference.dataset'),
  ({'settings': {'temperature': .5}}, 'another settings.temperature: None, new 0.5; move the old'),
  ({'features': {**FEATURES, 'sha256': 'e' * 64}}, 'another features.sha256'),
  ({'reference': {**REFERENCE, 'sha256': 'e' * 64}}, 'another reference.sha256'),
])
def test_another_figure_is_never_overwritten(tmp_path, changes, message):
  path = records.write(record(), tmp_path)
  before = path.read_text()
  with pytest.raises(ValueError, match=message):
    records.write(record(**changes), tmp_path)
  assert path.read_text() == before


def test_a_record_is_there_whatever_its_value(tmp_path):
  assert not records.holds(record(), tmp_path)
  written = records.write(record(), tmp_path)
  assert records.holds(record(value=2., seconds=1.), tmp_path)
  assert not records.holds(record(step=501), tmp_path)
  with pytest.raises(ValueError, match=r'another features\.input_mode'):
    records.holds(record(features={**FEATURES, 'input_mode': 'tf1'}), tmp_path)
  other = records.write(record(metric='kid'), tmp_path)
  os.utime(written, ns=(5, 5))
  assert records.last_written(tmp_path) == {
    record().figure: 5, record(metric='kid').figure: other.stat().st_mtime_ns}
  os.utime(records.write(record(step=501), tmp_path), ns=(7, 7))
  assert records.last_written(tmp_path)[record().figure] == 7


def test_a_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
  path = records.write(record(), tmp_path)

  def fail(source, target):
    raise OSError('disk full')

  monkeypatch.setattr(records.files.os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    records.write(record(value=2.), tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  assert records.read(path).value == 1.25


def test_all_records_come_sorted(tmp_path):
  written = [record(step=step, params=params, value=float(step))
             for step in (1000, 20, 300) for params in ('raw', 'ema')]
  for r in written:
    records.write(r, tmp_path)
  (tmp_path / 'notes.txt').write_text('not a record')
  found = [(r.params, r.step) for r in records.read_all(tmp_path)]
  assert found == [(p, s) for p in ('ema', 'raw') for s in (20, 300, 1000)]
  assert records.read_all(tmp_path / 'nothing') == []


@pytest.mark.parametrize(('change', 'message'), [
  (lambda fields: '{"metric": "fid"', 'Expecting'),
  (lambda fields: '[1]', 'JSON object, got list'),
  (lambda fields: json.dumps({**fields, 'colour': 1}), 'colour'),
  (lambda fields: json.dumps({k: v for k, v in fields.items() if k != 'seed'}), 'exactly the keys'),
  (lambda fields: json.dumps({**fields, 'value': 'high'}), "value must be a number, got 'high'"),
  (lambda fields: json.dumps({**fields, 'value': None}), 'value must be a number, got None'),
  (lambda fields: json.dumps({**fields, 'params': 'best'}), "got 'best'"),
  (lambda fields: '[' * 100_000, 'recursion'),
])
def test_a_malformed_file_is_named(tmp_path, change, message):
  path = records.write(record(), tmp_path)
  path.write_text(change(json.loads(path.read_text())))
  with pytest.raises(ValueError, match=r'digits_cnn_8x8-0+500\.json is not a record') as error:
    records.read_all(tmp_path)
  assert message in str(error.value)


@pytest.mark.parametrize(('changes', 'message'), [
  ({'metric': 'bits/dim'}, "file name: .* got 'bits/dim'"),
  ({'params': 'best'}, "params must be one of .* got 'best'"),
  ({'n': 0}, 'n must be an int from 1, got 0'),
  ({'step': 1.5}, 'step must be an int from 0, got 1.5'),
  ({'config_sha256': ''}, 'config_sha256 must be a hash'),
  ({'reference': {'dataset': 'digits'}}, 'reference must have exactly the keys'),
  ({'features': {**FEATURES, 'mode': 1}}, 'features must have exactly the keys'),
  ({'exact': 'yes'}, 'exact must be'),
])
def test_records_of_nothing_in_particular_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    record(**changes)


def test_records_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    record().value = 0.


def test_another_number_of_samples_is_another_figure(tmp_path):
  paths = {records.write(record(n=n, value=float(n)), tmp_path) for n in (1000, 5000)}
  assert sorted(r.value for r in map(records.read, paths)) == [1000., 5000.]
