"""Running statistics that an evaluation takes anew: of which examples they are."""
import dataclasses

import jax
import numpy as np
import pytest

from configs import synthetic_realnvp
from mollification import build


@pytest.mark.parametrize(('examples', 'batch'), [(120, 50), (700, 700), (10_000, 300)])
def test_rows_in_order_are_taken_from_all_over_the_training_set(examples, batch):
  """The first BatchNorm sees x, half of which a coupling leaves as it is; 1,000 rows are sorted."""
  config = synthetic_realnvp.get_config(
    f'data.num_train=1000,model.num_blocks=1,model.hidden=4,eval.refresh_examples={examples},'
    f'eval.refresh_batch_size={batch}')
  dataset = build.load_data(config)
  rows = dataset.train.x[np.argsort(dataset.train.x[:, 1])]
  dataset = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, x=rows))
  state = build.build(config, dataset).create_state()
  stats = build.build_evaluation(config, dataset).variables(state)['batch_stats']
  mean, var = (next(np.asarray(v)[1] for path, v in jax.tree_util.tree_leaves_with_path(stats)
                    if name in str(path)) for name in ('mean', 'var'))
  assert (mean, var) == pytest.approx((rows[:, 1].mean(), rows[:, 1].var()), rel=.02, abs=.05)
