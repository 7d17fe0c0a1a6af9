"""GLOW on PARKINSONS, by the protocol of the released code.

Paper row: the UCI table, PARKINSONS, GLOW; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_parkinsons_glow.py --workdir=runs/parkinsons
Expected: the mollified arm above the vanilla one at the last epoch; no figure is known here.
Measured: at the last epoch vanilla -8.29 ± 0.72, mollified -6.70 ± 0.21;
  selected on validation -5.81 ± 0.12 and -6.88 ± 0.19 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with parkinsons_updrs.data or parkinsons.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('parkinsons', 'glow_tabular'), arg)
