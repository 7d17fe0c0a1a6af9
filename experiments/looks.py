"""Looks at the checkpoints that trained runs keep: a stage of its own, of which no table waits.

A look adds records to those of its run, and what it took to its seconds.json (`looking`).
"""
import dataclasses
import functools
import time

from experiments import cell_records, cells, dry_run, estimate, image_cells


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

  def state(self):
    """How far it is, in words: 'done', what is missing, or why nothing is looked at yet."""
    if not self.is_trained():
      return cells.state(self.cell)
    if reason := self.refused():
      return f'to be refused: {reason}'
    left = len(self.missing())
    return f'{left} of {len(self.steps())} checkpoints to look at' if left else 'done'

  def refused(self):
    """Why no record can be added to those that are there, '' where some can."""
    try:
      self.missing()
    except ValueError as error:
      return str(error)
    return ''

  def is_trained(self):
    """Whether the run is of this config and has its last checkpoint."""
    return cells.updates_done(self.cell) == self.cell.config.total_steps

  def steps(self):
    """The updates of its kept checkpoints. What a signal had saved is in no other run's curve."""
    config = self.cell.config
    every = config.checkpoint.keep_every
    return list(range(every, config.total_steps, every)) if every else []

  def missing(self):
    """Those of `steps` that lack a record; no checkpoint is looked for."""
    return [step for step in self.steps() if not self.cell.holds(step, self.wanted)]

  def is_done(self):
    """Whether all records are there."""
    return not self.missing()


def look(own):
  """Measure what a Look lacks; its seconds, or None if there was some of it, or a signal came."""
  from mollification.training import preemption, workdir
  start, steps = time.monotonic(), own.steps()
  fresh = not any(own.cell.holds(step, (one,)) for step in steps for one in own.wanted)
  # A worker that ends on the spot would take the others with it.
  with preemption.Preemption(at_once=False) as stop, workdir.lock(own.cell.folder):
    if not own.cell.measure_at(steps, own.wanted, stop):
      return None
    taken = time.monotonic() - start if fresh else None
    cell_records.write_seconds(own.cell.folder, looking=taken)
  return taken


def of_scale(scale, root, *, data_dir='', smoke=False):
  """[Look] at the runs of the first seed of all tables of a scale, under the folder `root`.

  Of `smoke` runs in the features of their own data set alone: other networks may have no weights.
  """
  found = []
  for name, (table, wanted) in image_cells.watched(scale).items():
    wanted = tuple(own for own in wanted if not (smoke and own.network))
    if wanted:
      cell = image_cells.cell(table, scale, name, root, data_dir=data_dir, smoke=smoke)
      found.append(Look(cell, wanted))
  return found


def listing(todo, device, programs):
  """Lines: each of `todo` [Look] with its state and what it will take on a `dry_run.Device`.

  Samples in the number of a split are not counted, as in the listing of a table. The hours of a
  program, which arms share, go into the dict `programs`, for `dry_run.write`.
  """
  hours, left = hours_of(todo, device), 0.
  for own in todo:
    state = own.state()
    share = 0. if own.refused() else len(own.missing()) / len(own.steps())
    left += share * (hours[own.label] or 0.)
    programs[image_cells.program_of(own.label)] = {'looking_hours': hours[own.label]}
    what = 'not counted' if hours[own.label] is None else f'{hours[own.label]:.2g} h'
    yield f'{own.label}: {state}; samples and their features {what}'
  yield f'looks at {len(todo)} runs, {left:,.2g} h left on {device}; {dry_run.NOT_COUNTED}'


def hours_of(todo, device):
  """{label: hours of samples and their features, None where their number is a split's}."""
  # Arms share what a sample takes.
  configs = {image_cells.program_of(own.label): own.cell.config for own in todo}
  of_sample = functools.cache(lambda program, network: estimate.of_sample(
    configs[program], network, device.accelerator.passes))
  return {own.label: device.hours(len(own.steps()) * sum(
    wanted.num_samples * of_sample(image_cells.program_of(own.label), wanted.network)
    for wanted in own.wanted))
    if all(wanted.network and wanted.num_samples for wanted in own.wanted) else None
    for own in todo}
