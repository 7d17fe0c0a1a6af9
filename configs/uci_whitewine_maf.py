"""MAF on WHITE-WINE, by the protocol of the released code.

Paper row: the UCI table, WHITE-WINE, MAF; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_whitewine_maf.py --workdir=runs/whitewine
Expected: the mollified arm above the vanilla one at the last epoch; no figure is known here.
Measured: at the last epoch vanilla -15.45 ± 0.58 (1 of 4 not finite), mollified
  -285.42 ± 546.66;
  selected on validation -11.83 ± 0.12 and -12.27 ± 0.79 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv). In each arm one seed gives a test row a density that is next
  to nothing, or nothing in float32; the other three are at -15.1 to -16.1, and -11.9 to -12.3.

Needs config.data.data_dir: a folder with winequality-white.csv or whitewine.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('whitewine', 'maf'), arg)
