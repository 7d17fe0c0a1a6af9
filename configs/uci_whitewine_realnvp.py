"""RealNVP on WHITE-WINE, by the protocol of the released code.

Paper row: the UCI table, WHITE-WINE, RealNVP; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_whitewine_realnvp.py --workdir=runs/whitewine
Expected: the mollified arm above the vanilla one at the last epoch; no figure is known here.
Measured: at the last epoch vanilla -16.49 ± 0.94, mollified -12.20 ± 0.14;
  selected on validation -11.93 ± 0.23 and -12.16 ± 0.11 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with winequality-white.csv or whitewine.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('whitewine', 'realnvp_tabular'), arg)
