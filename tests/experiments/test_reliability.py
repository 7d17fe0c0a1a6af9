"""What is shown of the slow tests is what they recorded, and of those that passed alone."""
import json
import os
import re
import subprocess
import sys

import pytest

from experiments import reliability
from tests import test_fuzz

CASE = '<testcase classname="{}" name="{}" time="{}">{}</testcase>'
FIGURE = '<property name="{}" value="{}" />'


def _report(path, *cases):
  path.write_text(f'<testsuites><testsuite>{"".join(cases)}</testsuite></testsuites>')
  return path


def _case(name, seconds, inside='', module='tests.training.test_processes', **figures):
  properties = ''.join(FIGURE.format(*item) for item in figures.items())
  return CASE.format(module, name, seconds, f'<properties>{properties}</properties>{inside}')


def test_figures_of_tests_are_kept_until_the_test_runs_again(tmp_path, monkeypatch):
  monkeypatch.setattr(reliability, 'run_of', lambda path: f'run {path.stem}')
  results = tmp_path / 'reliability.json'
  first = _report(tmp_path / 'a.xml', _case('test_killed', 90., kills=50),
                  CASE.format('tests.test_soak', 't', 1., ''),
                  _case('test_damaged_inputs_for_minutes[npz]', 600.4, module='tests.test_fuzz',
                        read=7, refused=12345))
  reliability.record([first], results)
  assert json.loads(results.read_text())['test_killed'] == {
    'kills': '50', 'seconds': 90, 'run': 'run a'}
  reliability.record([_report(tmp_path / 'b.xml', _case('test_killed', 30., kills=40, rows=3))],
                     results)
  assert reliability.markdown(results).splitlines() == [
    '### Kills', '',
    '| test | found | minutes | run |', '| --- | --- | --- | --- |',
    '| killed | kills 40, rows 3 | 0.5 | run b |', '',
    '### Fuzzing', '',
    '| reader | inputs read | refused | minutes | run |', '| --- | --- | --- | --- | --- |',
    '| npz | 7 | 12,345 | 10.0 | run a |']
  lost = _report(tmp_path / 'c.xml', _case('test_killed', 9., '<failure/>', kills=2))
  assert reliability.record([lost], results) == ['test_killed']
  assert list(json.loads(results.read_text())) == ['test_damaged_inputs_for_minutes[npz]']


def test_a_row_of_before_runs_were_recorded_says_so(tmp_path):
  results = tmp_path / 'reliability.json'
  results.write_text(json.dumps({'test_killed[a]': {'kills': '50', 'seconds': 90}}))
  assert reliability.markdown(results).splitlines()[-1] == (
    '| killed [a] | kills 50 | 1.5 | of an earlier day |')


def test_topologies_are_shown_pair_by_pair_and_what_is_of_no_section_too(tmp_path):
  results = tmp_path / 'reliability.json'
  results.write_text(json.dumps({
    'test_any_topology_goes_on_from_any_other[vae]': {
      'pairs': '4', 'saved on 1×1': '0 / 1e-07', 'saved on 1×2': '2e-07 / 0', 'seconds': 60},
    'test_any_topology_goes_on_from_any_other[glow]': {'pairs': '4', 'seconds': 30, 'run': 'r'},
    'test_of_a_new_kind': {'a': '1', 'seconds': 60}}))
  assert reliability.markdown(results).splitlines() == [
    '### Topologies', '',
    'any topology goes on from any other [vae]: pairs 4; 1.0 minutes (of an earlier day)', '',
    '| saved on \\ goes on with | 1×1 | 1×2 |', '| --- | --- | --- |', '| 1×1 | 0 | 1e-07 |',
    '| 1×2 | 2e-07 | 0 |', '',
    'any topology goes on from any other [glow]: pairs 4; 0.5 minutes (r)', '',
    '### Others', '', '| test | found | minutes | run |', '| --- | --- | --- | --- |',
    '| of a new kind | a 1 | 1.0 | of an earlier day |']


def test_a_run_is_a_day_and_what_the_report_says_of_itself(tmp_path):
  """Not what is checked out when it is recorded."""
  stamp = FIGURE.format('run', 'abc1234-dirty, jax 1, orbax 2')
  report = _report(tmp_path / 'a.xml', f'<properties>{stamp}</properties>',
                   _case('test_x', 1., a=1))
  os.utime(report, (1e9, 1e9))
  assert re.fullmatch('2001-09-0[89], abc1234-dirty, jax 1, orbax 2', reliability.run_of(report))
  reliability.record([report], tmp_path / 'found.json')
  assert 'abc1234' in json.loads((tmp_path / 'found.json').read_text())['test_x']['run']


def test_a_report_that_does_not_say_what_ran_is_recorded_without(tmp_path):
  report = _report(tmp_path / 'a.xml', _case('test_x', 1., run='of the test itself'))
  assert reliability.run_of(report) == ''
  reliability.record([_report(tmp_path / 'b.xml', _case('test_x', 1., a=1))], tmp_path / 'f.json')
  assert json.loads((tmp_path / 'f.json').read_text()) == {'test_x': {'a': '1', 'seconds': 1}}


@pytest.mark.parametrize('workers', ['0', '2'])   # the tiers deal tests out to two processes
def test_reports_of_these_tests_say_what_ran(workers, request, tmp_path):
  """By the commit and the versions."""
  report = tmp_path / 'r.xml'
  subprocess.run([sys.executable, '-m', 'pytest', '-q', f'-n{workers}', f'--junitxml={report}',
                  'tests/experiments/test_reliability.py', '-k', 'rounded and 12345'],
                 cwd=request.config.rootpath, capture_output=True, check=True)
  assert re.fullmatch(r'[-\d]+, \S.*, jax [\d.]+, orbax [\d.]+', reliability.run_of(report))


@pytest.mark.parametrize('module, taken', [
  ('tests.training.test_processes', True), ('tests.data.test_large', True),
  ('tests.test_soak', True), ('tests.test_signals', True), ('tests.test_learning', False),
  ('tests.data.test_cache', False)])
def test_figures_of_other_things_are_passed_over(module, taken, tmp_path):
  report = _report(tmp_path / 'a.xml', _case('test_x', 1., module=module, gap_nats=.1))
  assert list(reliability.found(report)[0]) == (['test_x'] if taken else [])


@pytest.mark.parametrize('text, rounded', [
  ('53.42918361', '53.4'), ('5.8e-07', '5.8e-07'), ('12345', '12345'),
  ('+0.0123 MB', '+0.0123 MB')])
def test_figures_are_rounded(text, rounded, tmp_path):
  report = _report(tmp_path / 'a.xml', _case('test_x', 1., more=text))
  assert reliability.found(report)[0]['test_x']['more'] == rounded


@pytest.mark.parametrize('kind', ['failure', 'error'])
def test_a_test_that_failed_is_left_out_and_named(kind, tmp_path):
  results = tmp_path / 'reliability.json'
  report = _report(tmp_path / 'a.xml', _case('test_good', 1., kills=50),
                   _case('test_bad', 1., f'<{kind} />', kills=5))
  assert reliability.record([report], results) == ['test_bad']
  assert list(json.loads(results.read_text())) == ['test_good']


def test_what_is_recorded_is_of_tests_that_are_there():
  """One that is gone would be shown for ever."""
  root = reliability.RESULTS.parents[2]
  sources = ''.join(path.read_text() for path in root.glob('tests/**/*.py'))
  for name in json.loads(reliability.RESULTS.read_text()):
    assert f'def {name.partition("[")[0]}(' in sources, name
    for case in re.findall(r'\[(.*)\]', name):
      assert f"'{case}'" in sources, name


def test_all_that_tests_of_reliability_find_is_recorded():
  """A figure that is asserted once and shown nowhere is lost."""
  root = reliability.RESULTS.parents[2]
  names = set(json.loads(reliability.RESULTS.read_text()))
  recorded = {name.partition('[')[0] for name in names}
  found = set()
  for path in root.glob('tests/**/test_*.py'):
    module = '.'.join(path.relative_to(root).with_suffix('').parts)
    if f'{module}.'.startswith(reliability.OF_RELIABILITY):
      found |= set(re.findall(r'def (test_\w+)\([^)]*\brecord_property\b', path.read_text()))
  assert found == recorded
  assert {name for name in names if name.startswith(reliability.FUZZED)} == {
    f'{reliability.FUZZED}[{reader}]' for reader in test_fuzz.TARGETS}
