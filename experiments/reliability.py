"""What the slow tests of reliability found, from pytest's own reports of them.

  python -m experiments.reliability REPORT.xml...

Reports are those of `pytest --junitxml=REPORT.xml`; of each test that recorded figures they go into
experiments/results/reliability.json, in the place of what it found before. Tests that failed are
left out and named, and the exit status is 1.
"""
import json
import pathlib
import re
import sys
from xml.etree import ElementTree

RESULTS = pathlib.Path(__file__).parent / 'results' / 'reliability.json'
FUZZED = 'test_damaged_inputs_for_minutes'


def found(path):
  """({test: {figure: text, 'seconds': float}} of a report, names of the tests that failed)."""
  tests, failed = {}, []
  for case in ElementTree.parse(path).iter('testcase'):
    figures = {p.get('name'): p.get('value') for p in case.iter('property')}
    if case.find('failure') is not None or case.find('error') is not None:
      failed.append(case.get('name'))
    elif figures:
      tests[case.get('name')] = figures | {'seconds': round(float(case.get('time')))}
  return tests, failed


def record(paths, results=RESULTS):
  """Add what is found in the reports to `results`; the names of the tests that failed."""
  tests, failed = json.loads(results.read_text()) if results.exists() else {}, []
  for new, lost in map(found, paths):
    tests |= new
    failed += lost
  results.write_text(json.dumps(dict(sorted(tests.items())), indent=1) + '\n')
  return failed


def markdown(results=RESULTS):
  """Tables for a page: of the tests, and of what was fuzzed."""
  tests = json.loads(results.read_text())
  lines = ['| test | found | minutes |', '| --- | --- | --- |']
  fuzzed = ['| fuzzed | inputs read | refused | minutes |', '| --- | --- | --- | --- |']
  for name, figures in tests.items():
    minutes = f'{figures["seconds"] / 60:.1f}'
    if name.startswith(FUZZED):
      reader = re.search(r'\[(.*)\]', name)[1]
      read, refused = (int(figures.get(kind, 0)) for kind in ('read', 'refused'))
      fuzzed.append(f'| {reader} | {read:,} | {refused:,} | {minutes} |')
    else:
      said = ', '.join(f'{kind} {value}' for kind, value in figures.items() if kind != 'seconds')
      lines.append(f'| {name.removeprefix("test_").replace("_", " ")} | {said} | {minutes} |')
  return '\n'.join([*lines, '', *fuzzed])


if __name__ == '__main__':
  if not sys.argv[1:]:
    sys.exit(__doc__)
  failed = record(sys.argv[1:])
  sys.exit(f'left out, since they failed: {", ".join(failed)}' if failed else 0)
