"""RealNVP on PARKINSONS, by the protocol of the released code.

Paper row: the UCI table, PARKINSONS, RealNVP; test log-likelihood in nats.
Command:
  python -m mollification.main --config=configs/uci_parkinsons_realnvp.py --workdir=runs/parkinsons
Expected: the mollified arm above the vanilla one at the last epoch; no figure is known here.
Measured: at the last epoch vanilla -15.05 ± 0.75, mollified -7.53 ± 0.69;
  selected on validation -5.50 ± 0.45 and -7.28 ± 0.53 (mean ± sd of 4 seeds;
  experiments/results/uci/table.csv).

Needs config.data.data_dir: a folder with parkinsons_updrs.data or parkinsons.npy.
The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('parkinsons', 'realnvp_tabular'), arg)
