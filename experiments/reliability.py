"""What the slow tests of reliability found, from pytest's own reports of them.

  python -m experiments.reliability REPORT.xml...

Reports are those of `pytest --junitxml=REPORT.xml`; of each test that recorded figures they go into
experiments/results/reliability.json, in the place of what it found before, with `run`: the day, and
the commit and the versions of jax and orbax that the report is of. Figures of tests of other things
are passed over. Tests that failed are named, what they found before goes, and the exit status is 1.
"""
import datetime
import json
import pathlib
import re
import sys
from xml.etree import ElementTree

RESULTS = pathlib.Path(__file__).parent / 'results' / 'reliability.json'
FUZZED = 'test_damaged_inputs_for_minutes'
# Modules whose figures are of reliability, by a report's class names; others record theirs too.
OF_RELIABILITY = ('tests.training.', 'tests.test_signals', 'tests.test_soak', 'tests.test_fuzz',
                  'tests.data.test_large')


def found(path):
  """({test: {figure: text, 'seconds': float}} of a report, names of the tests that failed)."""
  tests, failed = {}, []
  for case in ElementTree.parse(path).iter('testcase'):
    if not f'{case.get("classname")}.'.startswith(OF_RELIABILITY):
      continue
    figures = {p.get('name'): _rounded(p.get('value')) for p in case.iter('property')}
    if case.find('failure') is not None or case.find('error') is not None:
      failed.append(case.get('name'))
    elif figures:
      tests[case.get('name')] = figures | {'seconds': round(float(case.get('time')))}
  return tests, failed


def _rounded(text):
  """A number to three figures, a whole one and words as they are."""
  try:
    return text if text.isdecimal() else f'{float(text):.3g}'
  except ValueError:
    return text


def run_of(path):
  """'day, commit, jax version, orbax version' of a report; '' of one that does not say what it ran.

  What ran is stamped when the tests begin (tests/conftest.py), with -dirty where files differed
  from the commit; the day is that of the file.
  """
  stamp = ElementTree.parse(path).find('.//testsuite/properties/property[@name="run"]')
  if stamp is None:
    return ''
  return f'{datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()}, {stamp.get("value")}'


def record(paths, results=RESULTS):
  """Add what is found in the reports to `results`; the names of the tests that failed.

  Of these nothing is left there: what they found before is not what the code of today does.
  """
  tests, failed = json.loads(results.read_text()) if results.exists() else {}, []
  for path in map(pathlib.Path, paths):
    new, lost = found(path)
    stamp = {'run': run} if (run := run_of(path)) else {}
    tests |= {name: figures | stamp for name, figures in new.items()}
    tests = {name: figures for name, figures in tests.items() if name not in lost}
    failed += lost
  results.write_text(json.dumps(dict(sorted(tests.items())), indent=1) + '\n')
  return failed


def markdown(results=RESULTS):
  """Sections for a page: what was found, by what it is of, topologies pair by pair, and fuzzing."""
  left, parts = json.loads(results.read_text()), []
  for title, prefixes, shown in SECTIONS:
    own = {name: figures for name, figures in left.items() if name.startswith(prefixes)}
    left = {name: figures for name, figures in left.items() if name not in own}
    if own:
      parts += [f'### {title}', '', *shown(own), '']
  return '\n'.join(parts[:-1])


def _tests(tests):
  yield '| test | found | minutes | run |'
  yield '| --- | --- | --- | --- |'
  for name, figures in tests.items():
    yield f'| {_words(name)} | {_said(figures)} | {_end(figures)}'


def _topologies(tests):
  """Where a run was saved and where it went on, with the largest relative difference of a loss."""
  for i, (name, figures) in enumerate(tests.items()):
    rows = {where.removeprefix(_SAVED): values.split(' / ') for where, values in figures.items()
            if where.startswith(_SAVED)}
    if i:
      yield ''
    yield f'{_words(name)}: {_said(figures)}; {_minutes(figures)} minutes ({_run(figures)})'
    if rows:
      yield ''
      yield f'| saved on \\ goes on with | {" | ".join(rows)} |'
      yield f'| --- |{" --- |" * len(rows)}'
      for where, values in rows.items():
        yield f'| {where} | {" | ".join(values)} |'


def _fuzzed(tests):
  yield '| reader | inputs read | refused | minutes | run |'
  yield '| --- | --- | --- | --- | --- |'
  for name, figures in tests.items():
    reader = re.search(r'\[(.*)\]', name)[1]
    read, refused = (int(figures.get(kind, 0)) for kind in ('read', 'refused'))
    yield f'| {reader} | {read:,} | {refused:,} | {_end(figures)}'


def _said(figures):
  """The figures of a test in words; those of a table have their place."""
  return ', '.join(f'{kind} {value}' for kind, value in figures.items()
                   if kind not in ('seconds', 'run') and not kind.startswith(_SAVED))


def _words(name):
  return name.removeprefix('test_').replace('_', ' ').replace('[', ' [')


def _minutes(figures):
  return f'{figures["seconds"] / 60:.1f}'


def _run(figures):
  return figures.get('run', 'of an earlier day')


def _end(figures):
  return f'{_minutes(figures)} | {_run(figures)} |'


_SAVED = 'saved on '
# (title, how the names of its tests begin, what is shown of them); the last takes all that is left.
SECTIONS = (
  ('Kills', ('test_killed', 'test_two_processes_that_lose'), _tests),
  ('Topologies', ('test_any_topology',), _topologies),
  ('Signals', ('test_a_signal', 'test_signals'), _tests),
  ('Memory', ('test_memory', 'test_batches_of_a_cache', 'test_a_run_on_a_cache',
              'test_what_checkpoints'), _tests),
  ('bfloat16', ('test_losses_move',), _tests),
  ('Fuzzing', (FUZZED,), _fuzzed),
  ('Others', ('test_',), _tests))


if __name__ == '__main__':
  if not sys.argv[1:]:
    sys.exit(__doc__)
  failed = record(sys.argv[1:])
  sys.exit(f'failed, and what they found before is gone: {", ".join(failed)}' if failed else 0)
