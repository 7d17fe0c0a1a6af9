"""Records: one JSON file per measured figure. Tables and figures are drawn from these only."""
import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
import re

import jax

from mollification import files, metrics

PARAMS = ('raw', 'ema')
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'mollification')
REFERENCE_KEYS = {'dataset', 'split', 'n', 'sha256'}
FEATURES_KEYS = {'net', 'sha256', 'input_mode', 'quantisation'}
# How `metrics.jsonable` writes what JSON has no number for.
_NONFINITE = {'nan': math.nan, 'inf': math.inf, '-inf': -math.inf}
_WORD = re.compile(r'[A-Za-z0-9_.]+')


def versions():
  """Versions of everything that a figure may depend on; None where a package is not installed."""
  found = {'python': platform.python_version()}
  for package in PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  return found


def device():
  """What the figure was computed on, e.g. 'cpu x 4'."""
  return f'{jax.local_devices()[0].device_kind} x {jax.device_count()}'


@dataclasses.dataclass(frozen=True)
class Record:
  """A measured figure and all that it takes to know what it is a figure of.

  `metric` is a word such as 'bits_per_dim'; `unit` 'nats', 'bits/dim', ...; `n` counts examples or
  samples; `reference` has dataset, split, n, sha256; `features` net, sha256, input_mode,
  quantisation, or is None; `settings` are those of the evaluation; `exact` says whether the value
  is exact or a bound, None where the question does not arise. `value` may be NaN or infinite.
  Raises ValueError for anything else.
  """
  metric: str
  value: float
  standard_error: float | None
  n: int
  unit: str
  reference: dict
  params: str
  step: int
  seed: int
  config_sha256: str
  seconds: float
  features: dict | None = None
  exact: bool | None = None
  settings: dict = dataclasses.field(default_factory=dict)
  versions: dict = dataclasses.field(default_factory=versions)
  device: str = dataclasses.field(default_factory=device)
  extra: dict = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_keys('reference', self.reference, REFERENCE_KEYS)
    if self.features is not None:
      _check_keys('features', self.features, FEATURES_KEYS)
    if self.params not in PARAMS:
      raise ValueError(f'params must be one of {PARAMS}, got {self.params!r}.')
    for name, word in (('metric', self.metric), ('reference.split', self.reference['split'])):
      if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise ValueError(f'{name} becomes part of a file name: letters, digits, "_" and "." only, '
                         f'got {word!r}.')
    for name, low in (('n', 1), ('step', 0)):
      value = getattr(self, name)
      if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f'{name} must be an int from {low}, got {value!r}.')
    if not isinstance(self.config_sha256, str) or not self.config_sha256:
      raise ValueError(f'config_sha256 must be a hash, got {self.config_sha256!r}.')
    if self.exact not in (None, True, False):
      raise ValueError(f'exact must be True, False (a bound) or None, got {self.exact!r}.')

  @property
  def file_name(self):
    """'FIGURE-STEP.json', sorted by step within a figure."""
    return f'{self.figure}-{self.step:09d}.json'

  @property
  def figure(self):
    """'METRIC-SPLIT-PARAMS-nN', and '-NET' for one in features: what a curve over steps is of."""
    net = f'-{self.features["net"]}' if self.features else ''
    return f'{self.metric}-{self.reference["split"]}-{self.params}-n{self.n}{net}'


def write(record, folder):
  """Write `record` into `folder` in one move; returns the path.

  Measuring the same figure again replaces its record. A file of that name that describes another
  figure (config, seed, reference data, feature net or settings differ) is never overwritten:
  ValueError.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  holds(record, folder)
  path = folder / record.file_name
  fields = metrics.jsonable(dataclasses.asdict(record))
  text = json.dumps(fields, indent=1, sort_keys=True, allow_nan=False)
  with files.replacing(path) as part:
    part.write_text(text + '\n')
  return path


def holds(record, folder):
  """Whether `folder` has a record of the figure of `record` at its step, whatever its value.

  Raises ValueError as `write` does where one of another figure is in its place.
  """
  path = pathlib.Path(folder) / record.file_name
  if not path.exists():
    return False
  _check_same(path, read(path), record)
  return True


def read(path):
  """The Record in `path`; ValueError that names the file where it does not hold one."""
  path = pathlib.Path(path)
  try:
    fields = json.loads(path.read_text())
    if not isinstance(fields, dict):
      raise ValueError(f'a record must be a JSON object, got {type(fields).__name__}')
    _check_keys('a record', fields, {f.name for f in dataclasses.fields(Record)})
    for name in ('value', 'standard_error', 'seconds', 'extra'):
      fields[name] = _numbers(fields[name])
      wanted = {'extra': dict, 'standard_error': (int, float, type(None))}.get(name, (int, float))
      if not isinstance(fields[name], wanted):
        kind = 'an object' if name == 'extra' else 'a number'
        raise ValueError(f'{name} must be {kind}, got {fields[name]!r}')
    return Record(**fields)
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(f'{path} is not a record: {error}') from error


def read_all(folder):
  """Records of all *.json in `folder`, sorted by file name; ValueError names a malformed file."""
  return [read(path) for path in sorted(pathlib.Path(folder).glob('*.json'))]


def last_written(folder):
  """{figure: when a record of it was last written}, nanoseconds, of all *.json in `folder`."""
  newest = {}
  for path in sorted(pathlib.Path(folder).glob('*.json')):
    figure = read(path).figure
    newest[figure] = max(newest.get(figure, 0), path.stat().st_mtime_ns)
  return newest


def _check_keys(what, found, wanted):
  if not isinstance(found, dict) or set(found) != wanted:
    keys = sorted(found) if isinstance(found, dict) else found
    raise ValueError(f'{what} must have exactly the keys {sorted(wanted)}, got {keys!r}.')


def _identity(record):
  features = record.features or {}
  return {
    'config_sha256': record.config_sha256, 'seed': record.seed,
    **{f'reference.{key}': record.reference[key] for key in sorted(REFERENCE_KEYS)},
    **{f'features.{key}': features.get(key) for key in sorted(FEATURES_KEYS)},
    **{f'settings.{key}': value for key, value in record.settings.items()}}


def _check_same(path, old, new):
  old, new = _identity(old), _identity(new)
  for name, value in new.items():
    if old.get(name) != value:
      raise ValueError(f'{path} holds a record with another {name}: {old.get(name)!r}, new '
                       f'{value!r}; move the old one away.')


def _numbers(value):
  if isinstance(value, dict):
    return {k: _numbers(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_numbers(v) for v in value]
  return _NONFINITE.get(value, value) if isinstance(value, str) else value
