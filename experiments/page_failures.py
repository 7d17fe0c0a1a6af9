"""Where mollified training fails on images, a row per model and arm, from the records alone.

The signs are those of `image_findings`: a distance that gains nothing, recall or coverage that
falls, late convergence, samples that are not finite.
"""
import functools
import html

from experiments import image_findings, image_table, page_text

WORDS = (
  'A row for each model and arm; differences are paired with those of vanilla training, with 95 % '
  'intervals. No gain: the distance to real images is not seen to fall (▼: it rises). Fewer modes: '
  'recall or coverage falls. Slow: the share of the updates after which clean validation data '
  'score what vanilla training ends with, by seed, where one of them gets there last or never; '
  'looked at are the updates of the curves below. Not finite: the share of the samples of all '
  'seeds together, and that of vanilla training in brackets.')
HEADER = ('model', 'arm', 'no gain', 'fewer modes', 'slow', 'not finite')
SCALES = ('cpu', 'digits')


def of_images(root):
  """HTML of a table per data set of Table 1 that has records in `root`/SCALE; '' for none."""
  tables = [f'<h3>{html.escape(dataset)}</h3>\n{_table(found, root / scale / dataset)}'
            for scale in SCALES
            for dataset, found in image_table.read(root, 'table1', scale).items()
            if any(cell.arm != 'vanilla' for cell, _ in found)]
  return f'<p>{html.escape(WORDS)}</p>\n' + '\n'.join(tables) if tables else ''


def _table(found, folder):
  head = ''.join(f'<th>{name}</th>' for name in HEADER)
  lines = (''.join(map(page_text.cell, line)) for line in rows(found, folder))
  body = '\n'.join(f'<tr>{line}</tr>' for line in lines)
  return (f'<div class="table arms-table"><table>\n<thead><tr>{head}</tr></thead>\n'
          f'<tbody>\n{body}\n</tbody></table></div>')


def rows(found, folder):
  """A tuple of HTML, in the order of `HEADER`, per model and arm of `found` [(Cell, Record)].

  `folder` holds MODEL/ARM/SEED, with the curve of each run.
  """
  by_arm = {}
  for row in image_table.rows([cell for cell, _ in found]):
    by_arm.setdefault((row.model, row.arm), []).append(row)
  share = functools.partial(_nonfinite, found)
  for (model, arm), own in by_arm.items():
    name, metric = image_findings.model_of(own[0]), lambda row: row.metric.partition('@')[0]
    lost = share(model, arm)
    yield (html.escape(model), arm,
           _said(row for row in own if metric(row) in image_findings.DISTANCES
                 and row.verdict != 'better'),
           _said(row for row in own if metric(row) in image_findings.MODES
                 and row.verdict == 'worse'),
           _slow(folder / name, arm),
           f'{lost:.2%} ({share(model, "vanilla"):.2%})' if lost else '')


def _said(rows):
  said = []
  for row in rows:
    name, _, net = row.metric.partition('@')
    text = f'{name} {image_findings.signed(row)}' + (f' in {net}' if net else '')
    said.append(f'<span class="worse">▼ {text}</span>' if row.verdict == 'worse' else text)
  return '<br>'.join(said)


def _slow(folder, arm):
  """Shares of the updates by seed, where a run does not come to vanilla's score before its end."""
  pairs = [(place, folder / arm / place.name)
           for place in sorted((folder / 'vanilla').glob('[0-9]*'))]
  caught = [image_findings.caught_up(*pair) for pair in pairs
            if all((place / 'curve.jsonl').exists() for place in pair)]
  if not caught:
    return 'no curves recorded'
  if all(share is not None and share < 1 for share in caught):
    return ''
  return ', '.join('never' if share is None else f'{share:.0%}' for share in caught)


def _nonfinite(found, model, arm):
  """Share of the samples of all seeds that are not finite, of the most that were looked at."""
  of_seed = {}
  for cell, record in found:
    if (cell.model, cell.arm) == (model, arm) and 'nonfinite_samples' in record.extra:
      of_seed[cell.seed] = max(of_seed.get(cell.seed, (0, 0)),
                               (record.n, record.extra['nonfinite_samples']))
  total = sum(n for n, _ in of_seed.values())
  return sum(count for _, count in of_seed.values()) / total if total else 0.
