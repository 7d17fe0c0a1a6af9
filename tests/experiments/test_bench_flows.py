"""The bench of the flows: its rows stand without its extra, and every one has a tiny form."""
from experiments.bench import flows


def test_every_measure_has_a_smoke_form_and_the_issues_rows_are_there():
  assert list(flows.SMOKE) == list(flows.MEASURES)
  assert {'maf_step_torch', 'realnvp_tabular_step_torch', 'glow_tabular_step_torch',
          'maf_step_flowjax', 'glow_step', 'glow_compile', 'glow_sample'} <= set(flows.MEASURES)
