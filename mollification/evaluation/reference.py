"""What a set leaves that samples are held against, kept in a workdir from checkpoint to checkpoint.

    statistics/SPLIT-NET.npz, SPLIT-NET-spatial.npz    as `statistics_file` writes them
    features/SPLIT-NET.npy and .json                   the features, and what they are of
    features/SPLIT-NET-METRIC.npz                      what a metric needs of them alone
    features/SPLIT-NET-to-OTHER.npz                    distances to the nearest of another split
"""
import functools
import json
import pathlib

import numpy as np

from mollification import files, npz, parallel
from mollification.evaluation import neighbours, scoring, sources, statistics_file


def of_split(extractor, dataset, split, metrics, folder=None, own_parts=()):
  """The `scoring.Reference` of a split of the data set of that name, for `metrics`.

  The network runs for what `folder`, a workdir, does not hold yet, and what it finds is kept there,
  of several processes by the first; None keeps nothing. With `folder` the reference has, too, what
  those of `metrics` that `own_parts` name need of it whatever is held against it. Raises ValueError
  where a file there is of other data or another network, or is damaged: it names the file, to be
  deleted.
  """
  if folder is None:
    needed = scoring.needed(metrics)
    return scoring.reference(_pass(extractor, split, needed)) if needed else scoring.Reference()
  kept, needed = _Kept(pathlib.Path(folder), extractor, dataset, split), scoring.needed(metrics)
  missing = parallel.of_first([metric for metric in needed if not kept.has(metric)])
  with parallel.together():
    found = {metric: kept.read(metric) for metric in needed if metric not in missing}
  if missing:
    done = _pass(extractor, split, missing, rows_folder=kept.rows_path.parent)
    parallel.by_first(kept.write, done, missing)
    left = scoring.reference(done)
    found |= {metric: getattr(left, _PARTS[metric]) for metric in missing}
  return scoring.Reference(**{_PARTS[metric]: part for metric, part in found.items()}, own_parts={
    metric: kept.array(metric, part.lead, functools.partial(part.of, found['kid']), part.settings)
    for metric, part in scoring.OWN_PARTS.items() if metric in own_parts})


def to_nearest(extractor, dataset, split, rows, other, other_rows, folder=None):
  """Distances [n] of a split's features `rows` to the nearest of another split's.

  They are kept in `folder`, and found there, as the features are.
  """
  def look():
    return neighbours.nearest(rows, other_rows)[0]

  if folder is None:
    return look()
  kept = _Kept(pathlib.Path(folder), extractor, dataset, split)
  return kept.array(f'to-{other.name}', (), look, {'other_sha256': other.sha256})


_PARTS = {'fid': 'statistics', 'sfid': 'spatial', 'kid': 'rows'}


def _pass(extractor, split, metrics, **options):
  source = sources.from_array(split.x, split.name)
  with scoring.Progress(source) as progress:
    return scoring.run(extractor, source, metrics, progress=progress.show, **options)


class _Kept:
  """The files of one split in the features of one network."""

  def __init__(self, folder, extractor, dataset, split):
    self._meta = {'features': scoring.identity(extractor), 'name': dataset, 'split': split.name,
                  'n': split.num_examples, 'data_sha256': split.sha256}
    name = f'{split.name}-{extractor.name}'
    self._statistics = {'fid': folder / 'statistics' / f'{name}.npz',
                        'sfid': folder / 'statistics' / f'{name}-spatial.npz'}
    self.rows_path = folder / 'features' / f'{name}.npy'
    self._rows_meta = self.rows_path.with_suffix('.json')   # written last

  def has(self, metric):
    return (self._rows_meta if metric == 'kid' else self._statistics[metric]).exists()

  def write(self, done, metrics):
    """Keep what a pass for `metrics` left."""
    found = {'fid': done.moments, 'sfid': done.spatial}
    for metric in metrics:
      if metric != 'kid':
        statistics_file.write(self._statistics[metric], found[metric].statistics(), self._meta)
        continue
      with files.replacing(self.rows_path) as part:
        files.write_rows(part, done.rows.shape, done.rows.dtype, [done.rows])
      with files.replacing(self._rows_meta) as part:
        part.write_text(json.dumps(self._meta, indent=1, sort_keys=True) + '\n')

  def read(self, metric):
    """Statistics, or float32 [n, F] mapped from the file."""
    if metric != 'kid':
      path = self._statistics[metric]
      statistics, meta = statistics_file.read(path)
      self._check(path, meta)
      return statistics
    try:
      meta = json.loads(self._rows_meta.read_text())
      rows = npz.mapped(self.rows_path, None)
    except (ValueError, OSError, RecursionError) as error:
      raise ValueError(f'{self.rows_path} cannot be read ({error}); delete it and '
                       f'{self._rows_meta.name}.') from error
    self._check(self.rows_path, meta)
    return rows

  def array(self, name, lead, compute, settings):
    """Numbers [*lead, n] of these features and `settings`: of their file, else `compute()`."""
    path = self.rows_path.with_name(f'{self.rows_path.stem}-{name}.npz')
    if parallel.of_first(path.exists()):
      with parallel.together():
        return self._read_array(path, (*lead, self._meta['n']), settings)
    with parallel.together():
      value = compute()
    parallel.by_first(_write_array, path, value, self._meta | settings)
    return value

  def _read_array(self, path, shape, settings):
    try:
      found = npz.read(path, ('value', 'meta'))
      value, meta = found['value'], json.loads(str(found['meta']))
      if value.shape != shape or value.dtype != np.float64:
        raise ValueError(f'it must hold float64 {list(shape)}, got {value.dtype} '
                         f'{list(value.shape)}')
    except (ValueError, KeyError, RecursionError) as error:
      raise ValueError(f'{path} cannot be read ({error}); delete it.') from error
    self._check(path, meta, settings)
    return value

  def _check(self, path, meta, settings=None):
    wanted = self._meta | (settings or {})
    if meta != wanted:
      raise ValueError(f'{path} must be of {wanted}, got {meta}; delete it.')


def _write_array(path, value, meta):
  with files.replacing(path) as part, part.open('wb') as file:
    np.savez(file, value=value, meta=np.array(json.dumps(meta, sort_keys=True)))
