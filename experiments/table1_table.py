"""Table 1 from its records: what each arm gains over vanilla training, model by model."""
import dataclasses
import pathlib

from experiments import comparison, image_cells

# Of all that is recorded, what a page shows; the rest is in the records.
SHOWN = ('log_likelihood', 'frechet', 'fid', 'kernel_distance', 'kid', 'precision', 'recall',
         'coverage')


def rows(root, scale):
  """[comparison.Row] of each data set, model, arm but vanilla, and metric.

  Seeds that only one of the two arms has, so far, are left out.
  """
  found = []
  for dataset in image_cells.SCALES[scale].datasets:
    cells = [cell for cell, _ in comparison.read(pathlib.Path(root) / scale / dataset)]
    for arm in image_cells.SCALES[scale].arms[1:]:
      found += comparison.compare(_paired(cells, arm))
  return sorted(found, key=lambda row: row.model)


def _paired(cells, arm):
  """Cells of vanilla training and of `arm`, called mollified, of seeds that both have."""
  seen = {(cell.model, cell.metric, cell.arm, cell.seed) for cell in cells}
  both = [cell for cell in cells if cell.arm in ('vanilla', arm) and all(
    (cell.model, cell.metric, other, cell.seed) in seen for other in ('vanilla', arm))]
  return [dataclasses.replace(cell, model=f'{cell.model}, {arm}',
                              arm='vanilla' if cell.arm == 'vanilla' else 'mollified')
          for cell in both]


def text(root, scale):
  """The table for a terminal and what it says."""
  found = rows(root, scale)
  return '\n\n'.join([comparison.text_table(found), comparison.sentence(found),
                      *nonfinite(root, scale)])


def nonfinite(root, scale):
  """Lines on models that drew samples which are not finite, and count as what they become."""
  for dataset in image_cells.SCALES[scale].datasets:
    counts = {(cell.model, cell.arm, cell.seed): record.extra['nonfinite_samples']
              for cell, record in comparison.read(pathlib.Path(root) / scale / dataset)
              if record.extra.get('nonfinite_samples')}
    for model, arm in sorted({key[:2] for key in counts}):
      found = [count for key, count in counts.items() if key[:2] == (model, arm)]
      yield (f'{dataset}, {model}, {arm}: {sum(found)} samples of {len(found)} runs are not finite '
             'and count as the images that they become.')


def markdown(root, scale):
  """The table for a page: vanilla means, and below them paired differences with 95 % intervals.

  A difference that exceeds its interval is bold where the arm is better, struck out where worse.
  """
  found = rows(root, scale)
  metrics = [metric for metric in SHOWN if any(row.metric == metric for row in found)]
  arrows = [f'{m} {"↓" if comparison.LOWER_IS_BETTER[m] else "↑"}' for m in metrics]
  lines = [('model', 'arm', *arrows), ('---',) * (2 + len(metrics))]
  by_model = {}
  for row in found:
    model, arm = row.model.split(', ', 1)
    by_model.setdefault(model, {}).setdefault(arm, {})[row.metric] = row
  for model, arms in by_model.items():
    first = next(iter(arms.values()))
    lines.append((model, 'vanilla', *(comparison.shown(first[m].vanilla) if m in first else ''
                                      for m in metrics)))
    lines += [('', arm, *(difference(of[m]) if m in of else '' for m in metrics))
              for arm, of in arms.items()]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def difference(row):
  """`mean ± interval` of the paired difference, marked where it is decided."""
  mean, interval = row.difference.mean, row.interval
  digits = comparison.decimals(interval)
  text = f'{mean:+.{digits}f} ± {interval:.{digits}f}'
  return {'better': f'**{text}**', 'worse': f'~~{text}~~'}.get(row.verdict, text)


def sentences(root, scale):
  """What the table says, each arm for itself."""
  found = [row for row in rows(root, scale) if row.metric in SHOWN]
  for arm in image_cells.SCALES[scale].arms[1:]:
    own = [row for row in found if row.model.endswith(f', {arm}')]
    yield f'{arm}: {comparison.sentence(own)}'
  yield from nonfinite(root, scale)
