"""What is shown of the slow tests is what they recorded, and of those that passed alone."""
import json
import re

import pytest

from experiments import reliability

CASE = '<testcase name="{}" time="{}">{}</testcase>'
FIGURE = '<property name="{}" value="{}" />'


def _report(path, *cases):
  path.write_text(f'<testsuites><testsuite>{"".join(cases)}</testsuite></testsuites>')
  return path


def _case(name, seconds, inside='', **figures):
  properties = ''.join(FIGURE.format(*item) for item in figures.items())
  return CASE.format(name, seconds, f'<properties>{properties}</properties>{inside}')


def test_figures_of_tests_are_kept_until_the_test_runs_again(tmp_path):
  results = tmp_path / 'reliability.json'
  first = _report(tmp_path / 'a.xml', _case('test_killed', 90., kills=50), CASE.format('t', 1., ''),
                  _case('test_damaged_inputs_for_minutes[npz]', 600.4, read=7, refused=12345))
  reliability.record([first], results)
  assert json.loads(results.read_text())['test_killed'] == {'kills': '50', 'seconds': 90}
  reliability.record([_report(tmp_path / 'b.xml', _case('test_killed', 30., kills=40, rows=3))],
                     results)
  assert reliability.markdown(results).splitlines() == [
    '| test | found | minutes |', '| --- | --- | --- |',
    '| killed | kills 40, rows 3 | 0.5 |', '',
    '| fuzzed | inputs read | refused | minutes |', '| --- | --- | --- | --- |',
    '| npz | 7 | 12,345 | 10.0 |']


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
