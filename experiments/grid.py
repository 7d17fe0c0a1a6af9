"""Grids: a table is a list of cells, each a sweep; what has its records is not run again.

A cell lives in a folder: `ARM/SEED/records` of each of its runs, and `checkpoints/`, from which a
cell that was cut goes on. Tables and figures are rendered from the records only.
"""
import dataclasses
import pathlib
import time

import numpy as np

# Updates at which a run is looked at -> metric of its record. The last: of the best test value,
# which nobody who trains a model can know.
SELECTIONS = {'last': 'log_likelihood', 'validation': 'log_likelihood_by_validation',
              'oracle': 'log_likelihood_oracle'}


@dataclasses.dataclass(frozen=True)
class Cell:
  """Runs that are trained as one sweep: {(arm, seed): config}, `folder`, and what it is called."""
  label: str
  folder: pathlib.Path
  runs: dict


def missing(cell):
  """Whether a run of the cell lacks a record; ValueError where a record is of another config."""
  from mollification.evaluation import records
  from mollification.training import workdir
  lacks = False
  for (arm, seed), config in cell.runs.items():
    folder = cell.folder / arm / str(seed) / 'records'
    found = {r.metric: r for r in records.read_all(folder)} if folder.is_dir() else {}
    wanted = workdir.identity(config.to_dict())
    for record in found.values():
      if record.config_sha256 != wanted:
        raise ValueError(f'{folder} holds a {record.metric} of another config '
                         f'({record.config_sha256[:8]}, this one is {wanted[:8]}); move it away.')
    lacks |= not set(SELECTIONS.values()) <= found.keys()
  return lacks


def train(cell):
  """Train the sweep of a cell, from where it was cut, and write its records.

  Returns {'seconds', 'core_seconds'}, those of the clock and of the processor, which count what
  else the machine did and do not; None where it had been begun before.
  """
  from mollification import build, metrics
  from mollification.training import preemption, sweep, workdir
  start, configs = _clocks(), list(cell.runs.values())
  with preemption.Preemption() as stop, workdir.lock(cell.folder):
    fresh = not (cell.folder / 'config.json').exists()
    workdir.claim(cell.folder, {f'{arm} {seed}': workdir.identity(config.to_dict())
                                for (arm, seed), config in cell.runs.items()})
    dataset = build.load_data(configs[0])
    made = build.build_sweep(configs, dataset)
    stop.armed = True
    shown = metrics.Progress(made.levels.shape[1], label=f'{cell.label}: ', unit='evaluations')
    done = sweep.train(made, cell.folder / 'checkpoints', stop=stop,
                       progress=lambda count, _: shown.show(count, force=True))
    shown.close()
    if done is None:
      return None
    taken = {name: round(now - start[name]) for name, now in _clocks().items()}
    for i, (arm, seed) in enumerate(cell.runs):
      curves = {name: curve[i] for name, curve in done[1].items()}
      _write(cell.folder / arm / str(seed) / 'records', configs[i], dataset, curves,
             taken['seconds'] / len(configs))
  return taken if fresh else None


def _clocks():
  return {'seconds': time.monotonic(), 'core_seconds': time.process_time()}


def chosen(curves):
  """{selection: index of the evaluation that it takes} of curves {name: [P]}."""
  finite = {name: np.where(np.isfinite(curve), curve, -np.inf) for name, curve in curves.items()}
  return {'last': len(curves['test']) - 1, 'validation': int(finite['validation'].argmax()),
          'oracle': int(finite['test'].argmax())}


def _write(folder, config, dataset, curves, seconds):
  from mollification.evaluation import records
  from mollification.training import workdir
  test, every = dataset.test, config.eval.every
  for selection, i in chosen(curves).items():
    extra = {'evaluation': i, 'skipped': float(curves['skipped'][i])}
    if selection == 'last':
      extra['curves'] = {name: [round(float(v), 4) for v in curves[name]]
                         for name in ('validation', 'test', 'loss')} | {'updates_between': every}
    records.write(records.Record(
      metric=SELECTIONS[selection], value=float(curves['test'][i]),
      standard_error=float(curves['test_sem'][i]), n=test.num_examples, unit='nats',
      reference={'dataset': dataset.name, 'split': 'test', 'n': test.num_examples,
                 'sha256': test.sha256},
      params='raw', step=(i + 1) * every, seed=config.seed, exact=True, seconds=seconds,
      config_sha256=workdir.identity(config.to_dict()), extra=extra), folder)


def read(folder):
  """{(arm, seed): {selection: Record}} of a cell's records; runs that lack one are left out."""
  from mollification.evaluation import records
  names = {metric: selection for selection, metric in SELECTIONS.items()}
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*/*/records')):
    run = {names[r.metric]: r for r in records.read_all(path) if r.metric in names}
    if len(run) == len(names):
      found[path.parts[-3], int(path.parts[-2])] = run
  return found
