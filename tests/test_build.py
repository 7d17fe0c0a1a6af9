"""What a config's values become: the phase, preparation, the sizes and parts of evaluations."""
import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import build, check
from mollification.evaluation import likelihood
from tests.models.support import jit


def test_smoke_keeps_accumulation_where_it_can():
  get_config = importlib.import_module('configs.digits_vae').get_config
  for accumulate, kept in ((1, 1), (4, 4), (16, 8)):
    config = build.smoke(get_config(f'accumulate={accumulate}'))
    assert config.accumulate == kept
    build.build(config)


def test_an_evaluation_of_some_examples_is_the_mean_over_them():
  """Of a RealNVP without noise: of those examples alone, each as in the whole split."""
  get_config = importlib.import_module('configs.digits_realnvp').get_config
  whole, part, more = (build.build(get_config(f'eval.valid_examples={n}')) for n in (0, 7, 999))
  state = whole.create_state()
  assert part.evaluate(state)['log_likelihood'] != whole.evaluate(state)['log_likelihood']
  assert more.evaluate(state) == whole.evaluate(state)
  assert part.evaluate(state)['log_likelihood_sem'] > 3 * whole.evaluate(state)[
    'log_likelihood_sem']


def test_a_sweep_evaluates_on_all_that_is_held_out():
  config = importlib.import_module('configs.uci_redwine_maf').get_config('eval.valid_examples=9')
  with pytest.raises(ValueError, match=r'all of its validation data, got eval\.valid_examples 9'):
    check.check_sweep([config])


def test_the_levels_of_the_phase_come_in_the_order_of_the_config():
  """Of the whole schedule: scale and epochs included, and another shuffle for another seed."""
  get_config = importlib.import_module('configs.digits_vae').get_config
  of = lambda arg: np.asarray(build.schedule(get_config(
    'mollify.granularity=epoch,mollify.scale=.5,mollify.steps=100' + arg), 9)(np.arange(110)))
  falling, shuffled = of(''), of(',mollify.order=shuffled')
  np.testing.assert_array_equal(of(',mollify.order=rising')[:100], falling[99::-1])
  np.testing.assert_array_equal(np.sort(shuffled[:100]), np.sort(falling[:100]))
  assert (shuffled != of(',mollify.order=shuffled,seed=1')).any()
  assert (shuffled[100:] == 0).all()


def test_mollified_steps():
  steps = lambda arg: build.mollified_steps(
    importlib.import_module('configs.digits_vae').get_config(arg))
  assert steps('mollify.fraction=.25') == 300
  assert steps('mollify.fraction=0') == 0
  assert steps('mollify.steps=30,mollify.fraction=.25') == 30


def test_evaluation_prepares_as_training_does_but_never_flips():
  config = importlib.import_module('configs.digits_vae').get_config(
    'prepare.flip=True,prepare.low=0.,prepare.logit_alpha=.05')
  training = build.prepare_fn(config, 17)
  evaluation = build.build_evaluation(config).prepare
  assert training.flip
  assert evaluation == dataclasses.replace(training, flip=False)


def test_importance_weights_take_the_memory_of_an_evaluation():
  """Examples times draws at a time are as many rows as there are examples in other evaluations."""
  config = importlib.import_module('configs.digits_vae').get_config(
    'eval.importance_samples=80,eval.importance_chunk=20,eval.batch_size=400')
  net = build.model(config, (8, 8, 1))
  examples = lambda n: jax.ShapeDtypeStruct((n, 8, 8, 1), jnp.float32)
  variables = jax.eval_shape(lambda x: net.init(
    jax.random.key(0), x, jax.random.key(1), train=True, method='loss'), examples(1))

  def bytes_of(n, **options):
    bound = jit(lambda variables, x: net.apply(variables, x, jax.random.key(2), **options))
    analysis = bound.lower(variables, examples(n)).compile().memory_analysis()
    return analysis.temp_size_in_bytes
  limit = bytes_of(400, method='log_likelihood')
  assert build.importance_batch(config) == 20
  weighted = lambda n: bytes_of(n, num_samples=80, chunk=20, method='importance_bound')
  assert weighted(20) < 1.5 * limit
  assert weighted(400) > 3 * limit


@pytest.mark.parametrize('arg, batch', [
  ('', 25), ('eval.importance_samples=4', 64), ('eval.batch_size=9', 1),
  ('eval.importance_chunk=0', 1)])
def test_a_call_of_importance_weights_has_an_example_at_least(arg, batch, monkeypatch):
  config = importlib.import_module('configs.digits_vae').get_config(arg)
  real, sizes = likelihood.make_evaluator, []
  monkeypatch.setattr(likelihood, 'make_evaluator', lambda fn, prepare, batch_size: sizes.append(
    batch_size) or real(fn, prepare, batch_size=batch_size))
  build.build_evaluation(config)
  assert sizes == [config.eval.batch_size, batch]


def test_the_phase_ends_where_it_ends_also_by_epoch():
  """9 updates an epoch: update 600 is within the 67th, which began while mollified."""
  config = importlib.import_module('configs.digits_vae').get_config(
    'mollify.granularity=epoch,mollify.steps=600')
  level = build.schedule(config, 9)
  assert float(level(599)) == float(level(594)) > 0
  assert float(level(600)) == 0
