"""What a table of images says in words: gains, what they cost, and how training fails.

A gain is a paired difference that exceeds its 95 % interval. The signs of failure are no gain over
vanilla training, lost modes (recall or coverage falls) and late convergence (updates until clean
validation data score what vanilla training ends with).
"""
import json
import statistics

from experiments import comparison
from mollification.evaluation import features, records

DISTANCES = ('fid', 'frechet')   # what a table is judged by, in any features
MODES = ('recall', 'coverage')
CURVE = 'valid/log_likelihood'


def model_of(cell):
  """Folder of a cell's model: its name without what data-dependent layers started from."""
  return cell.model.split(' (')[0]


def sentences(found, rows, folder):
  """What `found` [(Cell, Record)] of a data set and its `rows` say, an arm at a time.

  `folder` holds MODEL/ARM/SEED with the curve and the seconds of each run.
  """
  for arm in dict.fromkeys(row.model.rsplit(', ', 1)[1] for row in rows):
    own = [row for row in rows if row.model.endswith(f', {arm}')]
    yield f'{arm}: {comparison.sentence(own)}'
    yield from _gains(own, arm)
    lost = [f'{_name(row)} ({_metric(row)} {_signed(row)})' for row in own
            if row.metric.partition('@')[0] in MODES and row.verdict == 'worse']
    if lost:
      yield f'{arm}, lost modes: {"; ".join(lost)}.'
    yield from _costs(own, arm, folder)
    yield from _lateness(own, arm, folder)
  yield from nonfinite(found)


def _gains(own, arm):
  """Which models the arm helped, by a distance."""
  judged = [row for row in own if row.metric.partition('@')[0] in DISTANCES]
  for verdict, words in (('better', 'helped'), ('worse', 'harmed')):
    which = [f'{_name(row)} ({_metric(row)} {_signed(row)})' for row in judged
             if row.verdict == verdict]
    if which:
      yield f'{arm}, {words}: {"; ".join(which)}.'
  without = sorted({_name(row) for row in judged} - {
    _name(row) for row in judged if row.verdict == 'better'})
  if without:
    yield f'{arm}, no gain over vanilla training seen in any distance: {", ".join(without)}.'


def _costs(own, arm, folder):
  """What an update takes, the median over seeds."""
  costs = []
  for model, pairs in _pairs(own, arm, folder):
    paces = [tuple(map(_pace_of, pair)) for pair in pairs]
    if paces and all(a and b for a, b in paces):
      costs.append(f'{model} {statistics.median(b / a - 1 for a, b in paces):+.1%} of '
                   f'{statistics.median(a for a, _ in paces) * 1e3:.0f} ms')
  if costs:
    yield f'{arm}, time of an update against vanilla training: {"; ".join(costs)}.'


def _lateness(own, arm, folder):
  """When the arm caught up with vanilla training."""
  late = []
  for model, pairs in _pairs(own, arm, folder):
    caught = [caught_up(*pair) for pair in pairs if all((p / 'curve.jsonl').exists() for p in pair)]
    if caught:
      late.append(f'{model} {", ".join("never" if c is None else f"{c:.0%}" for c in caught)}')
  if late:
    yield (f'{arm}, share of the updates after which clean validation likelihood is where vanilla '
           f'training ends, by seed: {"; ".join(late)}.')


def _pairs(own, arm, folder):
  """(model, [(folder of a vanilla run, that of the arm from the same seed)])."""
  for model in dict.fromkeys(_name(row).split(' (')[0] for row in own):
    yield model, [(vanilla, folder / model / arm / vanilla.name)
                  for vanilla in sorted((folder / model / 'vanilla').glob('[0-9]*'))
                  if (folder / model / arm / vanilla.name).is_dir()]


def caught_up(vanilla, own):
  """Share of its updates after which a run scores what the vanilla one does at its end, or None."""
  goal, curve = curve_of(vanilla)[-1][1], curve_of(own)
  return next((step / curve[-1][0] for step, score in curve if score >= goal), None)


def curve_of(place):
  """[(update, clean validation log-likelihood)] of a recorded run."""
  rows = [json.loads(line) for line in (place / 'curve.jsonl').read_text().splitlines()]
  return [(row['step'], float(row[CURVE])) for row in rows if CURVE in row]


def distances_of(place):
  """[(update, distance)] of a run: FID, or a Fréchet distance in its data set's own features."""
  of_set = lambda r: features.DATASETS.get(r.reference['dataset'])
  return sorted((r.step, r.value) for r in records.read_all(place / 'records')
                if r.metric == 'fid'
                or (r.metric == 'frechet' and r.features['net'] == of_set(r)))


def _pace_of(place):
  """Seconds of an update where other work disturbed it least; None where nobody wrote them."""
  path = place / 'seconds.json'
  return json.loads(path.read_text()).get('fastest_update') if path.exists() else None


def nonfinite(found):
  """Lines on models that drew samples which are not finite, and count as what they become."""
  counts = {(cell.model, cell.arm, cell.seed): record.extra['nonfinite_samples']
            for cell, record in found if record.extra.get('nonfinite_samples')}
  for model, arm in sorted({key[:2] for key in counts}):
    own = [count for key, count in counts.items() if key[:2] == (model, arm)]
    yield (f'{model}, {arm}: {sum(own)} samples of {len(own)} runs are not finite and count as the '
           'images that they become.')


def _name(row):
  return row.model.rsplit(', ', 1)[0]


def _metric(row):
  return row.metric.replace('@', ' in ')


def _signed(row):
  digits = comparison.decimals(row.interval)
  return f'{row.difference.mean:+.{digits}f} ± {row.interval:.{digits}f}'
