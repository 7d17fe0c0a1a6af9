"""The bench of the flows: its rows stand without its extra, and every one has a tiny form."""
import json

import pytest

from experiments import report
from experiments.bench import flows, rows

# Row -> bar, as they were set before anything was measured.
BARS = {'maf_step_torch': 2., 'realnvp_tabular_step_torch': 1.3, 'glow_tabular_step_torch': 1.3,
        'maf_step_flowjax': 1.2, 'glow_step': 1., 'glow_compile': 1., 'glow_depth': 1.,
        'glow_sample': 1.}


def test_every_measure_has_a_smoke_form_and_the_issues_rows_are_there():
  assert list(flows.SMOKE) == list(flows.MEASURES)
  assert {'maf_step_torch', 'realnvp_tabular_step_torch', 'glow_tabular_step_torch',
          'maf_step_flowjax', 'glow_step', 'glow_compile', 'glow_sample'} <= set(flows.MEASURES)


def test_the_record_has_every_row_with_its_bar():
  """The page of speed shows the record: a bar that was moved since would be shown as it was."""
  lines = (report.RESULTS / 'bench' / 'flows.jsonl').read_text().splitlines()
  found = {row['name']: row['bar'] for row in map(json.loads, lines)}
  assert {name: bar for name, bar in found.items() if bar is not None} == BARS
  # What misses its bar is what the page says.
  missed = {row['name'] for row in map(json.loads, lines)
            if row['bar'] and row['ratio'] < row['bar']}
  assert missed == {'maf_step_torch', 'realnvp_tabular_step_torch'}
  assert [name for name, bar in found.items() if bar is None] == [
    'glow_sample_hand_written',
    *(f'glow_memory_{memory}' for memory in ('store', 'remat', 'invertible'))]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['glow_compile', 'glow_memory'])
def test_measures_without_a_library_run_here(name, capsys):
  assert rows.main(flows.MEASURES, '', ['--smoke', '--json', f'--only={name}'],
                   smoke=flows.SMOKE) == 0
  found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert {row['name']: row['bar'] for row in found if row['bar']} == {
    row: bar for row, bar in BARS.items() if name == 'glow_compile' and row in (
      'glow_compile', 'glow_depth')}
  assert all(row['value'] > 0 for row in found)
