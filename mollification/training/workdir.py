"""A run's folder: its lock, its config.json, and what may change on resume.

    config.json  data.json  checkpoints/  best/  metrics.jsonl  tensorboard/
    records/*.json  samples/*.png, and for VAEs reconstructions/*.png  interpolations/*.png
    ended, where the run is over before its last update

Of several processes that train together the first alone locks, checks and claims it.
"""
import contextlib
import fcntl
import hashlib
import json
import math
import pathlib
import time
import uuid

from mollification import files, parallel

MAY_CHANGE = ('log', 'checkpoint', 'eval')
# But not these: the scores of a run, of which the best is kept, would be of different things.
SCORED_BY = ('eval.best_metric', 'eval.params', 'eval.refresh', 'eval.refresh_examples',
             'eval.refresh_batch_size', 'eval.valid_examples')
# Keys that came after records had been written -> the value at which all is as it was before: a run
# of then, which lacks the key, and one of now that leaves it there are the same run.
CAME_LATER = {'mollify.order': 'falling', 'data.intrinsic': 0, 'data.ambient': 0,
              'data.curvature': 0., 'data.noise': 0., 'model.inverse_error': 0,
              'model.through_forces': True, 'model.dropout': 0., 'model.level_condition': False,
              'mollify.spread': 'none', 'mollify.denoise': False, 'log.watchdog': 0.,
              'eval.valid_examples': 0}
# The same, of keys that other models had from the start.
CAME_LATER_TO = {'realnvp_image': {'model.classes': 0, 'model.memory': 'store',
                                   'model.skips': False, 'model.double_at_squeeze': False,
                                   'model.ordered_split': False},
                 'glow': {'model.min_scale': 0.},
                 **{model: {'model.dtype': 'float32'}
                    for model in ('vae', 'vae_iaf', 'hvae', 'nvae', 'realnvp_tabular',
                                  'glow_tabular')}}


class InUse(RuntimeError):
  """Another process trains in the workdir."""


@contextlib.contextmanager
def lock(workdir):
  """Hold the workdir while a process trains in it; raise InUse where another one does.

  The lock is the kernel's (flock): it dies with the process, whatever kills it. Where an error
  leaves no run, its file goes again, and so does a new folder.
  """
  path = pathlib.Path(workdir)
  if not parallel.is_first():
    yield path
    return
  made, held = not path.exists(), (path / 'lock').exists()
  try:
    file = _acquired(path)
  except OSError as error:
    raise PermissionError(f'workdir {path} cannot be written: {error.strerror}; choose another '
                          '--workdir.') from error
  if file is None:
    raise InUse(f'workdir {path} is in use by another training process; wait for it or choose '
                'another --workdir (or give --distributed=auto to all of them, if they are to '
                'train one run together).')
  with file:
    try:
      yield path
    except BaseException:
      if not held and not (path / 'config.json').exists():
        (path / 'lock').unlink()
        if made and not any(path.iterdir()):
          path.rmdir()
      raise


def _acquired(path):
  """The lock file of the folder `path`, open and held; None where another process holds it."""
  for _ in range(5):
    path.mkdir(parents=True, exist_ok=True)
    file = (path / 'lock').open('a')
    # A refused run takes its lock file away: nobody else would find the one that is held then.
    if _lock(file) and files.is_at(file, path / 'lock'):
      return file
    file.close()
  return None


def _lock(file):
  """Whether the lock was had; if not, after a moment, since `in_use` holds it for one."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
  except BlockingIOError:
    time.sleep(.05)
    return False


def in_use(workdir):
  """Whether a process trains in `workdir` at present."""
  try:   # at once: a refused run takes its lock file away
    with (pathlib.Path(workdir) / 'lock').open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except (FileNotFoundError, NotADirectoryError):
    return False
  return False


def end(workdir, reason):
  """Leave a word that the run is over before its last update, and why: nobody need wait for it."""
  with contextlib.suppress(OSError):   # of a full disk, say: then somebody waits, and no more
    (pathlib.Path(workdir) / 'ended').write_text(f'{reason}\n')


def go_on(workdir):
  """Take that word away: the run goes on, with more patience, say."""
  (pathlib.Path(workdir) / 'ended').unlink(missing_ok=True)


def has_ended(workdir):
  """Whether the run is over before its last update."""
  return (pathlib.Path(workdir) / 'ended').exists()


def identity(config):
  """sha256 of the keys of a config (a plain dict) that must not change while a run goes on.

  Without those that came later at their neutral value: what has been recorded stays valid.
  """
  flat = _flatten(config)
  kept = {key: value for key, value in flat.items()
          if not _may_change(key) and not _is_neutral(flat, key, value)}
  if _independent_of_total(flat):
    del kept['total_steps']
  return hashlib.sha256(_dump(kept).encode()).hexdigest()


def read_config(workdir):
  """The config of the run in `workdir`, or None; raises ValueError on a damaged file.

  Keys that came later have their neutral values in it; a model's options have defaults for that.
  """
  path = pathlib.Path(workdir) / 'config.json'
  config = _read_dict(path)
  for key, value in CAME_LATER.items():
    group, _, name = key.partition('.')
    if config is not None and group != 'model' and group in config:
      if not isinstance(config[group], dict):
        raise ValueError(f'{path} has {group} = {config[group]!r:.40}, not the keys of that group; '
                         'restore it or choose another --workdir.')
      config[group].setdefault(name, value)
  return config


def _read_dict(path):
  if not path.exists():
    return None
  try:
    content = json.loads(path.read_text())
  except (ValueError, RecursionError) as error:   # also what is no text
    raise ValueError(f'{path} is not JSON ({error}); restore it or choose another '
                     '--workdir.') from error
  if not isinstance(content, dict):
    raise ValueError(f'{path} holds a {type(content).__name__}, no {path.stem}; restore it or '
                     'choose another --workdir.')
  return content


def claim(workdir, config, data):
  """Write config.json and data.json, after checking that what `workdir` holds is this very run.

  `data` is {split: dataset.summary}. A folder with other files, a run whose config differs in a key
  that shapes its result, or one of other data raises ValueError and is left as it is.
  """
  if not parallel.is_first():
    return
  path = pathlib.Path(workdir)
  check(path, config)
  check_data(path, data)
  for name, content in (('config.json', config), ('data.json', data)):
    with files.replacing(path / name) as part:
      part.write_text(_dump(content))


def check_shared(workdir):
  """Raise an error in all processes where one does not see what the first writes into `workdir`.

  ValueError in that one; all must call this, once the folder is there. A file system may show a new
  file to others late. What a folder of this host alone holds, of an earlier run say, is no sign.
  """
  if not parallel.several():
    return
  mark = pathlib.Path(workdir) / f'.shared-{parallel.of_first(uuid.uuid4().hex)}'
  parallel.by_first(mark.touch)
  try:
    with parallel.together():
      _wait_for(mark)
  finally:
    if parallel.is_first():   # those of starts that were killed here, too
      for old in mark.parent.glob('.shared-*'):
        old.unlink(missing_ok=True)


def _wait_for(mark):
  for look in range(files.LOOKS):
    if mark.exists():
      return
    time.sleep(min(look, 1))
  raise ValueError(f'{mark}, which the first process has written, is not there for this one: all '
                   'processes of a run need one folder that all see; give it as --workdir.')


def local(workdir):
  """The Path of a folder as it is given; ValueError for one that no file system here has."""
  if '://' in str(workdir):
    raise ValueError(f'workdir {workdir} is no folder of a file system; give one that all '
                     'processes see and that has locks, as NFS or Lustre do.')
  return pathlib.Path(workdir).expanduser()


def check(workdir, config):
  """Raise ValueError unless `workdir` is empty or holds the run of `config`, a plain dict."""
  if not parallel.is_first():
    return
  path = pathlib.Path(workdir)
  old = read_config(path)
  if old is None:
    strangers = sorted(p.name for p in path.iterdir()
                       if p.name != 'lock' and not p.name.startswith('.config.json.'))
    if strangers:
      raise ValueError(f'workdir {path} is not empty and holds no run (found {strangers[0]}); '
                       'choose a new folder.')
  else:
    check_same_run(old, json.loads(_dump(config)), path)


def check_data(workdir, data):
  """Raise ValueError where the run in `workdir` was of other data than {split: dataset.summary}.

  A folder of data may move, so its name says nothing; of runs from before data.json nothing is
  known.
  """
  path = pathlib.Path(workdir) / 'data.json'
  old = _read_dict(path) or {}
  for split in data:
    if split in old and not _is_summary(old[split]):
      raise ValueError(f'{path} does not describe the {split} split; restore it or choose another '
                       '--workdir.')
    if split in old and not _alike(old[split], data[split]):
      raise ValueError(f'workdir {workdir} holds a run of other data: its {split} split had shape '
                       f'{old[split]["shape"]}, that of now {data[split]["shape"]}, or other '
                       'values; give the data of then (data.data_dir), or choose another '
                       '--workdir.')


def check_data_of_first(first, own):
  """Raise ValueError where a process has other data than the first; both {split: summary}."""
  for split in sorted(first.keys() | own.keys()):
    if split not in first or split not in own or not _alike(first[split], own[split]):
      shapes = [found.get(split, {}).get('shape') for found in (first, own)]
      raise ValueError(f'all processes must have the same data: the {split} split of the first has '
                       f'shape {shapes[0]}, that of this one {shapes[1]}, or other values; give '
                       'all of them the same files (data.data_dir) and package.')


def _is_summary(found):
  """Whether what a file holds has the form of a `dataset.summary`."""
  return (isinstance(found, dict) and {'shape', 'dtype', 'means'} <= set(found)
          and isinstance(found['means'], list)
          and all(isinstance(mean, float) for mean in found['means']))


def _alike(a, b):
  """Whether two summaries are of the same data; means agree to what machines differ by."""
  sizes = [(s['shape'], s['dtype'], len(s['means'])) for s in (a, b)]
  return sizes[0] == sizes[1] and all(
    math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-4) for x, y in zip(a['means'], b['means']))


def check_same_run(old, new, workdir):
  """Raise ValueError where a key that shapes the result differs; both are plain dicts.

  Keys under log, checkpoint and eval may change but for `SCORED_BY`, and where data lie.
  `total_steps` may grow where the updates already done would have been the same: the mollified
  phase is given in steps, or there is none, the learning rate is constant, and no KL weight warms
  up over a share of the total.
  """
  old, new = _flatten(old), _flatten(new)
  for key in sorted(old.keys() | new.keys()):
    before, after = (flat.get(key, _came_later(flat).get(key, 'absent')) for flat in (old, new))
    if before == after or (_may_change(key) and key not in SCORED_BY):
      continue
    if key == 'total_steps' and _grew(before, after) and _independent_of_total(new):
      continue
    way_out = ('choose another --workdir or give the old value' if key != 'total_steps' else
               'it may only grow, and only where mollify.steps is set (or nothing is mollified) '
               'and neither learning rate nor KL weight follow the total')
    raise ValueError(f'workdir {workdir} holds another run: {key} was {before!r}, now {after!r}; '
                     f'{way_out}.')


def is_same_run(old, new):
  """Whether two configs (plain dicts) have one `identity` and their runs are scored alike."""
  flats = [_came_later(flat) | flat for flat in map(_flatten, (old, new))]
  return identity(old) == identity(new) and all(
    len({repr(flat.get(key)) for flat in flats}) == 1 for key in SCORED_BY)


def _grew(before, after):
  return isinstance(before, int) and isinstance(after, int) and after > before


def _may_change(key):
  return (key.split('.')[0] in MAY_CHANGE or key == 'data.download'
          or (key.startswith('data.') and key.endswith('_dir')))


def _came_later(flat):
  return CAME_LATER | CAME_LATER_TO.get(str(flat.get('model.name')), {})


def _is_neutral(flat, key, value):
  later = _came_later(flat)
  return key in later and value == later[key]


def _independent_of_total(flat):
  """Whether update n is the same in a longer run."""
  phase = (flat['mollify.steps'] >= 0 or flat['mollify.fraction'] == 0
           or flat['mollify.schedule'] == 'none')
  warms_up = 'model.warmup' in flat and flat['model.warmup'] > 0   # a share of the total
  return phase and flat['optimizer.schedule'] == 'constant' and not warms_up


def _flatten(tree, prefix=''):
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(_flatten(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat


def _dump(config):
  return json.dumps(config, indent=2, sort_keys=True) + '\n'
