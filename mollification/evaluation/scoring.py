"""One pass over a set of images, and the figures that two passes give."""
import contextlib
import dataclasses
import itertools
import json
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mollification import files, npz, parallel
from mollification import metrics as writers
from mollification.evaluation import (
  features,
  frechet,
  inception_score,
  kid,
  moments,
  neighbours,
  sources,
)

METRICS = ('fid', 'is', 'kid', 'pr', 'sfid')
LEAST = {'fid': 2, 'sfid': 2, 'kid': 3, 'pr': 6, 'is': 10}   # images of either set
KEEP = ('kid', 'pr')            # need all features of both sets
SAVE_SECONDS = 60.
QUICK_SECONDS = 2.   # what takes less shows no progress


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
  """What one pass over `n` images leaves; None where it was not asked for.

  `moments` and `spatial` are accumulated, `score` is an `InceptionScore`, `rows` [n, F] the
  features themselves, in memory or mapped from a file. `sha256` is of the images, `seconds` are
  wall time since image `resumed_at`, where a run that was cut went on.
  """
  n: int
  sha256: str
  moments: moments.Moments
  spatial: moments.Moments | None = None
  score: inception_score.InceptionScore | None = None
  rows: np.ndarray | None = None
  seconds: float = 0.
  resumed_at: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
  """What is left of a reference set; None where it was not asked for, or is not known.

  `statistics` and `spatial` are `Statistics`, `rows` the features [n, F], and `own_parts` {metric:
  array} those of `OWN_PARTS` that are known already.
  """
  statistics: frechet.Statistics | None = None
  spatial: frechet.Statistics | None = None
  rows: np.ndarray | None = None
  own_parts: dict = dataclasses.field(default_factory=dict)


class OwnPart(NamedTuple):
  """What a metric needs of a reference's features [n, F], whatever is held against it.

  It is `of(features)`, an array [*lead, n], and depends on `settings` besides, which JSON holds.
  """
  lead: tuple
  of: Callable
  settings: dict


OWN_PARTS = {
  'kid': OwnPart((), kid.own_sums, {'kernel': '(x · y / F + 1)³'}),
  'pr': OwnPart((2,), lambda rows: neighbours.squared_radii(
    rows, neighbours.K, neighbours.K_DENSITY), {'k': [neighbours.K, neighbours.K_DENSITY]})}


def reference(done):
  """The `Reference` that a `Pass` leaves."""
  return Reference(done.moments.statistics(), done.spatial and done.spatial.statistics(), done.rows)


def needed(metrics):
  """What a reference is asked for, as metrics: 'fid', 'sfid', and 'kid' for its features."""
  wanted = ['kid' if metric in KEEP else metric for metric in metrics if metric != 'is']
  return list(dict.fromkeys(wanted))


@dataclasses.dataclass(frozen=True)
class Figure:
  """A measured figure; `standard_error` is None where none is estimated."""
  metric: str
  value: float
  standard_error: float | None
  extra: dict = dataclasses.field(default_factory=dict)


class Progress:
  """Images of a Source done, images per second and time left, on stderr."""

  def __init__(self, source):
    self._progress = writers.Progress(source.n, label=f'{source.name} ', unit='images')
    self._compiled = False

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._progress.close()

  def show(self, done):
    """Show that `done` images are done; the first batch compiled the network and has no rate."""
    if not self._compiled:
      self._progress.restart(done)
    self._progress.show(done, force=not self._compiled)
    self._compiled = True


def identity(extractor):
  """What a figure in these features is a figure of."""
  return {'net': extractor.name, 'sha256': extractor.sha256, 'input_mode': extractor.input_mode}


def check_metrics(metrics, extractor, *sets):
  """Raise ValueError for metrics that are unknown or that the network does not have.

  And where one of `sets`, with `name` and `n`, has too few images for one of them.
  """
  unknown = [m for m in metrics if m not in METRICS]
  if unknown or not metrics:
    raise ValueError(f'unknown metric {unknown[0] if unknown else ""!r}; known: '
                     f'{", ".join(METRICS)}.')
  for metric in ('is', 'sfid'):
    if metric in metrics and not is_inception(extractor):
      raise ValueError(f'{metric} is made of the Inception network alone, got {extractor.name}; '
                       'use --features=inception_pytorch, or leave it out.')
  for metric, own in itertools.product(metrics, sets):
    if own.n < LEAST[metric]:
      raise ValueError(f'{metric} needs at least {LEAST[metric]} images, got {own.n} of '
                       f'{own.name}; take more, or leave it out.')


def is_inception(extractor):
  """Whether the network is Inception, of whatever weights."""
  return extractor.name.startswith('inception_')


def run(extractor, source, metrics=('fid',), *, groups=0, rows_folder=None, state_file=None,
        progress=None, device_batch=features.DEVICE_BATCH):
  """The `Pass` of an extractor over a `sources.Source`.

  `groups` are those of the moments (0: no error bars). Where `metrics` need the features they are
  mapped from a nameless file in `rows_folder`, which goes with the process, or kept in memory where
  it is None. With `state_file`, for moments alone, a run that was killed goes on where it last
  saved; a state of other images or another network raises ValueError. The caller deletes it, once
  what the pass leaves is written. Of several processes the first one saves, and all read what it
  saved: the file must lie where all of them see it, or ValueError is raised. `progress(done)` is
  called after every batch.
  """
  check_metrics(metrics, extractor, source)
  wanted = set(metrics)
  parallel.check_same('images, network and metrics', [
    identity(extractor), extractor.precision, sorted(wanted), source.name, source.split, source.n,
    source.listing])
  with parallel.together():
    own, done, sha256 = _restored(state_file, extractor, source, groups)
  _check_together(state_file, done)
  spatial = moments.Moments(groups) if 'sfid' in wanted else None
  score = inception_score.InceptionScore(source.n) if 'is' in wanted else None
  rows, start, saved, first = None, time.monotonic(), time.monotonic(), done
  for out in features.stream(extractor, source, start=done, device_batch=device_batch):
    block = out['features']
    own.add(block)
    if spatial is not None:
      spatial.add(out['spatial'])
    if score is not None:
      score.add(out['logits_unbiased'])
    if wanted & set(KEEP):
      rows = _rows(rows_folder, source.n, block) if rows is None else rows
      rows[done:done + len(block)] = block
    done += len(block)
    sha256 = sources.chained(sha256, out['image_sha256'])
    if progress:
      progress(done)
    if state_file and parallel.is_first() and time.monotonic() - saved > SAVE_SECONDS:
      own.save(state_file, identity=_state_identity(extractor, source), sha256=np.array(sha256))
      saved = time.monotonic()
  if own.n != source.n:
    raise ValueError(f'{source.name} announced {source.n} images, got {own.n}.')
  return Pass(own.n, sha256, own, spatial, score, rows, time.monotonic() - start, first)


def _check_together(state_file, done):
  """Raise ValueError, in every process, unless all of them go on from the same image."""
  starts = [int(start['done'][0]) for start in parallel.all_processes({'done': np.array([done])})]
  if len(set(starts)) > 1:
    raise ValueError(f'the processes must go on from one image, got {starts}: {state_file} must '
                     'lie in a folder that all of them see; write there.')


def _state_identity(extractor, source):
  state = identity(extractor) | {
    'precision': extractor.precision, 'name': source.name, 'split': source.split, 'n': source.n,
    'content': source.content}
  return np.array(json.dumps(state, sort_keys=True))


def _restored(state_file, extractor, source, groups):
  """(Moments, images done, their hash) of a state file, or the beginning where there is none."""
  if not state_file or not pathlib.Path(state_file).exists():
    return moments.Moments(groups), 0, ''
  try:
    kept = npz.read(state_file)
    found, found_groups = str(kept['identity']), int(kept['groups'])
    own, sha256 = moments.Moments.restore(kept), str(kept['sha256'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{state_file} is no state of a run that was cut ({error}); delete it to '
                     'begin anew.') from error
  wanted = str(_state_identity(extractor, source))
  if found != wanted or found_groups != groups:
    raise ValueError(f'{state_file} must be the state of {wanted}, got {found}; delete it, or '
                     'write to another file.')
  return own, own.n, sha256


def _rows(folder, n, block):
  shape = n, block.shape[1]
  if folder is None:
    return np.empty(shape, block.dtype)
  pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryFile(dir=folder) as file:   # the mapping keeps it alive
    files.reserve(file, shape[0] * shape[1] * block.dtype.itemsize)
    return np.memmap(file, block.dtype, 'r+', shape=shape)


def copies(own, seen, unseen):
  """[Figure] of how near samples are to the training images by features, `own` and `seen`.

  `unseen` are the distances of unseen images to their nearest training image.
  See `neighbours.Copies`. `extra` names the samples that are nearest to a training image, and which
  image it is.
  """
  found = neighbours.copies(own, seen, unseen)
  nearest = found.distances.argsort(kind='stable')[:10]
  extra = {'samples': nearest.tolist(), 'train_images': found.indices[nearest].tolist(),
           'distances': found.distances[nearest].tolist()}
  return [Figure('near_share', found.near_share, None, extra),
          Figure('far_share', found.far_share, None)]


# (with known weights of Inception, in other features)
NAMES = {'fid': ('fid', 'frechet'), 'frechet': ('fid', 'frechet'),
          'sfid': ('sfid', 'spatial_frechet'), 'kid': ('kid', 'kernel_distance'),
          'is': ('inception_score', 'class_score')}


def name_of(metric, extractor):
  """What a figure is called: by its proper name with Inception's known weights alone."""
  known = is_inception(extractor) and extractor.verified
  return NAMES[metric][0 if known else 1]


def check_reference(metrics, reference):
  """Raise ValueError where a `Reference` lacks what a metric needs."""
  for metric in metrics:
    if ((metric == 'sfid' and reference.spatial is None)
        or (metric in KEEP and reference.rows is None)):
      raise ValueError(f'{metric} needs the images of the reference, got their statistics alone; '
                       'pass images, or leave it out.')


def figures(metrics, a, b, extractor):
  """[Figure] of the images of pass `a` against the `Reference` b.

  Inception score is of `a` alone. A pass without groups gets nothing that is made by resampling. In
  other features than Inception's, or of weights that nobody knows, nothing is called FID, KID, sFID
  or inception score. Raises ValueError where b lacks what a metric needs.
  """
  check_reference(metrics, b)
  found = []
  for metric in metrics:
    if metric == 'fid':
      found.append(distance(name_of('fid', extractor), a.moments, b.statistics))
    elif metric == 'sfid':
      found.append(distance(name_of('sfid', extractor), a.spatial, b.spatial))
    elif metric == 'is':
      score = a.score.score()
      found.append(Figure(name_of('is', extractor), score.mean, None,
                          {'deviation': score.deviation}))
    elif metric == 'kid':
      found.append(_kid(name_of('kid', extractor), a.rows, b.rows, b.own_parts.get('kid'),
                        subsets=a.moments.groups > 0))
    else:
      shares = dataclasses.asdict(neighbours.manifolds(a.rows, b.rows, balls=b.own_parts.get('pr')))
      found += [Figure(name, shares[name], None)
                for name in ('precision', 'recall', 'density', 'coverage')]
  return found


def distance(name, own, reference):
  """The Fréchet `Figure` of moments against the `Statistics` of a reference.

  With groups it has a jackknife error and, in `extra`, the bias-corrected and the extrapolated
  value; the plain value comes first, because that is what papers compare. What takes more than
  moments shows how far it is.
  """
  if own.groups < 2 or own.n < 2 * own.groups:
    return Figure(name, frechet.frechet_distance(own.statistics(), reference), None)
  with contextlib.closing(_Distances(name, own.groups)) as progress:
    estimate = frechet.jackknife(own, reference, progress.show)
    extra = {'bias_corrected': estimate.bias_corrected}
    if own.groups >= 8:
      extra['extrapolated'] = frechet.extrapolated(
        own, reference, whole=estimate.value, progress=progress.show)
  return Figure(name, estimate.value, estimate.standard_error, extra)


class _Distances:
  """Progress over the distances of an error bar, on stderr, once they take more than moments."""

  def __init__(self, name, groups):
    self._total, self._done, self._name = frechet.distances_of(groups), 0, name
    self._start, self._progress = time.monotonic(), None

  def show(self, count):
    """`count` more are done."""
    self._done += count
    if self._progress is None and time.monotonic() - self._start > QUICK_SECONDS:
      self._progress = writers.Progress(self._total, self._done, f'error bar of {self._name} ',
                                        unit='distances')
    if self._progress:
      self._progress.show(self._done)

  def close(self):
    """End the line, if there is one."""
    if self._progress:
      self._progress.close()


def _kid(name, x, y, y_sums, subsets):
  """The KID `Figure`; the usual mean over subsets takes longer than the estimate from all pairs."""
  estimate, extra = kid.kid(x, y, y_sums), {}
  if subsets and min(len(x), len(y)) >= kid.SUBSET_SIZE:
    subsets = kid.kid_subsets(x, y)
    extra = {'subsets_mean': subsets.mean, 'subsets_deviation': subsets.deviation}
  return Figure(name, estimate.value, estimate.standard_error, extra)
