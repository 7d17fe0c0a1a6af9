"""Cells of an experiment: runs trained and measured side by side, each in a process of its own."""
import concurrent.futures
import dataclasses
import errno
import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import time
import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import ClassVar, NamedTuple

from ml_collections import ConfigDict

from experiments import cell_records
from mollification import allocator
from mollification.causes import causes

_POLL = .5   # seconds between looks for a signal
# What the system says of a disk that takes no more; Orbax puts it into errors of its own.
_NO_DISK = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)]


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run: what is trained, where, which metrics of `measure` are recorded, what it is called.

  Those of `more` are recorded besides, each `cell_records.InFeatures` of a network other than
  the data set's own. What the networks find of data is kept in the folder `kept`, the run's own for
  None. Samples that are not finite are an error, or with `allow_nonfinite` counted in the records.
  """
  config: ConfigDict
  folder: pathlib.Path
  metrics: tuple
  label: str
  more: tuple = ()
  kept: pathlib.Path | None = None
  allow_nonfinite: bool = False
  checkpoint_unit: ClassVar[int] = 1   # updates that the number of a checkpoint counts

  @property
  def networks(self):
    """What is measured in features of networks [cell_records.InFeatures]."""
    return self.more

  def build(self):
    """The run to train."""
    from mollification import build
    return build.build(self.config)

  def claimed(self):
    """The config that its workdir is held to."""
    return self.config.to_dict()

  def is_run(self, kept):
    """Whether the config `kept`, of what is in its folder, is of this run."""
    from mollification.training import workdir
    return workdir.is_same_run(kept, self.claimed())

  def is_done(self):
    """Whether it is trained to its end and measured, without looking at its data or model."""
    return is_of(self) is True and self.is_measured()

  def is_measured(self):
    """Whether its folder has all records of its last update; nothing else is looked at."""
    return self.holds(self.config.total_steps, self._of_last)

  def keep_reference(self, stop):
    """Leave in `kept` what its measurements need of data alone, once for all cells of it."""
    from mollification import measure
    for own in self._of_last:
      if stop.requested:
        return
      measure.keep_reference(self._opened, own.metrics, split=own.split, extractor=own.extractor(),
                             kept=self.kept)

  def measure(self, state, stop):
    """The records of its last update that it has not yet; False where a signal cut that short."""
    return self.measure_at([int(state.step)], self._of_last, stop)

  def measure_at(self, steps, wanted, stop):
    """Records of its checkpoints at `steps` of all that is `wanted` [InFeatures], as `measure`."""
    from mollification import measure
    for step, own in itertools.product(steps, wanted):
      if stop.requested:
        return False
      if not self.holds(step, (own,)):
        measure.measure(self._opened, own.metrics, step=step, split=own.split, groups=own.groups,
                        extractor=own.extractor(), num_samples=own.num_samples,
                        kept=self.kept, allow_nonfinite=self.allow_nonfinite)
    return not stop.requested

  @functools.cached_property
  def _opened(self):
    """Its run, to be measured: once there is one in its folder."""
    from mollification import measure
    return measure.open_run(self.folder)

  @property
  def _of_last(self):
    """[InFeatures] of the last checkpoint; the most samples first, of which the others are part."""
    from mollification.evaluation import frechet
    return cell_records.InFeatures(self.metrics, groups=frechet.GROUPS), *self.more

  def holds(self, step, wanted):
    """Whether the records of `step` have all of `wanted` [InFeatures]; errors as there."""
    return cell_records.holds(self.folder, step, wanted, self.config, self._of_last)


class Taken(NamedTuple):
  """What a cell that was done in one go took: by the clock, and of the processor.

  Other work on the machine lengthens the former.
  """
  seconds: float
  core_seconds: float


class Stopped(Exception):
  """A signal came: what was under way is saved, and the same command goes on from there."""


def train_and_measure(cell):
  """Train a Cell and measure it, each unless it is done; Taken, or None if there was some of it.

  A cell that has its records is not measured again, one with its last checkpoint not trained. What
  each part of it took stands in its seconds.json: `training`, of which `evaluating`, `reference`,
  to find what is not there yet of data alone, and `measuring` after it, by the clock;
  `core_seconds` of all.
  A `two_step.Cell` has a folder, a label, networks, and the same methods.
  """
  from mollification.training import loop, preemption, workdir
  if cell.is_done():
    return None
  start, fresh = time.monotonic(), not (cell.folder / 'config.json').exists()
  began = time.process_time()
  # A worker that ends on the spot would take the others with it.
  with preemption.Preemption(at_once=False) as stop, workdir.lock(cell.folder):
    for wanted in cell.networks:
      wanted.extractor()   # weights that are not there are missed before hours are spent
    workdir.check(cell.folder, cell.claimed())   # before data are loaded for what will be refused
    run = cell.build()
    workdir.claim(cell.folder, cell.claimed(), run.data)
    if stop.requested:
      return None
    outcome = loop.train(run, cell.folder, stop=stop, label=f'{cell.label}: ')
    if outcome.reason == 'preempted':
      return None
    trained = time.monotonic()
    of_training = {'training': trained - start, 'evaluating': outcome.evaluating} if fresh else {}
    cell_records.write_seconds(cell.folder, **of_training)
    begun = cell_records.has_any(cell.folder, cell.config.total_steps)
    cell.keep_reference(stop)
    kept = time.monotonic()
    if not cell.measure(outcome.state, stop):
      return None
    of_measuring = {'reference': kept - trained, 'measuring': time.monotonic() - kept}
    taken = Taken(time.monotonic() - start, time.process_time() - began) if fresh else None
    cell_records.write_seconds(cell.folder, **({} if begun else of_measuring),
                               core_seconds=taken and taken.core_seconds)
  return taken


def run(cells, *, workers, compiled, work=train_and_measure):
  """Do `work(cell)` for each of `cells`, `workers` at a time; yields (cell, what came back).

  Each worker is a process on its own share of the cores. Programs are compiled once for all of
  them, into the folder `compiled`. Raises Stopped after SIGTERM or SIGINT, and at once what a cell
  raises; in both cases the cells under way save and leave first, and no other one begins.
  """
  from mollification.training import preemption
  context, cores = multiprocessing.get_context('spawn'), _cores()
  shares = context.SimpleQueue()
  for worker in range(workers):   # more workers than cores share them all
    shares.put(cores[worker::workers] or cores)
  pool = concurrent.futures.ProcessPoolExecutor(
    workers, context, initializer=_start, initargs=(str(compiled), shares))
  with preemption.Preemption(at_once=False) as stop, pool:
    todo, running = iter(cells), {}
    try:
      while True:
        # No more than there are workers: what waits in the pool's own queue cannot be called off.
        running |= {pool.submit(_alone, work, cell): cell
                    for cell in itertools.islice(todo, workers - len(running))}
        if not running:
          return
        done, _ = concurrent.futures.wait(running, _POLL, concurrent.futures.FIRST_COMPLETED)
        if stop.requested:
          raise Stopped
        for future in done:
          cell = running.pop(future)
          yield cell, _result(future, [cell, *running.values()])
    except BaseException:   # also the caller's own, and its leaving the loop
      _leave(running)
      raise


def _result(future, under_way):
  """What came back, or what was raised; a worker that was killed takes the pool with it."""
  try:
    return future.result()
  except BrokenProcessPool:
    labels = ', '.join(cell.label for cell in under_way)
    raise RuntimeError(
      f'a process that worked on one of {labels} was killed, most likely since memory ran '
      'out, or the disk is full; the same command goes on from what is saved: give fewer '
      '--workers.') from None


@dataclasses.dataclass(frozen=True)
class Failure:
  """What a cell raised, in one line, and from where."""
  text: str
  trace: str = dataclasses.field(default='', compare=False)


@dataclasses.dataclass(frozen=True)
class Elsewhere:
  """A cell that another process, of this machine or of one that shares the folder, is at."""


def attempt(work, cell):
  """`work(cell)`, or the Failure of it: one cell that cannot be run leaves the others theirs.

  Elsewhere where another process is at it just now. Raises what comes of a disk that takes no more:
  the others would find it so.
  """
  from mollification.training import workdir
  try:
    return work(cell)
  except workdir.InUse:
    return Elsewhere()
  except Exception as error:
    if _of_disk(error):
      raise
    return Failure(f'{type(error).__name__}: {" ".join(str(error).split())}',
                   traceback.format_exc())


def _alone(work, cell):
  """`work(cell)`, of whose programs nothing is left in the worker.

  They are on disk for those that need them again; a process that keeps dozens of sweeps runs out of
  memory, or of mappings, and LLVM then ends it. A disk that takes no more is an OSError that says
  what to do.
  """
  import jax
  try:
    return work(cell)
  except Exception as error:
    if reason := _of_disk(error):
      raise OSError(f'{cell.label}: {reason}, so all stop; what is recorded is kept. Once its '
                    'folder can be written to, the same command goes on.') from error
    raise
  finally:
    jax.clear_caches()


def _of_disk(error):
  """What the system said where an error comes of a disk that takes no more, else None."""
  return next((words for one in causes(error) for words in _NO_DISK if words in str(one)), None)


def _leave(running):
  """Have the cells that run save and end.

  The signal is sent until they have: one that comes before a cell listens is ignored (`_start`).
  """
  while True:
    for child in multiprocessing.active_children():
      child.terminate()
    if not concurrent.futures.wait(running, _POLL).not_done:
      return


def _cores():
  """Numbers of the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):   # Linux
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count()))


def _start(compiled, shares):
  # A signal between two cells, or a second one, must not end a worker: the pool would take that for
  # a crash, and end the others with it.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  share = shares.get()
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, share)   # before jax makes its threads
  allocator.keep_freed()   # so, too
  import jax
  from absl import logging
  os.setpgid(0, 0)   # Ctrl-C is for the parent, which passes it on
  logging.set_verbosity(logging.ERROR)
  jax.config.update('jax_compilation_cache_dir', compiled)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.)


def is_of(cell):
  """Whether the folder of a Cell holds a run of its config; None where it holds no run."""
  from mollification.training import workdir
  kept = workdir.read_config(cell.folder)
  return None if kept is None else cell.is_run(kept)


def updates_done(cell):
  """Updates of a Cell's own run up to its newest checkpoint; 0 for none, and where another is."""
  try:
    if is_of(cell) is not True:
      return 0
  except ValueError:   # what is there cannot be read
    return 0
  numbers = (int(path.name) for path in (cell.folder / 'checkpoints').glob('*')
             if path.name.isdecimal())
  return cell.checkpoint_unit * max(numbers, default=0)


def is_done(cell):
  """`Cell.is_done`; False, too, where records are of another config, which working on it says."""
  try:
    return cell.is_done()
  except ValueError:
    return False


def state(cell):
  """How far a Cell is, in words."""
  try:
    if cell.is_done():
      return 'done'
    if is_of(cell) is False:
      return 'a run of another config is there, and would be refused'
  except ValueError as error:
    return f'to be refused: {error}'
  done, total = updates_done(cell), cell.config.total_steps
  if done == total:
    return 'trained, not measured'
  return f'{done:,} of {total:,} updates' if done else 'missing'
