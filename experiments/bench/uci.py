"""Sweeps of the UCI table: python -m experiments.bench.uci [--json] [--only=...] [--smoke]

Needs the `bench` extra (torch, nflows, flowjax). Both sides of a ratio run on the cores that this
process may use, in turn; a ratio above 1 is better than the reference. The table is random, of
RED-WINE's shape, so that nobody needs its file.

maf_torch, realnvp_torch, glow_torch (bars 2.0, 1.3, 1.3), maf_flowjax (1.2)
    A sweep of one vanilla and one mollified run of configs/uci_redwine_*.py, five epochs of each
    with the evaluation that follows on validation and test data under statistics of all training
    data, against the loop in PyTorch, and FlowJAX's step, that `bench.flows` has: as many updates,
    then the same evaluation (FlowJAX's flow has no statistics), for each run.
seeds (bar .97)
    Four runs in one program against one, per run: the cost of seeds grows at most linearly, but for
    the clock's own spread.
compile_seeds (bar .8)
    The time that the first call of each takes beyond the second: it does not grow with the seeds.
table (bar 1)
    Minutes by the clock of the complete table on two cores, against the 110 that it may take. They
    are not taken here: they are those of the command that was recorded last, in
    experiments/results/uci/clock.json, if that trained the nine cells of the paper in one go.
smoke (bar 1)
    Seconds of `python -m experiments.uci --smoke`, nothing compiled before, on random tables of the
    shapes of the three, against the two minutes that it may take.
"""
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from configs import uci_redwine_glow, uci_redwine_maf, uci_redwine_realnvp
from experiments import uci
from experiments.bench import flows_tabular, rows
from mollification import build_sweep, parallel
from mollification.data import dataset, tabular
from mollification.training import sweep

CONFIGS = {'maf': uci_redwine_maf, 'realnvp': uci_redwine_realnvp, 'glow': uci_redwine_glow}
BARS = {'maf': 2., 'realnvp': 1.3, 'glow': 1.3}
SIZES = {'train': 1_296, 'validation': 144, 'test': 159}
EPOCHS = 5   # between two evaluations
SMOKE_SECONDS = 120.
ROOT = pathlib.Path(__file__).parents[2]
CLOCK = uci.RESULTS / 'clock.json'


def _tables():
  """Random rows [n, D] of each of `SIZES`."""
  rng = np.random.default_rng(0)
  return [rng.normal(size=(n, flows_tabular.SIZE)).astype(np.float32) for n in SIZES.values()]


def _table():
  return dataset.Dataset('redwine', *map(dataset.Split, SIZES, _tables()))


def _sweep(name, fractions, hidden):
  """(() -> None: `EPOCHS` epochs and an evaluation of a run per entry of `fractions`, updates)."""
  configs = [CONFIGS[name].get_config(f'model.hidden={hidden},mollify.fraction={f},seed={i}')
             for i, f in enumerate(fractions)]
  made = build_sweep.build_sweep(configs, _table())
  call = parallel.pmap_runs(sweep._period(made))
  indices, mask = made.order(0, 1)
  states = made.create_states()

  def run():
    jax.block_until_ready(call(made.data, mask, states, made.keys, made.levels[:, :1], indices))

  return run, configs[0].eval.every


def torch_sweep(name, bar, hidden=512, seconds=60.):
  """Milliseconds an update against PyTorch."""
  ours, count = _sweep(name, (0., 1.), hidden)
  label = name if name == 'maf' else f'{name}_tabular'
  kind, one = flows_tabular.torch_loop(label, hidden, count, _tables())
  return [_row(f'{name}_torch', kind, _against(one, ours, seconds), count, bar)]


def flowjax_sweep(hidden=512, seconds=60.):
  """Milliseconds an update of the MAF against FlowJAX."""
  ours, count = _sweep('maf', (0., 1.), hidden)
  one = flows_tabular.flowjax_loop(hidden, count, _tables()[1:])
  return [_row('maf_flowjax', 'FlowJAX', _against(one, ours, seconds), count, 1.2)]


def _against(one, ours, seconds):
  """Pairs of one run of theirs after the other, and of ours together."""
  return rows.interleaved(lambda: (one(), one()), ours, 5, seconds=seconds)


def seeds(hidden=512):
  """Seconds a run of four against one alone, and what the first call costs."""
  timed, first = {}, {}
  for count in (1, 4):
    run, _ = _sweep('realnvp', (.5,) * count, hidden)
    start = time.perf_counter()
    run()
    first[count] = time.perf_counter() - start
    timed[count] = run
  pairs = rows.interleaved(timed[1], timed[4], 5)
  compiled = [first[1] - pairs.a, first[4] - pairs.b]
  return [
    rows.Row('seeds', pairs.b / 4, 's/run', f'one run alone, {pairs.words}', pairs.a,
             4 * pairs.ratio, .97, True),
    rows.Row('compile_seeds', compiled[1], 's', 'one run alone', compiled[0],
             compiled[0] / compiled[1], .8, True)]


def table():
  """Minutes of the whole table against `uci.MINUTES`; ValueError where they are of other cells."""
  clock = json.loads(CLOCK.read_text())
  if clock['cells'] != sorted(uci.names()):
    raise ValueError(f'{CLOCK} is of {len(clock["cells"])} cells, not of the {len(uci.names())} of '
                     'the table: record a run of python -m experiments.uci that trains them all.')
  minutes = clock['seconds'] / 60
  return [rows.Row('table', minutes, 'min', f'the allowed minutes; {clock["workers"]} processes, '
                   f'{clock["core_seconds"] / 60 / clock["workers"]:.0f} of each core, as recorded',
                   uci.MINUTES, uci.MINUTES / minutes, 1., True)]


def smoke(*flags):
  """Seconds of the command with --smoke, and with `flags`, against `SMOKE_SECONDS`."""
  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory() as folder:
    for name, table in tabular.TABLES.items():
      np.save(pathlib.Path(folder) / f'{name}.npy',
              rng.normal(size=(table.num_rows, len(table.columns))))
    command = [sys.executable, '-m', 'experiments.uci', '--smoke', f'--data_dir={folder}',
               f'--workdir={folder}/run', *flags]
    seconds = rows.seconds_of(lambda: subprocess.run(command, cwd=ROOT, check=True,
                                                     stdout=subprocess.DEVNULL))
  return [rows.Row('smoke', seconds, 's', 'the allowed time', SMOKE_SECONDS,
                   SMOKE_SECONDS / seconds, 1., True)]


def _row(name, reference, timed, count, bar):
  return rows.Row(name, 1e3 * timed.b / (2 * count), 'ms/update',
                  f'{reference}, 2 x {count} updates each, evaluation included, {timed.words}',
                  1e3 * timed.a / (2 * count), timed.ratio, bar, True)


_TIMED = {**{f'{name}_torch': functools.partial(torch_sweep, name, bar)
             for name, bar in BARS.items()}, 'maf_flowjax': flowjax_sweep, 'seeds': seeds}
MEASURES = {**_TIMED, 'table': table, 'smoke': smoke}
SMOKE = {**{name: functools.partial(measure, hidden=16) for name, measure in _TIMED.items()},
         'table': table, 'smoke': functools.partial(smoke, '--cells=redwine_maf')}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
