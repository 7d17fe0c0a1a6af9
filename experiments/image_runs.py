"""What the folder MODEL/ARM/SEED of a run says: its curve and its time."""
import json
from typing import NamedTuple

CURVE = 'valid/log_likelihood'


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
  """[(update, clean validation log-likelihood)] of a recorded run."""
  return [(step, score) for step, score, _ in _scores(place)]


def _scores(place):
  rows = [json.loads(line) for line in (place / 'curve.jsonl').read_text().splitlines()]
  return [(row['step'], float(row[CURVE]), float(row.get(f'{CURVE}_sem', 0.))) for row in rows
          if CURVE in row]


def seconds(place):
  """What seconds.json of a run says, {} where nobody wrote it."""
  path = place / 'seconds.json'
  return json.loads(path.read_text()) if path.exists() else {}


class Time(NamedTuple):
  """Seconds of a run: of its training, as they were and at its quietest pace, and of measuring.

  Of a run that was cut, training is its updates at their mean pace; no quieter one is known.
  What looks at its kept checkpoints took (`experiments.looks`) is no part of the run.
  """
  training: float
  quiet_training: float
  measuring: float
  looking: float

  @property
  def whole(self):
    """Of all of it, as it was."""
    return self.training + self.measuring


def time_of(place):
  """The Time of a run, None where nobody took it."""
  taken = seconds(place)
  if not taken.get('measuring') or not taken.get('update'):
    return None
  steps = json.loads((place / 'config.json').read_text())['total_steps']
  training = taken.get('training') or steps * taken['update']
  quiet = (taken.get('quiet_update') or taken['update']) / taken['update']
  return Time(training, training * quiet, taken['measuring'], taken.get('looking') or 0.)
