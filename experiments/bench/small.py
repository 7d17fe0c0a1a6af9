"""Updates of the seven small models of each small data set: what mollifying adds to one.

  python -m experiments.bench.small [--json] [--only=DATASET/MODEL,...]

Minutes on an idle core; the record, which the pages of results and of speed show, is made by
`taskset -c 0 python -m experiments.bench.small --json > experiments/results/bench/small.jsonl`.

Each arm's update is that which `build` makes of the cell of `experiments.table1 --scale=cpu`, at
level 0.5 where the arm is mollified, on random images; the reference is the same with `identity`.
(The arm `vanilla` has the program of `gaussian`, at level 0.) All are called in turn, one update
each, in an order that rotates from round to round. DATASET/MODEL_ARM is the median of an arm's
updates beside that of the reference, with the median of the ratios; what ends with _more the median
of what it takes more, its reference the standard error of that median.
"""
import functools
import statistics
import sys

import numpy as np

from experiments import image_cells
from experiments.bench import rows, step
from mollification import build, data, parallel

GRIDS, REFERENCE = image_cells.TABLES['table1']['cpu'], 'identity'
ROUNDS = 21


def measure(name, **changes):
  """Rows of each arm of DATASET/MODEL; `changes` are keys of its config."""
  dataset, model = name.split('/')
  arms = GRIDS[dataset].arms
  calls = calls_of(dataset, model, changes, (REFERENCE, *arms))
  taken, names = {arm: [] for arm in calls}, list(calls)
  for call in calls.values():   # the first compiles
    call()
  for i in range(rows.or_one(ROUNDS)):
    first = i % len(names)
    for arm in names[first:] + names[:first]:
      taken[arm].append(1e3 * rows.seconds_of(calls[arm]))
  return [row for arm in arms for row in _rows(f'{dataset}/{model}_{arm}', taken[arm],
                                               taken[REFERENCE])]


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


def calls_of(dataset, model, changes, arms):
  """{arm: call of one update} of a model, of `arms`, of which `REFERENCE` may be one."""
  event_shape, _, levels = data.spec(dataset)
  found = {}
  for name in arms:
    config = image_cells.config_of(GRIDS[dataset], dataset, model,
                                   'vanilla' if name == REFERENCE else name, 0)
    config.update_from_flattened_dict({**changes, 'steps_per_call': 1})
    if name == REFERENCE:
      config.mollify.name = REFERENCE
    level = np.float32(step.LEVEL if config.mollify.fraction else 0.)
    shape = config.batch_size, *event_shape
    batch = np.random.default_rng(0).integers(0, levels, shape, dtype=np.uint8)
    state = build.create_state(config, batch, levels, level)
    found[name] = step.calls(build.train_step(config, event_shape, levels), 1, state,
                             parallel.shard(batch, axis=0), level)
  return found


NAMES = [f'{dataset}/{model}' for dataset, grid in GRIDS.items() for model in grid.models]
MEASURES = {name: functools.partial(measure, name) for name in NAMES}
SMOKE = {name: functools.partial(measure, name, batch_size=8) for name in NAMES}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
