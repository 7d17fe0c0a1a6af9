"""What the folder MODEL/ARM/SEED of a run says: its curve and its time."""
import statistics
from typing import NamedTuple

from experiments import cell_records
from mollification import metrics
from mollification.training import workdir

CURVE = 'valid/log_likelihood'
_CURVES = 'curve.jsonl', 'metrics.jsonl'   # of a record, of a workdir


def model_of(cell):
  """Folder of the model of a cell or row: without what data-dependent layers started from."""
  return cell.model.split(' (')[0]


def counted(found, key):
  """{(model, arm): {seed: (n, count)}} of what the records' `extra` counts under `key`.

  `found` is [(Cell, Record)]; of samples that several records look at, the most that one does.
  """
  runs = {}
  for cell, record in found:
    if key in record.extra:
      seeds = runs.setdefault((cell.model, cell.arm), {})
      seeds[cell.seed] = max(seeds.get(cell.seed, (0, 0)), (record.n, record.extra[key]))
  return runs


def caught_up(vanilla, own):
  """Updates after which a run is first seen to score what the vanilla one does at its end, or None.

  To within the standard error of that score over the validation data.
  """
  ends, curve = _scores(vanilla), _scores(own)
  if not ends:
    return None
  _, goal, error = ends[-1]
  return next((step for step, score, _ in curve if score >= goal - error), None)


def curve_of(place):
  """[(update, clean validation log-likelihood)] of a run, a record's or a workdir's."""
  return [(step, score) for step, score, _ in _scores(place)]


def scored_to_its_end(place):
  """Whether a folder, a record's or a workdir, has the curve of a run with its last update."""
  scores, config = _scores(place), workdir.read_config(place)
  return bool(scores) and (config is None or scores[-1][0] == config['total_steps'])


def _scores(place):
  rows = next((metrics.read_rows(path) for name in _CURVES if (path := place / name).exists()), [])
  return [(row['step'], float(row[CURVE]), float(row.get(f'{CURVE}_sem', 0.))) for row in rows
          if CURVE in row]


class Time(NamedTuple):
  """Seconds of a run by the clock: of its training, at its quietest pace too, and of measuring.

  `updates` are those of the training that went into updates, at their mean pace. Of a run that was
  `cut` nobody timed the training: it is estimated, as `time_of` says. `evaluating` are those of the
  training that went into evaluations, None where they were not timed apart. To find what is kept of
  data for all runs took `reference`, 0 where that was not timed apart. What looks at its kept
  checkpoints took (`experiments.looks`) is no part of the run.
  """
  training: float
  quiet_training: float
  measuring: float
  looking: float = 0.
  updates: float = 0.
  evaluating: float | None = None
  cut: bool = False
  reference: float = 0.

  @property
  def whole(self):
    """Of all of it, as it was."""
    return self.training + self.reference + self.measuring

  @property
  def evaluation(self):
    """Share of what else training takes that all evaluation does, None where that is not known."""
    if self.evaluating is None or self.cut:
      return None
    return (self.evaluating + self.measuring) / (self.training - self.evaluating)

  @property
  def evaluation_most(self):
    """`evaluation` if all of the training that was no update had been that."""
    return (self.measuring + self.training - self.updates) / self.updates


def time_of(place):
  """The Time of a run, None where nobody took it.

  The training of a run that was cut is that of its updates at their mean pace, and what training
  takes besides in other runs of its model, their median.
  """
  taken = cell_records.seconds(place)
  if not taken.get('measuring') or not taken.get('update'):
    return None
  updates, training = _updates(place, taken), taken.get('training')
  if not training:
    others = [own for other in sorted(place.parent.parent.glob('*/[0-9]*'))
              if (own := _besides(other)) is not None]
    estimate = updates * (1 + statistics.median(others or [0.]))
    return Time(estimate, estimate, taken['measuring'], taken.get('looking') or 0., updates,
                cut=True, reference=taken.get('reference', 0.))
  quiet = (taken.get('quiet_update') or taken['update']) / taken['update']
  return Time(training, training * quiet, taken['measuring'], taken.get('looking') or 0., updates,
              taken.get('evaluating'), reference=taken.get('reference', 0.))


def _updates(place, taken):
  config = workdir.read_config(place)
  if config is None:
    raise ValueError(f'{place} has records, and no config.json that says of what; restore it, '
                     'or remove the folder.')
  return config['total_steps'] * taken['update']


def _besides(place):
  """What of the training of a run was no update, against its updates; None where it was cut."""
  taken = cell_records.seconds(place)
  known = taken.get('training') and taken.get('update')
  return taken['training'] / _updates(place, taken) - 1 if known else None
