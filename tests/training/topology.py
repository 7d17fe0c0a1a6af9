"""A program for test_processes.py: trains workdirs on whatever devices and processes there are.

  python -m tests.training.topology --task=NAME --folder=DIR [--family=vae] [--coordinator=...]
"""
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import shutil
import threading
import warnings

import jax
import numpy as np
from absl import app, flags, logging

from mollification import build, check, files, metrics, parallel, processes
from mollification.training import checkpoint, loop, preemption, workdir
from tests.training import tiny

_TASK = flags.DEFINE_string('task', '', 'Name of a function below.')
_FOLDER = flags.DEFINE_string('folder', '', 'Where it works.')
_FAMILY = flags.DEFINE_string('family', 'vae', 'As `run` takes it.')

OPTIMIZERS = {
  '': {'optimizer__name': 'sgd', 'optimizer__learning_rate': 1e-5, 'optimizer__momentum': .9},
  'adam': {'optimizer__name': 'adam', 'optimizer__learning_rate': 1e-5, 'optimizer__eps': 1e-2}}


class StopAfter(preemption.Stop):
  """Asks to save and leave from its `calls`-th question on."""

  def __init__(self, calls):
    self._left = calls

  @property
  def requested(self):
    self._left -= 1
    return self._left <= 0


def run(family='vae', **changes):
  """Eight updates of a family of tiny.py, an average of the parameters kept, and the best of them.

  By SGD with momentum; of FAMILY-adam by Adam, whose `eps` is above rounding: with its own of 1e-8
  it makes full steps of gradients that are zero but for that (test_devices.py).
  """
  family, _, optimizer = family.partition('-')
  return tiny.run(family, ema_decay=.9, eval__best_metric='log_likelihood', mollify__fraction=.25,
                  log__stdout=False, **OPTIMIZERS[optimizer], **changes)


def leaves(state):
  """What of a state must agree: {part and number: array}, on the host."""
  return {f'{part}-{i}': np.asarray(a)
          for part in ('step', 'params', 'model_state', 'opt_state', 'ema_params')
          for i, a in enumerate(jax.tree.leaves(getattr(state, part)))}


def straight(folder, family):
  """Train `folder`/straight to its end."""
  return loop.train(run(family), folder / 'straight')


def cut(folder, family):
  """Train `folder`/cut and leave in the middle; its checkpoint is what is resumed."""
  return loop.train(run(family), folder / 'cut', stop=StopAfter(3))


def padded(folder, family):
  """Train `folder`/padded by calls of two updates; each third batch is half full.

  So the last of several processes has a part without any example then.
  """
  dataset = tiny.shortened(build.load_data(tiny.config(family)), 40)
  built = run(family, dataset=dataset, steps_per_call=2, log__every=2, data__remainder='pad')
  return loop.train(built, folder / 'padded')


class InEvaluation(preemption.Stop):
  """Asks the second process, in its first evaluation, to leave; counts the questions in it."""

  def __init__(self):
    self.asked = None   # no evaluation yet

  @property
  def requested(self):
    if self.asked is None:
      return False
    self.asked += 1
    return jax.process_index() == 1 and self.asked == 2


def halted(folder):
  """(Outcome, batches) of training `folder`/halted, which is left in its first evaluation."""
  built, stop = run(eval__batch_size=20), InEvaluation()   # 5 batches of 90 digits

  def evaluate(state):
    stop.asked = 0
    return built.evaluate(state)

  outcome = loop.train(dataclasses.replace(built, evaluate=evaluate), folder / 'halted', stop=stop)
  return outcome, stop.asked


def resume(folder, family):
  """Train `folder`/cut to its end."""
  return loop.train(run(family), folder / 'cut')


def resume_each(folder, family):
  """Train `folder`/cut-I to its end, for each I; the first process leaves its state in I.npz."""
  built = run(family)
  for path in sorted(folder.glob('cut-*')):
    outcome = loop.train(built, path)
    if parallel.is_first():
      np.savez(folder / path.name.replace('cut-', ''), **leaves(outcome.state))
  return outcome


def evaluating(folder, family):
  """Train `folder`/signalled until a signal comes in its first evaluation, which lasts."""
  return _until_signalled(folder, family, 'evaluate')


def drawing(folder, family):
  """Train `folder`/signalled until a signal comes while the first process draws, which lasts."""
  return _until_signalled(folder, family, 'sample')


def _until_signalled(folder, family, what):
  """In C, as a compiler is, where Python hears no signal; `folder`/begun-I says it is there."""
  def busy(state):
    del state
    (folder / f'begun-{jax.process_index()}').touch()
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)

  with preemption.Preemption() as stop:
    processes.introduce(stop)
    return loop.train(dataclasses.replace(_with_pictures(family), **{what: busy}),
                      folder / 'signalled', stop=stop)


def signalled(folder, family):
  """Train `folder`/signalled to its end."""
  return loop.train(_with_pictures(family), folder / 'signalled')


def _with_pictures(family):
  return run(family, checkpoint__every=0, eval__sample_every=4)


def endless(folder, family):
  """Train `folder`/endless until a notice comes; say how it ended."""
  config = tiny.config(family, total_steps=10**6, eval__every=0, checkpoint__every=0,
                       log__stdout=False)
  outcome = loop.train(build.build(config), folder / 'endless')
  (folder / f'reason-{jax.process_index()}').write_text(
    f'{outcome.reason} {int(outcome.state.step)}')
  return outcome


def everything(folder, family):
  """The tasks of the fast tier, so that one start of the processes does for all of them."""
  built, written, write = run(family), [], metrics.JsonlWriter.write
  metrics.JsonlWriter.write = lambda self, step, values: (
    written.append(step), write(self, step, values))
  batch = built.batch(0, 2)[0]
  np.save(folder / f'batch-{jax.process_index()}.npy', batch)
  outcome = loop.train(built, folder / 'straight')
  found = loop.train(built, folder / 'cut', stop=StopAfter(3))
  found_at = int(found.state.step)
  np.savez(folder / f'cut-{jax.process_index()}.npz', **leaves(found.state))
  resumed = loop.train(built, folder / 'cut')
  halt, batches = halted(folder)
  owed = tiny.rows(folder / 'halted')[-1]
  loop.train(built, folder / 'halted')
  (folder / f'said-{jax.process_index()}.json').write_text(json.dumps({
    'devices': jax.device_count(), 'written': written, 'reason': found.reason, 'cut': found_at,
    'halted': [halt.reason, int(halt.state.step), owed['step'], *_of_evaluation(owed)],
    'batches': batches,
    'of_first': parallel.of_first([jax.process_index(), 'ä']), 'together': _fail_in_one(),
    'late': _shown_late(folder, outcome.state), 'damaged': _damaged_in_one(folder, outcome.state),
    'short': _short_of_files_in_one(folder, outcome.state),
    'unlike': _never_shown(folder), 'apart': _apart(folder),
    'configs': [_differ('data.data_dir', str(jax.process_index())),
                _differ('optimizer.learning_rate', .1 * (1 + jax.process_index()))],
    'same': all(jax.tree.leaves(jax.tree.map(
      np.array_equal, leaves(outcome.state), leaves(resumed.state))))}))
  return outcome


def _of_evaluation(row):
  return [name for name in row if name.startswith('valid/')]


def _differ(key, value):
  """What the training binary says of configs that differ in a key."""
  config = tiny.config()
  config.update_from_flattened_dict({key: value})
  try:
    check.check_same(config)
  except ValueError as error:
    return str(error)
  return ''


def _fail_in_one():
  """What an error in the second process looks like in this one."""
  try:
    with parallel.together():
      if jax.process_index() == 1:
        raise ValueError('no data here')
  except (ValueError, RuntimeError) as error:
    return str(error)
  return ''


def _view(folder, name):
  """A copy of the checkpoints of `straight`: what this process is shown of a folder of all."""
  return shutil.copytree(folder / 'straight' / 'checkpoints',
                         folder / f'{name}-{jax.process_index()}' / 'checkpoints')


def _shown_late(folder, state):
  """[steps found, steps that a new one leaves] where the second sees step 8 two seconds late."""
  view = _view(folder, 'late')
  if jax.process_index() == 1:
    hidden = (view / '8').rename(view.parent / '8')
    threading.Timer(2., hidden.rename, (view / '8',)).start()
  with checkpoint.manager(view) as manager:
    found = sorted(manager.all_steps())
    checkpoint.save(manager, 8, state)   # in all processes or in none
    manager.delete(4)
    return [found, list(manager.all_steps())]


def _damaged_in_one(folder, state):
  """[step, warning, error] of reading the newest checkpoint, and step 8, which the second lacks."""
  view = _view(folder, 'damaged')
  if jax.process_index() == 1:
    for path in (view / '8' / 'state').glob('ocdbt.process_*/d/*'):
      path.unlink()
  with checkpoint.manager(view, read_only=True) as manager:
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      step, _ = checkpoint.restore(manager, state)
    said = [str(one.message) for one in caught if one.category is UserWarning]
    try:
      checkpoint.restore(manager, state, 8)
    except ValueError as error:
      return [step, said, str(error)]


def _short_of_files_in_one(folder, state):
  """What reading checkpoints says where the second process may open no more files."""
  read = checkpoint._state_and_digest
  if jax.process_index() == 1:
    checkpoint._state_and_digest = _no_more_files
  with checkpoint.manager(_view(folder, 'short'), read_only=True) as manager:
    try:
      checkpoint.restore(manager, state)
    except (OSError, RuntimeError) as error:
      return f'{type(error).__name__}: {error}'
    finally:
      checkpoint._state_and_digest = read


def _no_more_files(*args):
  raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _never_shown(folder):
  """What opening checkpoints says where the second process is not shown all of them."""
  view, files.LOOKS = _view(folder, 'unlike'), 2
  if jax.process_index() == 1:
    shutil.rmtree(view / '8')
  try:
    checkpoint.manager(view)
  except ValueError as error:
    return str(error)


def _apart(folder):
  """What each says of a folder of all, and of folders of their own where each has had a run."""
  own = folder / f'apart-{jax.process_index()}'
  shutil.copytree(folder / 'straight', own)
  said = []
  for shared in folder / 'straight', own:
    try:
      workdir.check_shared(shared)
      said.append('')
    except (ValueError, RuntimeError) as error:
      said.append(str(error))
    said.append([path.name for path in shared.glob('.shared-*')])
  return said


def main(argv):
  """Run the task; the first process leaves the final state in `folder`/TASK.npz."""
  del argv
  logging.set_verbosity(logging.ERROR)
  processes.join(preemption.Stop())
  folder = pathlib.Path(_FOLDER.value)
  outcome = globals()[_TASK.value](folder, _FAMILY.value)
  if parallel.is_first():
    np.savez(folder / f'{_TASK.value}.npz', **leaves(outcome.state))


if __name__ == '__main__':
  app.run(main)
