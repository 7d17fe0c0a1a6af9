"""Statistics of features in npz files, which pytorch-fid reads, and what they are statistics of."""
import json
import pathlib
import zipfile

import numpy as np

from mollification import files, npz
from mollification.evaluation.frechet import Statistics

IDENTITY = ('net', 'sha256', 'input_mode')


def write(path, statistics, meta):
  """Write mu, sigma (divisor n - 1), n and `meta` (what JSON holds), in one move."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part, part.open('wb') as file:
    np.savez(file, mu=statistics.mean, sigma=statistics.cov, n=np.int64(statistics.n),
             meta=np.array(json.dumps(meta, sort_keys=True)))


def is_statistics(path):
  """Whether the file at `path` is an npz with mu and sigma."""
  return {'mu.npy', 'sigma.npy'} <= _members(path)


def has_images(path):
  """Whether an npz holds images beside the statistics, as guided-diffusion's references do."""
  return 'arr_0.npy' in _members(path)


def _members(path):
  """Names of what is in an npz; of what is none, nothing."""
  path = pathlib.Path(path).expanduser()
  try:
    with zipfile.ZipFile(path) as archive:
      return set(archive.namelist()) if path.suffix.lower() == '.npz' else set()
  except (OSError, zipfile.BadZipFile):
    return set()


def read(path):
  """(Statistics, meta) of an npz; `n` and meta are None in files of pytorch-fid.

  Raises ValueError for what holds no statistics. Nothing is unpickled.
  """
  try:
    found = npz.read(pathlib.Path(path).expanduser(), ('mu', 'sigma', 'n', 'meta'))
    mean, cov = (np.asarray(found[name], np.float64) for name in ('mu', 'sigma'))
    n = int(found['n']) if 'n' in found else None
    meta = json.loads(str(found['meta'])) if 'meta' in found else None
    if meta is not None and not set(IDENTITY) <= set(meta['features']):
      raise ValueError(f'its meta must name {", ".join(IDENTITY)} of the features, got '
                       f'{sorted(meta["features"])}')
    if meta is not None and not {'name', 'n'} <= set(meta):
      raise ValueError(f'its meta must have name and n, got {sorted(meta)}')
    return Statistics(n, mean, cov), meta
  except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise ValueError(f'{path} holds no statistics: {error}; an npz with mu [d] and sigma [d, d] is '
                     'wanted, as `stats` writes.') from error


def read_spatial(path):
  """`Statistics` of spatial features, for sFID, of an npz that has them as guided-diffusion's do.

  None of one that has not.
  """
  names = ('mu_s', 'sigma_s')
  try:
    found = npz.read(pathlib.Path(path).expanduser(), names)
    if len(found) < len(names):
      return None
    return Statistics(None, *(np.asarray(found[name], np.float64) for name in names))
  except ValueError as error:
    raise ValueError(f'{path} holds no spatial statistics: {error}; mend it, or leave sfid '
                     'out.') from error


def check(path, meta, extractor_identity, precision):
  """Raise ValueError where `meta` names other features than {'net', 'sha256', 'input_mode'}.

  Returns notes: on files that do not say what they are statistics of, and on features of another
  `precision`, whose rounding differs.
  """
  if meta is None:
    return [f'{path} does not say which network, weights and resizing it is of; taken to be of '
            f'{extractor_identity["net"]}']
  for key in IDENTITY:
    if meta['features'][key] != extractor_identity[key]:
      raise ValueError(f'{path} must be of features with {key} {extractor_identity[key]!r}, got '
                       f'{meta["features"][key]!r}; make it anew with `stats`, or choose '
                       '--features and --weights to match.')
  kept = meta.get('precision', 'float32')   # which older files do not say
  return [] if kept == precision else [f'{path} is of {kept} features, the others are {precision}']
