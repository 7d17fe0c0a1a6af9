"""GLOW on MINIBOONE, by the protocol of the released code.

Paper row: none; the data set is one of those of Papamakarios et al. 2017 (arXiv 1705.07057).
Command:
  python -m mollification.main --config=configs/uci_miniboone_glow.py --workdir=runs/miniboone
Expected: none.
Measured: not yet.

Needs config.data.data_dir: a folder with miniboone/data.npy;
see mollification/data/density_tables.py. The vanilla arm is `:mollify.fraction=0.`.
"""
from configs import default, uci


def get_config(arg=''):
  """See `configs/uci.py`."""
  return default.finish(uci.config('miniboone', 'glow_tabular'), arg)
