"""What the UCI configs share: the protocol of the released tabular code (Tran et al. 2023).

The paper has redwine, whitewine and parkinsons. The others (mollification/data/density_tables.py)
take the same protocol, for which they were not made: nothing is tuned to them.
"""
from configs import default

# Training rows, and updates an epoch in batches of 100 with the last, partial one kept.
_EPOCHS = 150
_TABLES = {'redwine': (1_296, 13), 'whitewine': (3_969, 40), 'parkinsons': (4_760, 48),
           'miniboone': (29_556, 296), 'hepmass': (315_123, 3_152), 'gas': (852_174, 8_522),
           'bsds300': (1_000_000, 10_000), 'power': (1_659_917, 16_600)}
_LARGE = 10_000   # rows, above which one pass over all of them is no small matter


def config(table, model):
  """150 epochs, all of them mollified, one level per epoch; five blocks of hidden width 512.

  Running statistics are of the whole training set, of large ones of 30,000 rows, evenly spread.
  Not locked for good: the caller ends with `default.finish`.
  """
  rows, steps = _TABLES[table]
  config = default.get_config()
  default.set_model(config, model, num_blocks=5, hidden=512)
  config.data.name = table
  config.data.remainder = 'pad'   # the last partial batch is kept
  config.total_steps = _EPOCHS * steps
  config.batch_size = 100
  config.steps_per_call = steps   # one epoch
  config.mollify.fraction = 1.
  config.mollify.granularity = 'epoch'
  config.optimizer.learning_rate = 1e-4
  config.optimizer.weight_decay = 1e-6
  config.eval.refresh_batch_size = rows   # the whole training set, as in the released code
  config.log.every = steps
  config.eval.every = 5 * steps
  config.checkpoint.every = 50 * steps
  if rows > _LARGE:
    config.eval.refresh_examples = config.eval.refresh_batch_size = min(rows, 30_000)
    # A sweep takes the order of the data to the device from one checkpoint to the next.
    config.checkpoint.every = config.eval.every
  return config
