"""Image arrays written once to disk and memory-mapped ever after, each file with its sha256.

A cache is a folder: `<split>.npy` (uint8 [N, H, W, C]), `<split>.labels.npy` (int32 [N]) where
there are labels, `meta.json`, which has a sha256 of its own, and `stamp.json`. It is built beside
its place and renamed into it, under a lock, so it is complete or absent whoever writes at the same
time.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import uuid
import warnings

import numpy as np

from mollification import files
from mollification.data import dataset

FORMAT = 1  # a cache of another format is built anew
# Files up to this size are hashed on every load (about 0.2 s). Larger ones are hashed as they are
# written, and on the first load after they were copied or changed; between, size and modification
# time stand in (stamp.json), and bits that a disk loses are not seen.
VERIFY_BYTES = 200_000_000
_BUILDING = '.building-'
_FILES = re.compile(r'(train|validation|test)(\.labels)?\.npy')


def root(cache_dir):
  """Path of the cache: `cache_dir`, or `mollification` in $XDG_CACHE_HOME or ~/.cache if ''."""
  if str(cache_dir):
    return pathlib.Path(cache_dir).expanduser()
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'mollification'


def _file_sha256(path):
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _stamp(path):
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def _write_json(path, content):
  with files.replacing(path) as part:
    part.write_text(json.dumps(content, indent=1, sort_keys=True) + '\n')


def _read_json(path):
  """The dict in a file; an empty one where there is none."""
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError):
    found = {}
  return found if isinstance(found, dict) else {}


def _meta_sha256(meta):
  """sha256 of all that meta.json says, but for this sha256 itself."""
  said = {key: value for key, value in meta.items() if key != 'sha256'}
  return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _meta_problem(meta):
  """What is wrong with what meta.json says, in words, or ''.

  That of a cache of before it had a sha256 must have what `read` needs, and fit itself.
  """
  if meta.get('format') != FORMAT:
    return f'meta.json is missing, unreadable or not of format {FORMAT}'
  if 'sha256' in meta:
    return '' if meta['sha256'] == _meta_sha256(meta) else 'meta.json is not what was written'
  try:
    fits = _fits(meta['carve'], meta['files'], meta['splits'])
  except (AttributeError, KeyError, TypeError):
    fits = False
  return '' if fits else 'meta.json is damaged'


def _fits(carve, arrays, splits):
  """Whether the splits have the sizes that `carve` gives them, and their files are described."""
  n = {name: split['n'] for name, split in splits.items() if split['sha256']}
  whole = n.get('full_train', 0) if carve else n['train']
  described = {name for name, entry in arrays.items() if entry['sha256'] and entry['bytes']}
  needed = {'train.npy', 'test.npy', *([] if carve else ['validation.npy'])}
  return (isinstance(carve, int) and n['test'] > 0 and whole == n['train'] + carve
          and carve in (0, n['validation'])
          and needed <= described == set(arrays) and all(map(_FILES.fullmatch, arrays)))


def problem(folder):
  """What is wrong with the cache `folder`, in words, or '' if it is what was written."""
  meta, stamps = _read_json(folder / 'meta.json'), _read_json(folder / 'stamp.json')
  trouble = _meta_problem(meta)
  if trouble:
    return trouble
  current = {}
  for name, entry in meta['files'].items():
    path = folder / name
    if not path.exists() or path.stat().st_size != entry['bytes']:
      return f'{name} is missing or not {entry["bytes"]} bytes long'
    current[name] = _stamp(path)
    known = entry['bytes'] > VERIFY_BYTES and stamps.get(name) == current[name]
    if not known and _file_sha256(path) != entry['sha256']:
      return f'the sha256 of {name} is not that in meta.json'
  if stamps != current:
    with contextlib.suppress(OSError):  # a read-only cache is hashed every time
      _write_json(folder / 'stamp.json', current)
  return ''


def sound(folder):
  """Whether `folder` is there and has no `problem`; warns of one that has."""
  if not folder.exists():
    return False
  trouble = problem(folder)
  if trouble:
    warnings.warn(f'cache {folder}: {trouble}; it has to be built anew.', stacklevel=2)
  return not trouble


def _splits(folder, carve, known):
  """The Dataset fields train, validation, test, carved_from, as memory maps."""
  def open_split(name, file):
    labels = folder / f'{file}.labels.npy'
    known_labels = np.load(labels, allow_pickle=False) if labels.exists() else None
    x = np.load(folder / f'{file}.npy', mmap_mode='r', allow_pickle=False)
    return dataset.Split(name, x, known_labels, known.get(name, ''))

  def part(name, split, rows):
    labels = None if split.labels is None else split.labels[rows]
    return dataset.Split(name, split.x[rows], labels, known.get(name, ''))

  fields = {'test': open_split('test', 'test')}
  if not carve:
    return fields | {name: open_split(name, name) for name in ('train', 'validation')}
  full = open_split('full_train', 'train')
  return fields | {'train': part('train', full, slice(None, -carve)),
                   'validation': part('validation', full, slice(-carve, None)),
                   'carved_from': full}


def read(folder, name):
  """The Dataset (levels 256) in the cache `folder`, which must have no `problem`."""
  meta = json.loads((folder / 'meta.json').read_text())
  known = {split: entry['sha256'] for split, entry in meta['splits'].items()}
  return dataset.Dataset(name, **_splits(folder, meta['carve'], known), levels=256)


@contextlib.contextmanager
def locked(parent):
  """Holds `<parent>/.lock`: of many processes that miss a cache one builds it, the rest wait."""
  with open(parent / '.lock', 'w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _build(folder, write):
  """Fills a folder beside `folder`, describes it in its meta.json, and renames it into place."""
  for stale in folder.parent.glob(f'{_BUILDING}{folder.name}-*'):
    shutil.rmtree(stale)  # left by a process that was killed: we hold the lock
  temporary = folder.parent / f'{_BUILDING}{folder.name}-{uuid.uuid4().hex}'
  temporary.mkdir()
  try:
    meta = write(temporary)
    arrays = sorted(temporary.glob('*.npy'))
    for path in arrays:   # stamp.json is to vouch for them after a crash of the machine, too
      files.to_disk(path)
    fields = _splits(temporary, meta['carve'], {})
    meta['format'] = FORMAT
    meta['files'] = {p.name: {'bytes': p.stat().st_size, 'sha256': _file_sha256(p)} for p in arrays}
    meta['splits'] = {split.name: {'n': split.num_examples, 'shape': list(split.x.shape[1:]),
                                   'sha256': split.sha256} for split in fields.values()}
    meta['sha256'] = _meta_sha256(meta)
    _write_json(temporary / 'meta.json', meta)
    _write_json(temporary / 'stamp.json', {p.name: _stamp(p) for p in arrays})
    if folder.exists():
      shutil.rmtree(folder)
    os.replace(temporary, folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def ensure(folder, write):
  """`folder`, with a sound cache in it; `write(temporary folder) -> meta` where it must be built.

  `write` puts `train.npy` (and so on) into the folder that it is given, and returns a dict of
  JSON values with at least `carve`, the number of validation examples at the end of train (0:
  `validation.npy` is a file of its own). A damaged cache is built anew, with a warning.
  """
  if sound(folder):
    return folder
  folder.parent.mkdir(parents=True, exist_ok=True)
  with locked(folder.parent):
    # Another process may have built it while this one waited.
    if not folder.exists() or problem(folder):
      _build(folder, write)
  return folder
