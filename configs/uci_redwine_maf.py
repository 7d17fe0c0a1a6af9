"""MAF on RED-WINE, by the protocol of the released code.

Paper row: the UCI table, RED-WINE, MAF; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_redwine_maf.py --workdir=runs/redwine
Expected: at the last epoch vanilla -15.19, mollified -11.73 (the released code, seed 1).
Measured: at the last epoch vanilla -18.20 ± 2.08, mollified -11.61 ± 0.21;
  selected on validation -10.95 ± 0.10 and -10.53 ± 0.13 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with winequality-red.csv or redwine.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('redwine', 'maf'), arg)
