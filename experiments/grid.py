"""Grids: a table is a list of cells, each a sweep; what has its records is not run again.

A cell lives in a folder: `ARM/SEED/records` of each of its runs, and `checkpoints/`, from which a
cell that was cut goes on. Tables and figures are rendered from the records only.
"""
import dataclasses
import json
import math
import pathlib
import shutil
import time
from collections.abc import Callable

import numpy as np

from experiments import cells
from mollification import files

# Updates at which a run is looked at -> metric of its record. The last: of the best test value,
# which nobody who trains a model can know.
SELECTIONS = {'last': 'log_likelihood', 'validation': 'log_likelihood_by_validation',
              'oracle': 'log_likelihood_oracle'}


@dataclasses.dataclass(frozen=True)
class Cell:
  """Runs that are trained as one sweep: {(arm, seed): config}, `folder`, and what it is called.

  `observe` is that of `build_sweep`; `derive` makes more of what it saw, on the host: {name: [P,
  ...]} of one run -> the same. Of both, what `units` names ({name: unit}) becomes a record, as it
  is at the last update; arrays that `keep` names are kept for seed 0 in `ARM/0/observed.npz`.
  """
  label: str
  folder: pathlib.Path
  runs: dict
  observe: Callable | None = None
  derive: Callable | None = None
  units: dict = dataclasses.field(default_factory=dict)
  keep: tuple = ()

  @property
  def config(self):
    """That of its first run; others have another seed and other levels."""
    return next(iter(self.runs.values()))

  @property
  def checkpoint_unit(self):
    """Updates that the number of a checkpoint counts: those between evaluations."""
    return self.config.eval.every

  def claimed(self):
    """{run: identity of its config} that its folder is held to."""
    from mollification.training import workdir
    return {f'{arm} {seed}': workdir.identity(config.to_dict())
            for (arm, seed), config in self.runs.items()}

  def is_run(self, kept):
    """Whether the claim `kept`, of what is in its folder, is of these runs."""
    return kept == self.claimed()

  def is_done(self):
    """Whether all runs have their records, and what is kept of them; errors of `missing`."""
    return not missing(self)


def missing(cell):
  """Whether a run of the cell lacks a record, or what it keeps.

  ValueError where a record is of another config, or a run of none of the cell's.
  """
  from mollification.evaluation import records
  from mollification.training import workdir
  lacks = False
  others = sorted({path.parent.relative_to(cell.folder).as_posix()
                   for path in cell.folder.glob('*/*/records')}
                  - {f'{arm}/{seed}' for arm, seed in cell.runs})
  if others:
    raise ValueError(f'{cell.folder} holds {others[0]}, which is no run of this cell; give as many '
                     '--seeds, or move it away.')
  for (arm, seed), config in cell.runs.items():
    folder = cell.folder / arm / str(seed) / 'records'
    found = {r.metric: r for r in records.read_all(folder)} if folder.is_dir() else {}
    wanted = workdir.identity(config.to_dict())
    for record in found.values():
      if record.config_sha256 != wanted:
        raise ValueError(f'{folder} holds a {record.metric} of another config '
                         f'({record.config_sha256[:8]}, this one is {wanted[:8]}); move it away.')
    lacks |= not {*SELECTIONS.values(), *cell.units} <= found.keys()
    lacks |= bool(cell.keep) and seed == 0 and not (folder.parent / 'observed.npz').exists()
  return lacks


def train(cell):
  """Train the sweep of a cell, from where it was cut, and write its records.

  Returns `cells.Taken`, which stands in its time.json too; None where it had been begun before.
  """
  from mollification import build, build_sweep, metrics
  from mollification.training import preemption, sweep, workdir
  start, began, configs = time.monotonic(), time.process_time(), list(cell.runs.values())
  # A worker that ends on the spot would take the others with it.
  with preemption.Preemption(at_once=False) as stop, workdir.lock(cell.folder):
    if cell.is_done():   # another process was at it
      return None
    fresh = not (cell.folder / 'config.json').exists()
    workdir.check(cell.folder, cell.claimed())
    dataset = build.load_data(configs[0])
    made = build_sweep.build_sweep(configs, dataset, cell.observe)
    workdir.claim(cell.folder, cell.claimed(), build.summaries(dataset))
    if stop.requested:
      return None
    shown = metrics.Progress(made.levels.shape[1], label=f'{cell.label}: ', unit='evaluations')
    done = sweep.train(made, cell.folder / 'checkpoints', stop=stop,
                       progress=lambda count, _: shown.show(count, force=True))
    shown.close()
    if done is None:
      return None
    # Of one that was cut and goes on here nobody knows what it took.
    taken = cells.Taken(round(time.monotonic() - start),
                        round(time.process_time() - began)) if fresh else None
    for i, (arm, seed) in enumerate(cell.runs):
      curves = {name: curve[i] for name, curve in done[1].items()}
      curves |= cell.derive(curves) if cell.derive else {}
      folder = cell.folder / arm / str(seed)
      seconds = taken.seconds / len(configs) if taken else math.nan
      _write(folder, configs[i], dataset, curves, cell.units, seconds)
      if cell.keep and seed == 0:
        _keep(folder / 'observed.npz', {name: curves[name] for name in cell.keep})
    if taken:
      with files.replacing(cell.folder / 'time.json') as part:
        part.write_text(json.dumps(taken._asdict()) + '\n')
  return taken


def _keep(path, arrays):
  """Write arrays as float16; the file is whole or not there."""
  with files.replacing(path) as part, part.open('wb') as file:
    np.savez_compressed(file, **{name: a.astype(np.float16) for name, a in arrays.items()})


def check_files(wanted):
  """Raise FileNotFoundError where a table is missing that a cell is trained on.

  All that is missing is named at once, before hours have gone into the first cells.
  """
  from mollification.data import density_tables, tabular
  places = {**dict.fromkeys(tabular.TABLES, tabular.missing),
            **dict.fromkeys(density_tables.LOADERS, density_tables.missing)}
  tables = dict.fromkeys((config.data.name, config.data.data_dir) for cell in wanted
                         for config in cell.runs.values() if config.data.name in places)
  lost = [text for text in (places[name](name, folder) for name, folder in tables) if text]
  if lost:
    raise FileNotFoundError(f'{"; ".join(lost)}. Name the folder with --data_dir=DIR; nothing is '
                            'trained before all files are there.')


def record(wanted, results):
  """Copy what finished cells have written, but checkpoints, to the committed folder `results`.

  Raises ValueError, before anything is copied, where a run is recorded there that a cell has not,
  or has of another config.
  """
  for cell in wanted:
    _check_recorded(cell, results / cell.label)
  for cell in wanted:
    with files.replacing_folder(results / cell.label) as part:
      for path in sorted([*cell.folder.glob('*/*/records/*.json'), *cell.folder.glob('time.json'),
                          *cell.folder.glob('*/0/observed.npz')]):
        place = part / path.relative_to(cell.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _check_recorded(cell, target):
  new = read(cell.folder)
  for (arm, seed), found in read(target).items():
    if (arm, seed) not in new:
      raise ValueError(f'{target} has a run {arm}/{seed}, which {cell.folder} has not; give as '
                       'many --seeds, or move the record away.')
    old, own = (run['last'].config_sha256 for run in (found, new[arm, seed]))
    if old != own:
      raise ValueError(f'{target / arm / str(seed)} is the record of another config ({old[:8]}, '
                       f'this one is {own[:8]}); move it away to record {cell.folder}.')


def core_seconds(folder):
  """What a cell took of a core, None of one that was cut, or is not there."""
  path = pathlib.Path(folder) / 'time.json'
  try:
    return json.loads(path.read_text())['core_seconds'] if path.exists() else None
  except (ValueError, KeyError) as error:
    raise ValueError(f'{path} is damaged ({error!r}); remove it, and the cell counts as one that '
                     'was not timed.') from error


def time_taken(root, labels):
  """What the cells took that were not cut, in a sentence."""
  times = [taken for label in labels
           if (taken := core_seconds(pathlib.Path(root) / label)) is not None]
  return (f'{len(times)} of {len(labels)} sweeps, those that were timed in one go, took '
          f'{sum(times) / 60:.0f} minutes of a core.')


def recorded(folder, labels):
  """Those of `labels` of which `folder` has the records, of whole cells."""
  return [label for label in labels if read(pathlib.Path(folder) / label)]


def chosen(curves):
  """{selection: index of the evaluation that it takes} of curves {name: [P]}."""
  finite = {name: np.where(np.isfinite(curves[name]), curves[name], -np.inf)
            for name in ('validation', 'test')}
  return {'last': len(curves['test']) - 1, 'validation': int(finite['validation'].argmax()),
          'oracle': int(finite['test'].argmax())}


def _write(folder, config, dataset, curves, units, seconds):
  """The records of a run below `folder`."""
  from mollification.evaluation import records
  from mollification.training import workdir
  test, every = dataset.test, config.eval.every
  numbers = {name: [float(f'{v:.6g}') for v in curve] for name, curve in curves.items()
             if curve.ndim == 1 and name not in ('test_sem', 'skipped')}
  write = lambda **fields: records.write(records.Record(
    n=test.num_examples, params=config.eval.params, seed=config.seed, seconds=seconds,
    reference={'dataset': dataset.name, 'split': 'test', 'n': test.num_examples,
               'sha256': test.sha256},
    config_sha256=workdir.identity(config.to_dict()), **fields), folder / 'records')
  for name, unit in units.items():
    write(metric=name, value=float(curves[name][-1]), standard_error=None, unit=unit,
          step=len(curves[name]) * every)
  for selection, i in chosen(curves).items():
    extra = {'evaluation': i, 'skipped': float(curves['skipped'][i])}
    if selection == 'last':
      extra['curves'] = numbers | {'updates_between': every}
    write(metric=SELECTIONS[selection], value=float(curves['test'][i]),
          standard_error=float(curves['test_sem'][i]), unit='nats', step=(i + 1) * every,
          exact=True, extra=extra)


def read(folder):
  """{(arm, seed): {selection: Record}} of a cell's records; runs that lack one are left out.

  None of a workdir where a run of the cell is left out, since that was killed as it wrote them.
  Raises ValueError where two records are of one metric.
  """
  from mollification.evaluation import records
  from mollification.training import workdir
  names = {metric: selection for selection, metric in SELECTIONS.items()}
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*/*/records')):
    own = [r for r in records.read_all(path) if r.metric in names]
    run = {names[r.metric]: r for r in own}
    if len(own) > len(run):
      raise ValueError(f'{path} holds more than one record of a metric; move all but one away.')
    if len(run) == len(names):
      found[path.parts[-3], int(path.parts[-2])] = run
  claimed = workdir.read_config(folder) or {}   # of what is committed nothing says it
  return found if claimed.keys() <= {f'{arm} {seed}' for arm, seed in found} else {}
