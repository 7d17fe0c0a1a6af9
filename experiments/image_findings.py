"""What a table of images says in words: gains, what they cost, and how training fails.

A difference is decided where it exceeds its 95 % interval; of twenty that are none, one does by
chance. The signs of failure are no gain over vanilla training, recall or coverage that falls (lost
modes), late convergence (updates until clean validation data score what vanilla training ends
with), and figures or samples that are not finite.
"""
import json
import math
import statistics

from experiments import comparison
from mollification.evaluation import features, records

DISTANCES = ('fid', 'frechet')   # what a table is judged by, in any features
MODES = ('recall', 'coverage')
CURVE = 'valid/log_likelihood'


def model_of(cell):
  """Folder of the model of a cell or row: without what data-dependent layers started from."""
  return cell.model.split(' (')[0]


def sentences(found, rows, folder):
  """What `found` [(Cell, Record)] of a data set and its `rows` say, an arm at a time.

  `folder` holds MODEL/ARM/SEED with the seconds and, where it is recorded, the curve of each run.
  """
  for arm in dict.fromkeys(row.arm for row in rows):
    own = [row for row in rows if row.arm == arm]
    if max(row.difference.count for row in own) < 2:
      yield f'{arm}: one seed an arm, which decides nothing.'
    else:
      yield f'{arm}: {comparison.sentence(own)}'
      yield from _verdicts(own, arm)
    yield from _costs(own, arm, folder)
    yield from _lateness(own, arm, folder)
  yield from nonfinite(found)
  yield from _copies(found)
  yield from _taken(folder)


def _verdicts(own, arm):
  """All that is decided; by the distances, what the arm did to which model; where it lost modes."""
  decided = [f'{verdict} {"; ".join(which)}' for verdict in ('better', 'worse')
             if (which := [_said(row) for row in own
                           if row.verdict == verdict and row.metric != 'bits_per_dim'])]
  if decided:
    yield f'{arm}, all that is decided: {", and ".join(decided)}.'
  judged = [row for row in own if row.metric.partition('@')[0] in DISTANCES]
  for verdict, words in (('better', 'nearer to real images'),
                         ('worse', 'further from real images'), ('undecided', 'no gain seen')):
    which = [_said(row) for row in judged if row.verdict == verdict]
    if which:
      yield f'{arm}, {words}: {"; ".join(which)}.'
  lost = [_said(row) for row in own
          if row.metric.partition('@')[0] in MODES and row.verdict == 'worse']
  if lost:
    yield f'{arm}, fewer modes: {"; ".join(lost)}.'


def _said(row):
  return f'{row.model} ({row.metric.replace("@", " in ")} {signed(row)})'


def _costs(own, arm, folder):
  """What an update takes against vanilla training, and what a run does in all."""
  costs = []
  for model, pairs in _pairs(own, arm, folder):
    taken = [tuple(map(_seconds, pair)) for pair in pairs]
    taken = [pair for pair in taken if all(own.get('quiet_update') for own in pair)]
    ratios = [new['quiet_update'] / old['quiet_update'] - 1 for old, new in taken]
    if ratios:
      base = statistics.median(old['quiet_update'] for old, _ in taken)
      spread = f' ({min(ratios):+.1%} to {max(ratios):+.1%})' if len(ratios) > 1 else ''
      whole = [[run['training'] for run in runs if run.get('training')] for runs in zip(*taken)]
      costs.append(f'{model} {statistics.median(ratios):+.1%}{spread} of {base * 1e3:.3g} ms'
                   + (', {:,.0f} s a run against {:,.0f}'.format(
                     *map(statistics.median, whole[::-1])) if all(whole) else ''))
  if costs:
    yield f'{arm}, time of an update against vanilla training: {"; ".join(costs)}.'


def _lateness(own, arm, folder):
  """When the arm came to the score that vanilla training ends with."""
  late, looks = [], set()
  for model, pairs in _pairs(own, arm, folder):
    pairs = [pair for pair in pairs if all((place / 'curve.jsonl').exists() for place in pair)]
    caught = [caught_up(*pair) for pair in pairs]
    looks |= {len(curve_of(new)) for _, new in pairs}
    if caught:
      late.append(f'{model} {", ".join("never" if c is None else f"{c:.0%}" for c in caught)}')
  if late:
    yield (f'{arm}, share of the updates after which clean validation data score what vanilla '
           f'training ends with, to its standard error, by seed, of {min(looks)} looks: '
           f'{"; ".join(late)}.')


def caught_up(vanilla, own):
  """Share of its updates after which a run scores what the vanilla one does at its end, or None.

  To within the standard error of that score over the validation data.
  """
  ends, curve = _scores(vanilla), _scores(own)
  if not ends:
    return None
  _, goal, error = ends[-1]
  return next((step / curve[-1][0] for step, score, _ in curve if score >= goal - error), None)


def curve_of(place):
  """[(update, clean validation log-likelihood)] of a recorded run."""
  return [(step, score) for step, score, _ in _scores(place)]


def _scores(place):
  rows = [json.loads(line) for line in (place / 'curve.jsonl').read_text().splitlines()]
  return [(row['step'], float(row[CURVE]), float(row.get(f'{CURVE}_sem', 0.))) for row in rows
          if CURVE in row]


def _pairs(own, arm, folder):
  """(model, [(folder of a vanilla run, that of the arm from the same seed)])."""
  for model in dict.fromkeys(model_of(row) for row in own):
    yield model, [(vanilla, folder / model / arm / vanilla.name)
                  for vanilla in sorted((folder / model / 'vanilla').glob('[0-9]*'))
                  if (folder / model / arm / vanilla.name).is_dir()]


def distances_of(place):
  """[(update, distance)] of a run: FID, or a Fréchet distance in its data set's own features."""
  of_set = lambda r: features.DATASETS.get(r.reference['dataset'])
  return sorted((r.step, r.value) for r in records.read_all(place / 'records')
                if r.metric == 'fid'
                or (r.metric == 'frechet' and r.features['net'] == of_set(r)))


def _seconds(place):
  """What seconds.json says, {} where nobody wrote it."""
  path = place / 'seconds.json'
  return json.loads(path.read_text()) if path.exists() else {}


def nonfinite(found):
  """Lines on samples and likelihoods that are not finite, by model and arm."""
  for key, what, words in (
      ('nonfinite_samples', 'samples', 'are not finite and count as the images that they become'),
      ('nonfinite', 'likelihoods', 'are not finite and left out')):
    runs = {}   # of the same samples, the most that were looked at
    for cell, record in sorted(found, key=lambda pair: pair[1].n):
      if key in record.extra:
        of_arm = runs.setdefault((cell.model, cell.arm), {})
        of_arm[cell.seed] = record.extra[key], record.n
    for (model, arm), seeds in sorted(runs.items()):
      counts, sizes = zip(*(seeds[seed] for seed in sorted(seeds)))
      if sum(counts):
        shares = ', '.join(f'{count / n:.2%}' for count, n in zip(counts, sizes))
        yield (f'{model}, {arm}: {sum(counts):,} of {sum(sizes):,} {what} ({shares} by seed) '
               f'{words}.')
  lost = sorted({(cell.model, cell.arm) for cell, _ in found if not math.isfinite(cell.value)})
  if lost:
    yield f'Not finite: {"; ".join(", ".join(which) for which in lost)}.'


def _copies(found):
  """A line on samples that are nearer to a training image than 99 % of test images are."""
  shares = [cell.value for cell, _ in found if cell.metric == 'near_share']
  if shares:
    yield (f'near copies of training images, of which test data have 1 %: {max(shares):.2%} of the '
           'samples of a run at most.')


def _taken(folder):
  """A line on the time of all runs; of those that were cut, what is known of it."""
  taken = {place: _seconds(place) for place in sorted(folder.glob('*/*/[0-9]*'))}
  both = {place: (own['training'], own['measuring']) for place, own in taken.items()
          if own.get('training') and own.get('measuring')}
  if both:
    minutes = [sum(pair) / 60 for pair in both.values()]
    hours = sum(own.get(part) or 0 for own in taken.values()
                for part in ('training', 'measuring')) / 3600
    shares = [[measuring / training for place, (training, measuring) in both.items()
               if _is_watched(place) == watched] for watched in (False, True)]
    said = [f'{statistics.median(own):.0%} of the training{what}, more than 20 % in '
            f'{sum(share > .2 for share in own)} of {len(own)} runs'
            for own, what in zip(shares, ('', ' where it is looked at over the updates')) if own]
    yield (f'time: {statistics.median(minutes):.1f} minutes of a core a run ({min(minutes):.1f} to '
           f'{max(minutes):.1f}), {hours:.1f} hours in all; measuring takes {", and ".join(said)}.')


def _is_watched(place):
  """Whether a run was measured at other updates than its last."""
  return len({record.step for record in records.read_all(place / 'records')}) > 1


def signed(row):
  """`mean ± interval` of the paired difference of a row; of one seed, the difference alone."""
  mean, interval = row.difference.mean, row.interval
  if math.isinf(interval):
    return f'{mean:+.3g} (one seed)'
  digits = comparison.decimals(interval)
  return f'{mean:+.{digits}f} ± {interval:.{digits}f}'
