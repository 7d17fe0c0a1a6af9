"""What a table of images says in words, besides its verdicts model by model (`image_verdicts`)."""
import json
import math
import statistics

from experiments import comparison, image_runs, names


def sentences(found, rows, folder):
  """What `found` [(Cell, Record)] of a data set and its `rows` say, an arm at a time.

  `folder` holds MODEL/ARM/SEED with the seconds of each run.
  """
  for arm in dict.fromkeys(row.arm for row in rows):
    own = [row for row in rows if row.arm == arm]
    if max(row.difference.count for row in own) < 2:
      yield f'{arm}: one seed an arm, which decides nothing.'
    else:
      yield f'{arm}: {comparison.sentence(own)}{_decided(own)}'
  yield from nonfinite(found)
  yield from _copies(found)
  yield from _sizes(places_of(found, folder))
  yield from _taken(found, folder)


def _decided(rows):
  """Which of an arm's figures are decided, model by model, '' for none."""
  said = ''
  for verdict in ('better', 'worse'):
    of_model = {}
    for row in rows:
      if row.verdict == verdict and row.metric != 'bits_per_dim':   # log-likelihood, once more
        of_model.setdefault(names.model(row.model), []).append(names.metric(row.metric))
    if of_model:
      said += f' {verdict.capitalize()}: ' + '; '.join(
        f'{model} ({", ".join(metrics)})' for model, metrics in of_model.items()) + '.'
  return said


def nonfinite(found):
  """Lines on samples and likelihoods that are not finite, by model and arm."""
  for key, what, words in (
      ('nonfinite_samples', 'samples', 'are not finite and count as the images that they become'),
      ('nonfinite', 'likelihoods', 'are not finite and left out')):
    for (model, arm), seeds in sorted(image_runs.counted(found, key).items()):
      sizes, counts = zip(*(seeds[seed] for seed in sorted(seeds)))
      if sum(counts):
        shares = ', '.join(f'{count / n:.2%}' for count, n in zip(counts, sizes))
        yield (f'{names.model(model)}, {arm}: {sum(counts):,} of {sum(sizes):,} {what} '
               f'({shares} by seed) {words}.')
  lost = sorted({(cell.model, cell.arm) for cell, _ in found if not math.isfinite(cell.value)})
  if lost:
    yield f'Not finite: {"; ".join(", ".join(which) for which in lost)}.'


def _copies(found):
  """A line on samples that are nearer to a training image than 99 % of test images are."""
  shares = [cell.value for cell, _ in found if cell.metric == 'near_share']
  if shares:
    yield (f'near copies of training images, of which test data have 1 %: {max(shares):.2%} of the '
           'samples of a run at most.')


def _taken(found, folder):
  """Lines on the time of the runs in `found`."""
  places = places_of(found, folder)
  taken = [own for place in places if (own := image_runs.time_of(place))]
  if not taken:
    return
  minutes, cut = [own.whole / 60 for own in taken], sum(own.cut for own in taken)
  yield (f'time: {statistics.median(minutes):.1f} minutes of a core a run ({min(minutes):.1f} to '
         f'{max(minutes):.1f}), {sum(minutes) / 60:.2f} hours in all, of {len(taken)} of '
         f'{len(places)} runs' + (f', {cut} of which were cut and their training estimated'
                                  if cut else '') + '.')
  yield from _evaluation(taken)
  references = [own.reference for own in taken if own.reference]
  if max(references, default=0.) > 10:   # below there was nothing to do but to look
    yield (f'of {len(references)} runs that timed it apart, what is measured of data alone, and '
           f'kept for all, took {max(references):.0f} s at most; it is in their minutes, and no '
           'part of their evaluation.')
  looks = [own.looking / own.training for own in taken if own.looking]
  if looks:
    yield (f'looks at what runs keep of their training ({len(looks)} of them), for the figure over '
           f'it alone, take another {min(looks):.0%} to {max(looks):.0%} of the training, and are '
           'not in these figures.')


def _evaluation(taken):
  """Lines on the share of evaluation, of runs that know it whole and of others."""
  whole = [own.evaluation for own in taken if own.evaluation is not None]
  if whole:
    yield (f'evaluation, inside training and after it, takes {_shares(whole)} of the rest of the '
           f'training, {_over(whole)}.')
  old = [own for own in taken if own.evaluation is None and not own.cut]
  if old:
    after = [own.measuring / own.training for own in old]
    most = [own.evaluation_most for own in old]
    yield (f'of {len(old)} runs evaluations inside training were not timed apart: measuring after '
           f'it takes {_shares(after)} of the training, and with all of that which was no update '
           f'(compiling, loading and saving, too) evaluation takes {_shares(most)} of the updates '
           f'at most, {_over(most)}.')


def _shares(shares):
  return f'{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})'


def _over(shares):
  return f'more than 20 % in {sum(share > .2 for share in shares)} of {len(shares)} runs'


def _sizes(places):
  """What the runs were, model by model, of the configs beside their records."""
  said = {}
  for place in places:
    path = place / 'config.json'
    config = json.loads(path.read_text()) if path.exists() else {}
    if {'batch_size', 'eval'} <= config.keys():
      part = config['eval'].get('valid_examples')
      what = f'{config["total_steps"]:,} of {config["batch_size"]}'
      said.setdefault(names.model(place.parts[-3]), {})[
        what + (f' (scored on {part:,})' if part else '')] = None
  if said:
    yield ('updates, each of a batch (in brackets: where evaluations inside training are of a part '
           'of the validation data): '
           + ', '.join(f'{model} {" or ".join(what)}' for model, what in said.items()) + '.')


def places_of(found, folder):
  """The folders of the runs of `found` [(Cell, Record)]."""
  return sorted({folder / image_runs.model_of(cell) / cell.arm / str(cell.seed)
                 for cell, _ in found})
