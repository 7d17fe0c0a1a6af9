"""The bench of freed memory: what is compared, its record, and one form of it that runs."""
import contextlib
import json

import pytest

from experiments import report
from experiments.bench import allocator, rows


def test_what_keeps_freed_memory_is_held_against_what_does_not(monkeypatch):
  asked = []

  @contextlib.contextmanager
  def worker(module, *flags, **env):
    yield lambda word: asked.append(flags) or (.08 if '--keep' in flags else .1)

  monkeypatch.setattr(allocator.rows, 'worker', worker)
  row, = allocator.measure('vae')
  assert (row.name, row.value, row.reference_value) == ('vae_kept', 80., 100.)
  assert row.ratio == pytest.approx(1.25)
  assert {flags[0] for flags in asked} == {'--model=vae'}
  assert len(asked) == 2 * (1 + allocator.PAIRS)


def test_the_record_has_a_row_of_each_model():
  lines = (report.RESULTS / 'bench' / 'allocator.jsonl').read_text().splitlines()
  assert [row['name'] for row in map(json.loads, lines)] == [
    f'{model}_kept' for model in allocator.MODELS]


@pytest.mark.slow
def test_a_small_form_runs(capsys):
  assert rows.main(allocator.MEASURES, '', ['--smoke', '--json', '--only=vae'],
                   smoke=allocator.SMOKE) == 0
  row, = map(json.loads, capsys.readouterr().out.splitlines())
  assert row['value'] > 0 < row['reference_value']
