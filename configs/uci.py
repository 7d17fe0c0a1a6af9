"""What the nine UCI configs share: the protocol of the released tabular code (Tran et al. 2023)."""
from configs import default

# Training rows, and updates an epoch in batches of 100 with the last, partial one kept.
_EPOCHS = 150
_TABLES = {'redwine': (1_296, 13), 'whitewine': (3_969, 40), 'parkinsons': (4_760, 48)}


def config(table, model):
  """150 epochs, all of them mollified, one level per epoch; five blocks of hidden width 512.

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
  return config
