"""Updates of the seven small models at the shape of Fashion-MNIST: what mollifying adds to one.

  python -m experiments.bench.small [--json] [--only=MODEL,...]

Minutes on an idle core; the record, which the pages of results and of speed show, is made by
`taskset -c 0 python -m experiments.bench.small --json > experiments/results/bench/small.jsonl`.

Each arm's update is that which `build` makes of the cell of `experiments.table1 --scale=cpu`, at
level 0.5 where the arm is mollified, on random images; the reference is the same with `identity`.
(The arm `vanilla` has the program of `gaussian`, at level 0.) All four are called in turn, one
update each, in an order that rotates from round to round. MODEL_ARM is the median of an arm's
updates beside that of the reference, with the median of the ratios; MODEL_ARM_more the median of
what it takes more, its reference the standard error of that median.
"""
import functools
import statistics
import sys

import numpy as np

from experiments import image_cells
from experiments.bench import rows, step
from mollification import build, data, parallel

DATASET, REFERENCE = 'fashion_mnist', 'identity'
ARMS = ('vanilla', 'gaussian', 'blur')
ROUNDS = 21


def measure(model, **changes):
  """Rows of each arm of a model; `changes` are keys of its config."""
  calls = calls_of(model, changes, (REFERENCE, *ARMS))
  taken, names = {name: [] for name in calls}, list(calls)
  for call in calls.values():   # the first compiles
    call()
  for i in range(rows.or_one(ROUNDS)):
    first = i % len(names)
    for name in names[first:] + names[:first]:
      taken[name].append(1e3 * rows.seconds_of(calls[name]))
  return [row for arm in ARMS for row in _rows(f'{model}_{arm}', taken[arm], taken[REFERENCE])]


def _rows(name, own, reference):
  """Rows of an arm, of its milliseconds and those of the reference, by round."""
  more = [a - b for a, b in zip(own, reference, strict=True)]
  ratio = statistics.median(b / a for a, b in zip(own, reference, strict=True))
  return [
    rows.Row(name, statistics.median(own), 'ms/update', f'{REFERENCE}, {len(own)} rounds',
             statistics.median(reference), ratio, None, True),
    rows.Row(f'{name}_more', statistics.median(more), 'ms/update', 'its standard error',
             error_of_median(more), None, None, True)]


def error_of_median(values):
  """Standard error of a median, as of a normal law whose sd is 1.4826 of the absolute deviation."""
  middle = statistics.median(values)
  deviation = 1.4826 * statistics.median(abs(value - middle) for value in values)
  return 1.2533 * deviation / len(values) ** .5


def calls_of(model, changes, arms):
  """{arm: call of one update} of a model, of `arms`, of which `REFERENCE` may be one."""
  event_shape, _, levels = data.spec(DATASET)
  grid, found = image_cells.TABLES['table1']['cpu'][DATASET], {}
  for name in arms:
    config = image_cells.config_of(grid, DATASET, model, 'vanilla' if name == REFERENCE else name,
                                   0)
    config.update_from_flattened_dict({**changes, 'steps_per_call': 1})
    if name == REFERENCE:
      config.mollify.name = REFERENCE
    level = np.float32(step.LEVEL if config.mollify.fraction else 0.)
    shape = config.batch_size, *event_shape
    batch = np.random.default_rng(0).integers(0, levels, shape, dtype=np.uint8)
    state = build.create_state(config, batch, levels, level)
    found[name] = step._calls(build.train_step(config, event_shape, levels), 1, state,
                              parallel.shard(batch, axis=0), level)
  return found


MEASURES = {model: functools.partial(measure, model) for model in image_cells.MODELS}
SMOKE = {model: functools.partial(measure, model, batch_size=8) for model in image_cells.MODELS}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
