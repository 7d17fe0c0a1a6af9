"""GLOW on RED-WINE, by the protocol of the released code.

Paper row: the UCI table, RED-WINE, GLOW; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_redwine_glow.py --workdir=runs/redwine
Expected: at the last epoch vanilla -17.98, mollified -12.12 (the released code, seed 1).
Measured: at the last epoch vanilla -17.62 ± 0.97, mollified -12.04 ± 0.63;
  selected on validation -10.54 ± 0.27 and -10.54 ± 0.18 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with winequality-red.csv or redwine.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('redwine', 'glow_tabular'), arg)
