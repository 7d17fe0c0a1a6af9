"""Whether an arm helped, model by model: by how much, at what cost, and how it failed if it did.

A difference is decided where it exceeds its 95 % interval; of twenty that are none, one does by
chance. The signs of failure are no gain over vanilla training, recall or coverage that falls (lost
modes), late convergence (of most seeds, clean validation data score later than in vanilla training,
or never, what that ends with), and more samples that are not finite than vanilla training has.
"""
import math
import statistics

from experiments import comparison, image_runs

DISTANCES = ('fid', 'frechet')   # what a table is judged by, in any features, and the likelihood
LIKELIHOOD = 'log_likelihood'
MODES = ('recall', 'coverage')


def lines(found, rows, folder):
  """Lines of the table, header and rule first, of `found` [(Cell, Record)] and its Rows.

  `folder` holds MODEL/ARM/SEED with the seconds and, where it is recorded, the curve of each run.
  """
  judged = [*sorted({row.metric for row in rows if _base(row) in DISTANCES}), LIKELIHOOD]
  table = [('model', 'arm', 'verdict', *map(_titled, judged), 'an update', 's a run',
            "updates to vanilla's end (its own)", 'signs')]
  table.append(('---',) * len(table[0]))
  nonfinite = image_runs.counted(found, 'nonfinite_samples')
  for model, arm in dict.fromkeys((row.model, row.arm) for row in rows):
    own = {row.metric: row for row in rows if (row.model, row.arm) == (model, arm)}
    pairs = _pairs(image_runs.model_of(next(iter(own.values()))), arm, folder)
    caught = [(image_runs.caught_up(vanilla, vanilla), image_runs.caught_up(vanilla, own))
              for vanilla, own in pairs
              if all((place / 'curve.jsonl').exists() for place in (vanilla, own))]
    signs = _signs(own.values(), caught, *(_share(nonfinite.get((model, which), {}))
                                           for which in ('vanilla', arm)))
    table.append((model, arm, verdict([own[metric] for metric in judged if metric in own]),
                  *(signed(own[metric]) if metric in own else '' for metric in judged),
                  *_costs(pairs), _updates(caught), '; '.join(signs)))
  return table


def _share(seeds):
  """Share of what is counted, of {seed: (n, count)}."""
  looked, lost = map(sum, zip(*seeds.values())) if seeds else (1, 0)
  return lost / looked


def verdict(judged):
  """The verdict over Rows: better or worse where some are and none is the other, else mixed."""
  if max(row.difference.count for row in judged) < 2:
    return 'one seed'
  verdicts = {row.verdict for row in judged} - {'undecided'}
  return 'mixed' if len(verdicts) > 1 else next(iter(verdicts), 'undecided')


def _titled(metric):
  name, _, network = metric.partition('@')
  return (f'{name}{" (nats)" if name == LIKELIHOOD else ""} {comparison.arrow(metric)}'
          + (f' in {network}' if network else ''))


def _base(row):
  return row.metric.partition('@')[0]


def _signs(own, caught, lost_before, lost):
  """The signs of failure of one arm of a model, as the module says.

  `caught` are updates of vanilla training and of the arm, by seed; the shares of samples `lost` are
  of both, too.
  """
  if not any(row.verdict == 'better' for row in own if _base(row) in (*DISTANCES, LIKELIHOOD)):
    yield 'no gain'
  modes = [row for row in own if _base(row) in MODES and row.verdict == 'worse']
  if modes:
    yield 'fewer modes (' + ', '.join(
      f'{row.metric.replace("@", " in ")} {signed(row)}' for row in modes) + ')'
  late = [updates is None or updates > vanilla for vanilla, updates in caught if vanilla]
  if sum(late) > len(late) / 2:
    yield 'late'
  if lost > lost_before:
    yield f'{100 * lost:.2g} % of the samples not finite (vanilla {100 * lost_before:.2g} %)'


def _costs(pairs):
  """What an update takes more than in vanilla training, and what a run does in all, beside it."""
  taken = [tuple(map(image_runs.seconds, pair)) for pair in pairs]
  taken = [pair for pair in taken if all(own.get('quiet_update') for own in pair)]
  if not taken:
    return '', ''
  ratios = [new['quiet_update'] / old['quiet_update'] - 1 for old, new in taken]
  spread = f' ({min(ratios):+.0%} to {max(ratios):+.0%})' if len(ratios) > 1 else ''
  runs = [[own['training'] for own in pair] for pair in taken
          if all(own.get('training') for own in pair)]
  return (f'{statistics.median(ratios):+.0%}{spread}',
          '{:,.0f} to {:,.0f}'.format(*map(statistics.median, zip(*runs))) if runs else '')


def _updates(caught):
  """Updates after which each seed came to the score that vanilla training ends with, of its own."""
  return ', '.join(f'{"never" if own is None else f"{own:,}"} ({vanilla:,})'
                   for vanilla, own in caught if vanilla)


def _pairs(model, arm, folder):
  """[(folder of a vanilla run, that of the arm from the same seed)]."""
  return [(vanilla, folder / model / arm / vanilla.name)
          for vanilla in sorted((folder / model / 'vanilla').glob('[0-9]*'))
          if (folder / model / arm / vanilla.name).is_dir()]


def signed(row):
  """`mean ± interval` of the paired difference of a row; of one seed, the difference alone."""
  mean, interval = row.difference.mean, row.interval
  if math.isinf(interval):
    return f'{mean:+.3g} (one seed)'
  digits = comparison.decimals(interval)
  return f'{mean:+.{digits}f} ± {interval:.{digits}f}'
