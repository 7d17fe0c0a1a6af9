"""What of a config makes a run another one: what may change on resume, and what records are of."""
import importlib
import json

import pytest

from experiments import quickstart
from mollification.training import workdir


def _plain(arg=''):
  config = importlib.import_module('configs.digits_vae').get_config(arg)
  return json.loads(json.dumps(config.to_dict()))


def test_what_may_change_on_resume():
  check = lambda old, new: workdir.check_same_run(_plain(old), _plain(new), 'w')
  check('', 'log.every=100,eval.every=500,checkpoint.keep=9')
  check('mollify.steps=100', 'mollify.steps=100,total_steps=4000')
  check('', 'eval.batch_size=7,eval.num_samples=9,eval.patience=3')
  for old, new, words in [
      ('', 'seed=1', 'seed was 0, now 1'), ('', 'total_steps=4000', 'may only grow'),
      ('mollify.steps=100', 'mollify.steps=100,total_steps=1000', 'may only grow'),
      ('mollify.steps=1,optimizer.schedule=cosine',
       'mollify.steps=1,optimizer.schedule=cosine,total_steps=4000', 'may only grow'),
      ('mollify.steps=100,model.warmup=.5',
       'mollify.steps=100,model.warmup=.5,total_steps=4000', 'may only grow'),
      ('', "eval.best_metric=''", "best_metric was 'log_likelihood', now ''"),
      ('ema_decay=.9', 'ema_decay=.9,eval.params=ema', "params was 'raw', now 'ema'"),
      ('', 'eval.refresh_examples=9', 'refresh_examples was 10000, now 9'),
      ('', 'eval.valid_examples=9', 'valid_examples was 0, now 9'),
      ('', 'model.latent_dim=3', 'latent_dim was 16, now 3')]:
    with pytest.raises(ValueError, match=words):
      check(old, new)


def test_identity_ignores_logging_and_folders_but_no_more():
  base = workdir.identity(_plain())
  assert base == workdir.identity(_plain('log.every=100,data.data_dir=x,checkpoint.keep=1'))
  assert base != workdir.identity(_plain('mollify.fraction=.25'))
  assert base != workdir.identity(_plain('data.remainder=pad'))


def test_committed_records_are_of_the_configs_of_today():
  """Else nobody can rerun what README shows; see workdir.CAME_LATER."""
  found = sorted(quickstart.RESULTS.rglob('config.json'))
  assert len(found) == 12
  for path in found:
    model, arm, seed = path.parent.relative_to(quickstart.RESULTS).parts
    config = quickstart.config_of(model, arm, int(seed)).to_dict()
    workdir.check_same_run(json.loads(path.read_text()), json.loads(json.dumps(config)), path)


def test_a_key_that_came_later_leaves_older_runs_as_they_are(monkeypatch):
  old = _plain()
  new = lambda value: {**old, 'model': {**old['model'], 'gate': value}}
  before = workdir.identity(old)
  assert workdir.identity(new(0.)) != before
  with pytest.raises(ValueError, match=r"model\.gate was 'absent', now 0\.0"):
    workdir.check_same_run(old, new(0.), 'w')
  monkeypatch.setitem(workdir.CAME_LATER, 'model.gate', 0.)
  assert workdir.identity(new(0.)) == before
  workdir.check_same_run(old, new(0.), 'w')
  workdir.check_same_run(new(0.), old, 'w')
  assert workdir.identity(new(.1)) != before
  with pytest.raises(ValueError, match=r'model\.gate was 0\.0, now 0\.1'):
    workdir.check_same_run(old, new(.1), 'w')


def test_a_run_of_before_a_key_came_is_read_with_its_neutral_value(tmp_path):
  old = _plain()
  del old['mollify']['order']
  (tmp_path / 'config.json').write_text(json.dumps(old))
  assert workdir.read_config(tmp_path)['mollify']['order'] == 'falling'
  assert workdir.identity(workdir.read_config(tmp_path)) == workdir.identity(old)


def test_runs_of_before_evaluations_could_be_of_a_part_are_of_all(tmp_path):
  old = _plain()
  del old['eval']['valid_examples']
  workdir.check_same_run(old, _plain(), 'w')
  with pytest.raises(ValueError, match='valid_examples was 0, now 50'):
    workdir.check_same_run(old, _plain('eval.valid_examples=50'), 'w')
  (tmp_path / 'config.json').write_text(json.dumps(old))
  assert workdir.read_config(tmp_path)['eval']['valid_examples'] == 0
