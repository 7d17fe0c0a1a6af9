"""Fuzzing of what reads files and commands: it works, or raises a ValueError; nothing else.

No other exception, no hang, no memory without end, no code run. A few dozen inputs each in the fast
tier; in the soak tier MOLLIFICATION_FUZZ_SECONDS of each (ten minutes).
"""
import collections
import os
import time

import hypothesis
import pytest
from hypothesis import HealthCheck

from tests import fuzzing

SECONDS = float(os.environ.get('MOLLIFICATION_FUZZ_SECONDS', '600'))


def _fuzz(name, examples, seed, folder):
  """Counter of what became of so many inputs; raises on the first that is a finding, made small."""
  target, counts = fuzzing.TARGETS[name], collections.Counter()

  @hypothesis.seed(seed)
  @hypothesis.settings(max_examples=examples, deadline=None, database=None,
                       suppress_health_check=list(HealthCheck))
  @hypothesis.given(fuzzing.damaged(target.seeds()))
  def run(content):
    counts['read' if fuzzing.check(target, content, folder) else 'refused'] += 1

  run()
  return counts


@pytest.mark.parametrize('name', fuzzing.TARGETS)
def test_a_few_damaged_inputs(name, tmp_path):
  counts = _fuzz(name, 40, 0, tmp_path)
  assert counts['refused'] >= 5


@pytest.mark.parametrize('name', fuzzing.TARGETS)
def test_good_inputs_are_read(name, tmp_path):
  """Else nothing beyond the first bytes would be tried. The hostile ones are refused."""
  target = fuzzing.TARGETS[name]
  found = [fuzzing.check(target, content, tmp_path) for content in target.seeds()]
  assert any(found) or name == 'weights'   # those of a network have 23 million numbers


@pytest.mark.soak
@pytest.mark.parametrize('name', fuzzing.TARGETS)
def test_damaged_inputs_for_minutes(name, tmp_path, record_property):
  counts, until, seed = collections.Counter(), time.monotonic() + SECONDS, 1
  while time.monotonic() < until:
    counts += _fuzz(name, 500, seed, tmp_path)
    seed += 1
  for kind, count in counts.items():
    record_property(kind, count)
  print(name, dict(counts))
  assert counts['refused'] >= 5
