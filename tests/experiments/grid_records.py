"""Records of a run of a grid's cell, made by hand, as `grid.train` leaves them."""
import numpy as np

from experiments import grid
from mollification.data.dataset import Split
from tests.training import tiny


class _Data:
  """What `grid` writes of a data set into a record."""
  name, test = 'two_gaussians', Split('test', np.zeros((5, 2), np.float32))


def write(folder, seed, *, test, validation, config=None, **observed):
  """Records of a run below `folder`: of curves [P], the others of which may be one number."""
  config = config or tiny.config(seed=seed)
  curves = {'test': test, 'validation': validation, 'test_sem': np.full(len(test), .1),
            'skipped': np.zeros(len(test)), **observed}
  curves = {name: np.broadcast_to(np.asarray(curve, float), (len(test),))
            for name, curve in curves.items()}
  grid._write(folder, config, _Data, curves, dict.fromkeys(observed, '1'), 1.)
