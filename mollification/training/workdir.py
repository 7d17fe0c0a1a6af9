"""A run's folder: its lock, its config.json, and what may change on resume.

    config.json  checkpoints/  best/  metrics.jsonl  tensorboard/  records/*.json
    samples/*.png, and for VAEs reconstructions/*.png  interpolations/*.png
"""
import contextlib
import fcntl
import hashlib
import json
import pathlib
import time

from mollification import files

MAY_CHANGE = ('log', 'checkpoint', 'eval')
# Keys that came after records had been written -> the value at which all is as it was before: a run
# of then, which lacks the key, and one of now that leaves it there are the same run.
CAME_LATER = {}


@contextlib.contextmanager
def lock(workdir):
  """Hold the workdir while a process trains in it; raise RuntimeError where another one does.

  The lock is the kernel's (flock): it dies with the process, whatever kills it. Where an error
  leaves no run, its file goes again, and so does a new folder.
  """
  path = pathlib.Path(workdir)
  made, held = not path.exists(), (path / 'lock').exists()
  try:
    path.mkdir(parents=True, exist_ok=True)
    file = (path / 'lock').open('a')
  except OSError as error:
    raise PermissionError(f'workdir {path} cannot be written: {error.strerror}; choose another '
                          '--workdir.') from error
  with file:
    if not any(_lock(file) for _ in range(5)):
      raise RuntimeError(f'workdir {path} is in use by another training process; wait for it or '
                         'choose another --workdir.')
    try:
      yield path
    except BaseException:
      if not held and not (path / 'config.json').exists():
        (path / 'lock').unlink()
        if made and not any(path.iterdir()):
          path.rmdir()
      raise


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
  path = pathlib.Path(workdir) / 'lock'
  if not path.exists():
    return False
  with path.open() as file:
    try:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
  return False


def identity(config):
  """sha256 of the keys of a config (a plain dict) that must not change while a run goes on.

  Without those of `CAME_LATER` at their neutral value: what has been recorded stays valid.
  """
  flat = _flatten(config)
  kept = {key: value for key, value in flat.items()
          if not _may_change(key) and not _is_neutral(key, value)}
  if _independent_of_total(flat):
    del kept['total_steps']
  return hashlib.sha256(_dump(kept).encode()).hexdigest()


def read_config(workdir):
  """The config of the run in `workdir`, or None; raises ValueError on a damaged file."""
  path = pathlib.Path(workdir) / 'config.json'
  if not path.exists():
    return None
  try:
    config = json.loads(path.read_text())
  except ValueError as error:   # also what is no text
    raise ValueError(f'{path} is not JSON ({error}); restore it or choose another '
                     '--workdir.') from error
  if not isinstance(config, dict):
    raise ValueError(f'{path} holds a {type(config).__name__}, no config; restore it or choose '
                     'another --workdir.')
  return config


def claim(workdir, config):
  """Write config.json, after checking that what `workdir` holds is this very run.

  A folder with other files, or a run whose config differs in a key that shapes its result,
  raises ValueError and is left as it is.
  """
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
  with files.replacing(path / 'config.json') as part:
    part.write_text(_dump(config))


def check_same_run(old, new, workdir):
  """Raise ValueError where a key that shapes the result differs; both are plain dicts.

  Keys under log, checkpoint and eval may change, and where data lie. `total_steps` may grow where
  the updates already done would have been the same: the mollified phase is given in steps, or
  there is none, the learning rate is constant, and no KL weight warms up over a share of the total.
  """
  old, new = _flatten(old), _flatten(new)
  for key in sorted(old.keys() | new.keys()):
    before, after = (flat.get(key, CAME_LATER.get(key, 'absent')) for flat in (old, new))
    if before == after or _may_change(key):
      continue
    if key == 'total_steps' and after > before and _independent_of_total(new):
      continue
    way_out = ('choose another --workdir or give the old value' if key != 'total_steps' else
               'it may only grow, and only where mollify.steps is set (or nothing is mollified) '
               'and neither learning rate nor KL weight follow the total')
    raise ValueError(f'workdir {workdir} holds another run: {key} was {before!r}, now {after!r}; '
                     f'{way_out}.')


def _may_change(key):
  return (key.split('.')[0] in MAY_CHANGE or key == 'data.download'
          or (key.startswith('data.') and key.endswith('_dir')))


def _is_neutral(key, value):
  return key in CAME_LATER and value == CAME_LATER[key]


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
