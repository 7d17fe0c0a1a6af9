"""RealNVP on RED-WINE, by the protocol of the released code.

Paper row: the UCI table, RED-WINE, RealNVP; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_redwine_realnvp.py --workdir=runs/redwine
Expected: at the last epoch vanilla -26.27, mollified -13.70 (the released code, seed 1).
Measured: at the last epoch vanilla -35.13 ± 10.34, mollified -12.89 ± 0.31;
  selected on validation -11.33 ± 0.22 and -10.62 ± 0.12 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with winequality-red.csv or redwine.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('redwine', 'realnvp_tabular'), arg)
