"""Looks at the checkpoints that trained runs keep: a stage of its own, of which no table waits.

A look adds records to those of its run, and what it took to its seconds.json (`looking`).
"""
import dataclasses
import functools
import time

from experiments import cell_records, cells, dry_run, estimate, image_cells

SEED = '0'   # of the runs that are looked at


@dataclasses.dataclass(frozen=True)
class Look:
  """What is `wanted` [cell_records.InFeatures] of every kept checkpoint but the last of a run."""
  cell: cells.Cell
  wanted: tuple

  @property
  def label(self):
    """That of the run."""
    return self.cell.label

  @property
  def networks(self):
    """What is measured in features of networks [cell_records.InFeatures]."""
    return self.wanted

  def is_trained(self):
    """Whether the run is of this config and has its last checkpoint."""
    cell = self.cell
    return cells.is_of(cell) is True and cells.updates_done(cell) == cell.config.total_steps

  def steps(self):
    """The updates of its kept checkpoints. What a signal had saved is in no other run's curve."""
    config = self.cell.config
    every = config.checkpoint.keep_every
    return list(range(every, config.total_steps, every)) if every else []

  def is_done(self):
    """Whether all records are there; no checkpoint is looked for."""
    return all(self.cell.holds(step, self.wanted) for step in self.steps())


def look(own):
  """Measure what a Look lacks; its seconds, or None if there was some of it, or a signal came."""
  from mollification.training import preemption, workdir
  start, fresh = time.monotonic(), not any(own.cell.holds(step, own.wanted)
                                           for step in own.steps())
  with preemption.Preemption() as stop, workdir.lock(own.cell.folder):
    stop.armed = True   # a worker that ends on the spot would take the others with it
    if not own.cell.measure_at(own.steps(), own.wanted, stop):
      return None
    taken = time.monotonic() - start if fresh else None
    cell_records.write_seconds(own.cell.folder, looking=taken)
  return taken


def of_scale(scale, root, *, data_dir=''):
  """[Look] at the runs of the first seed of all tables of a scale, under the folder `root`."""
  found = {}
  for table, scales in image_cells.TABLES.items():
    for name in image_cells.names(table, scale) if scale in scales else ():
      wanted = scales[scale][name.split('/')[0]].over_training
      if wanted and name.endswith(f'/{SEED}'):   # several tables may name it
        found[name] = Look(image_cells.cell(table, scale, name, root, data_dir=data_dir), wanted)
  return list(found.values())


def listing(todo, device):
  """Lines: each of `todo` [Look] with its state, and the hours of looks on a `dry_run.Device`."""
  passes, whole = device.accelerator.passes, 0.
  configs = {_program(own): own.cell.config for own in todo}   # arms share what a sample takes
  of_sample = functools.cache(
    lambda program, network: estimate.of_sample(configs[program], network, passes))
  for own in todo:
    steps = own.steps()
    # Samples in the number of a split are not counted, as in the listing of a table.
    hours = device.hours(len(steps) * sum(
      wanted.num_samples * of_sample(_program(own), wanted.network)
      for wanted in own.wanted if wanted.network and wanted.num_samples))
    whole += hours
    measured = sum(own.cell.holds(step, own.wanted) for step in steps)
    state = (f'{measured} of {len(steps)} checkpoints measured' if own.is_trained()
             else 'not trained yet')
    yield f'{own.label}: {state}; {hours:.2g} h'
  yield f'{len(todo)} runs, {whole:,.2g} h in all on {device}; {dry_run.NOT_COUNTED}'


def _program(own):
  return own.label.rsplit('/', 2)[0]
