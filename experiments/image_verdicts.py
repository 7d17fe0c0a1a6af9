"""Whether an arm helped, model by model: by how much, at what cost, and how it failed if it did.

A line of the table is a model and an arm. It is judged by distances, and by the likelihood but of
VAEs whose decoder has a fixed variance: their bound says nearly nothing, and is only shown. What is
judged is decided where it exceeds its interval, which is widened (Bonferroni) so that of twenty
lines in which nothing differs one is decided by chance. The signs of failure are no gain over
vanilla training, recall or coverage that falls (lost modes, by intervals of 95 %), late convergence
(of most seeds, clean validation data score later than in vanilla training, or never, what that ends
with), and, in the mean, more samples that are not finite than vanilla training has.
"""
import json
import math
import pathlib
import re

from experiments import comparison, image_runs, names, statistics

DISTANCES = ('fid', 'frechet')   # what a table is judged by, in any features, and the likelihood
LIKELIHOOD = 'log_likelihood'
MODES = ('recall', 'coverage')
RESULTS = pathlib.Path(__file__).resolve().parent / 'results'


def lines(found, rows, folder):
  """Lines of the table, header and rule first, of `found` [(Cell, Record)] and its Rows.

  `folder` holds MODEL/ARM/SEED with the config and the curve of each run, records or workdirs.
  """
  shown = [*sorted({row.metric for row in rows if _base(row) in DISTANCES}), LIKELIHOOD]
  costs = _costs(folder)
  table = [('model', 'arm', 'verdict', *map(_titled, shown),
            *(['ms an update; added (s a run)'] if costs else []),
            "updates to vanilla's end (its own)", 'signs')]
  table.append(('---',) * len(table[0]))
  nonfinite = image_runs.counted(found, 'nonfinite_samples')
  for (model, arm), own in by_line(rows).items():
    judged = judged_of(own, folder)
    pairs = _pairs(image_runs.model_of(next(iter(own.values()))), arm, folder)
    caught = [(image_runs.caught_up(vanilla, vanilla), image_runs.caught_up(vanilla, own))
              for vanilla, own in pairs
              if all(map(image_runs.scored_to_its_end, (vanilla, own)))]
    signs = _signs(own.values(), judged, caught, *(nonfinite.get((model, which), {})
                                                   for which in ('vanilla', arm)))
    table.append((names.model(model), arm, verdict(judged),
                  *(_shown(own[metric], judged) if metric in own else '' for metric in shown),
                  *([costs.get((model.partition(' (')[0], arm), '')] if costs else []),
                  _updates(caught), '; '.join(signs)))
  return table


def by_line(rows):
  """{(model, arm): {metric: Row}}."""
  found = {}
  for row in rows:
    found.setdefault((row.model, row.arm), {})[row.metric] = row
  return found


def judged_of(own, folder):
  """[Row] that a line {metric: Row} is judged by."""
  judged = [row for row in own.values() if _base(row) in DISTANCES]
  fixed = _fixed_variance(folder / image_runs.model_of(next(iter(own.values()))))
  return judged if fixed or LIKELIHOOD not in own else [*judged, own[LIKELIHOOD]]


def _fixed_variance(folder):
  """Whether the runs of a model have a Gaussian decoder of a variance that they do not learn."""
  path = next(iter(sorted(folder.glob('*/*/config.json'))), None)
  model = json.loads(path.read_text())['model'] if path else {}
  return model.get('likelihood') == 'gaussian' and not model.get('learn_variance')


def interval(row, judged):
  """Half the interval of a Row of `judged`, which together miss in one of twenty lines."""
  return row.interval_at(1 - .05 / len(judged))


def decided(row, judged):
  """'better', 'worse' or 'undecided', by `interval`."""
  return row.verdict_at(1 - .05 / len(judged))


def _shown(row, judged):
  if row not in judged:
    return f'{signed(row)} (not judged)'
  return signed(row, interval(row, judged))


def sentence(table):
  """How many of the `lines` are decided, and how many chance alone would."""
  said = [line[2] for line in table[2:] if line[2] != 'one seed']
  if not table[2:]:
    return 'No arm but vanilla training is measured yet, so that nothing can be said of any.'
  if not said:
    return 'One seed an arm, which decides nothing.'
  counts = ', '.join(f'{said.count(what)} {what}' for what in ('better', 'worse', 'mixed')
                     if what != 'mixed' or what in said)
  return (f'Of {len(said)} lines (a model and an arm) {counts}, {said.count("undecided")} '
          f'undecided; chance alone would decide {.05 * len(said):.2g} of {len(said)} lines.')


def verdict(judged):
  """The verdict over Rows: better or worse where some are and none is the other, else mixed."""
  if max(row.difference.count for row in judged) < 2:
    return 'one seed'
  verdicts = {decided(row, judged) for row in judged} - {'undecided'}
  return 'mixed' if len(verdicts) > 1 else next(iter(verdicts), 'undecided')


def _titled(metric):
  base, at, network = metric.partition('@')
  return (f'{names.metric(base)}{" (nats)" if base == LIKELIHOOD else ""} '
          f'{comparison.arrow(metric)}' + (f' in {names.network(network)}' if at else ''))


def _base(row):
  return row.metric.partition('@')[0]


def _signs(own, judged, caught, lost_before, lost):
  """The signs of failure of one arm of a model, as the module says.

  `caught` are updates of vanilla training and of the arm, by seed; samples `lost`, of both too, are
  {seed: (n, count)}.
  """
  alone = judged and verdict(judged) == 'one seed'   # nobody can tell
  if not alone and not any(decided(row, judged) == 'better' for row in judged):
    yield 'no gain'
  modes = [row for row in own if _base(row) in MODES and row.verdict == 'worse']
  if modes:
    yield 'fewer modes (' + ', '.join(
      f'{names.metric(row.metric)} {signed(row)}' for row in modes) + ')'
  late = [updates is None or updates > vanilla for vanilla, updates in caught if vanilla]
  if sum(late) > len(late) / 2:
    bound = any(row.metric == LIKELIHOOD and row not in judged for row in own)
    yield 'late, by a bound that is not judged' if bound else 'late'
  both = sorted(lost_before.keys() & lost.keys())
  before, after = ([100 * seeds[seed][1] / seeds[seed][0] for seed in both]
                   for seeds in (lost_before, lost))
  if sum(after) > sum(before):
    row = comparison.Row('', '', *map(comparison.Moments.of, (
      before, after, [b - a for a, b in zip(before, after)])))
    yield (f'{row.mollified.mean:.2g} % of the samples not finite (vanilla '
           f'{row.vanilla.mean:.2g} %, {signed(row)} points)')


def added(folder):
  """{(model, arm): (ms an update, ms of it that mollifying adds, half the interval)}.

  By bench/small.py, of the committed records of a data set that it measures; {} of others, and
  before its record. Added is a median with its 95 % interval, of Student's t.
  """
  path = RESULTS / 'bench' / 'small.jsonl'
  if folder.resolve().parent != RESULTS / 'images' / 'cpu' or not path.exists():
    return {}
  rows = {row['name']: row for row in map(json.loads, path.read_text().splitlines())}
  found = {}
  for name, more in rows.items():
    dataset, own = name.removesuffix('_more').split('/')
    if dataset == folder.name and name.endswith('_more'):
      model, arm = own.rsplit('_', 1)
      beside, ms = rows[f'{dataset}/{own}'], more['value']
      rounds = int(re.search(r', (\d+) rounds', beside['reference'])[1])
      half = statistics.student_quantile(rounds - 1, .95) * more['reference_value']
      found[model, arm] = beside['value'], ms, half
  return found


def _costs(folder):
  """{(model, arm): text of what is `added`, and in s a run}.

  Other schedules have the program of the noise, and were not measured.
  """
  found = {}
  for (model, arm), (update, ms, half) in added(folder).items():
    seconds = ''.join(f' ({_plus_minus(ms * total / 1e3, half * total / 1e3)})'
                      for total in _totals(folder / model / arm))
    found[model, arm] = f'{update:.3g}; {_plus_minus(ms, half)}{seconds}'
  return found | {(model, other): 'as gaussian' for model, arm in found
                  if arm == 'gaussian' for other in ('cosine', 'linear')}


def _totals(folder):
  """The updates of the runs ARM/SEED in a folder; several numbers where they differ."""
  return sorted({json.loads(path.read_text())['total_steps']
                 for path in folder.glob('*/config.json')})


def _plus_minus(value, half):
  digits = comparison.decimals(half)
  value = round(value, digits) + 0.   # no -0
  return f'{value:+.{digits}f} ± {half:.{digits}f}'


def _updates(caught):
  """Updates after which each seed came to the score that vanilla training ends with, of its own."""
  return ', '.join(f'{"never" if own is None else f"{own:,}"} ({vanilla:,})'
                   for vanilla, own in caught if vanilla)


def _pairs(model, arm, folder):
  """[(folder of a vanilla run, that of the arm from the same seed)]."""
  return [(vanilla, folder / model / arm / vanilla.name)
          for vanilla in sorted((folder / model / 'vanilla').glob('[0-9]*'))
          if (folder / model / arm / vanilla.name).is_dir()]


def signed(row, half=None):
  """`mean ± half` of the paired difference of a row, of 95 % for None; of one seed, that alone."""
  mean, half = row.difference.mean, row.interval if half is None else half
  if math.isinf(half):
    return f'{mean:+.3g} (one seed)'
  return _plus_minus(mean, half)
