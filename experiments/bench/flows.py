"""Flows against other libraries: python -m experiments.bench.flows [--json] [--only=...] [--smoke]

Needs the `bench` extra (torch, normflows, nflows, flowjax). Both sides of a ratio run on the cores
that this process may use, in turn, with inputs in memory; a ratio above 1 is better than the
reference. `--smoke` makes everything tiny: does it run at all? The ratios mean nothing then.
"""
import sys

from experiments.bench import flows_image, flows_tabular, rows

MEASURES = {**flows_tabular.MEASURES, **flows_image.MEASURES}
SMOKE = {**flows_tabular.SMOKE, **flows_image.SMOKE}

if __name__ == '__main__':
  doc = f'{__doc__}\n{flows_tabular.__doc__}\n{flows_image.__doc__}'
  sys.exit(rows.main(MEASURES, doc, smoke=SMOKE))
