"""Promise 8: every config traces, its step lowers for TPU and CUDA, one smoke step runs."""
import csv
import dataclasses
import importlib
import json
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from experiments import quickstart
from mollification import build, check, data, models, rng
from mollification.evaluation import likelihood
from mollification.training import workdir
from tests.models.support import jit
from tests.updates import config_of, mapped, started

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(p.stem for p in (ROOT / 'configs').glob('*.py')
               if 'def get_config' in p.read_text() and p.stem != 'default')
# Flows of the layers of digits_glow and digits_realnvp, but larger; lowered in test-slow.
TRACED_ONLY = ('cifar10_glow', 'celeba64_glow', 'imagenet32_glow', 'fashion_mnist_glow',
               'photo_patches_glow', 'cifar10_realnvp', 'celeba64_realnvp')
# Tracing takes seconds each. `make test` has one size of each model: cifar10_vae and, on digits,
# the VAEs but NVAE, which models/test_base.py traces at the size of CIFAR-10; of the flows the
# RED-WINE ones and those of CIFAR-10. The others differ from these in sizes.
SLOW = [name for name in NAMES if
        (name.endswith(('vae', 'iwae', 'vae_iaf')) and name != 'cifar10_vae'
         and not name.startswith('digits')) or name == 'digits_nvae'
        or name.startswith(('uci_whitewine', 'uci_parkinsons', 'uci_power', 'uci_gas',
                            'uci_hepmass', 'uci_miniboone', 'uci_bsds300', 'celeba64_',
                            'imagenet32_', 'photo_patches_'))
        or name in ('fashion_mnist_glow', 'fashion_mnist_realnvp')]
CASES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]


@pytest.mark.slow
@pytest.mark.parametrize('name', TRACED_ONLY)
def test_large_flows_lower(name):
  program, _ = traced(config_of(name))
  for platform in ('tpu', 'cuda'):
    assert 'stablehlo' in program.lower(lowering_platforms=(platform,)).as_text()[:20_000]


def _state_and_batch(config, spec=None):
  """Shapes of the state, and of a batch as stored, for a config whose data need not be here."""
  event_shape, dtype, levels = spec or data.spec(config.data.name)
  batch = jax.ShapeDtypeStruct((config.batch_size, *event_shape), dtype)
  state = jax.eval_shape(lambda b: build.create_state(config, b, levels, 1.), batch)
  return state, batch, build.train_step(config, event_shape, levels)


def traced(config, spec=None):
  """(the update of a config over two shards, traced; the shapes of its state).

  `spec` is that of `data.spec`, for data that have no name.
  """
  state, batch, step = _state_and_batch(config, spec)
  mask = None
  if config.data.remainder == 'pad':
    mask = jax.ShapeDtypeStruct((config.batch_size,), bool)
  key = jax.eval_shape(lambda: rng.purpose_key(0, 'train'))
  level = jax.ShapeDtypeStruct((), jnp.float32)
  return jax.jit(mapped(step, 2)).trace(state, batch, key, level, mask), state


@pytest.mark.parametrize('name', CASES)
def test_config_traces_and_lowers(name):
  program, state = traced(config_of(name))
  after, metrics = program.out_info
  assert metrics['loss'].shape == ()
  same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after)
  assert all(jax.tree.leaves(same))
  for platform in () if name in TRACED_ONLY else ('tpu', 'cuda'):
    assert 'stablehlo' in program.lower(lowering_platforms=(platform,)).as_text()[:20_000]


def test_one_smoke_step_of_a_convolutional_model_runs():
  """The other models take real steps in training/test_loop.py."""
  config = build.smoke(config_of('fashion_mnist_vae'))
  config.model.widths = (8, 8, 8, 8)
  state, batch, update = started(config)
  after, metrics = update(state, batch, rng.purpose_key(0, 'train'), .5, None)
  assert np.isfinite(metrics['loss'])
  assert int(after.skipped) == 0
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize('name', NAMES)
def test_docstring_names_row_command_and_figures(name):
  text = importlib.import_module(f'configs.{name}').__doc__
  for word in ('Paper row:', 'Command:', 'Expected:', 'Measured:', f'configs/{name}.py'):
    assert word in text


@pytest.mark.parametrize('name', NAMES)
def test_models_start_from_the_whole_first_batch(name):
  """What is recorded of them did: none may have a larger one than is taken."""
  assert config_of(name).batch_size <= build.INIT_ROWS


def test_figures_in_docstrings_are_those_of_the_uci_table():
  """Where a docstring quotes it: at the last epoch, and selected on validation; both arms."""
  with (ROOT / 'experiments' / 'results' / 'uci' / 'table.csv').open() as file:
    rows = list(csv.DictReader(file))
  checked = 0
  for name in NAMES:
    text = importlib.import_module(f'configs.{name}').__doc__
    if 'uci/table.csv' not in text:
      continue
    for row in rows:
      if name == f'uci_{row["dataset"]}_{row["flow"]}' and row['selection'] != 'oracle':
        mean, sd = float(row['mean']), float(row['sd'])
        assert (f'{mean:.2f} ± {sd:.2f}' if np.isfinite(mean) else f'{mean}') in text, (name, row)
        assert f'{row["seeds"]} seeds' in text
        checked += 1
  assert checked


def test_variants_and_their_mistakes():
  config = default.get_config('seed=3,mollify.name=heat_blur,optimizer.learning_rate=1e-4')
  assert (config.seed, config.mollify.name, config.optimizer.learning_rate) == (
    3, 'heat_blur', 1e-4)
  with pytest.raises(ValueError, match=r"unknown config key 'mollify.fracton'; did you mean 'mol"):
    default.get_config('mollify.fracton=.5')
  with pytest.raises(ValueError, match=r"'seed' takes a whole number, got 0.5"):
    default.get_config('seed=.5')
  with pytest.raises(ValueError, match='reads key=value'):
    default.get_config('smoke')
  with pytest.raises(AttributeError):
    default.get_config().sed = 1
  for pair in ('optimizer.b1=' + '9' * 400, 'seed=' + '(' * 5000, 'seed=' + '-' * 100_000 + '1'):
    with pytest.raises(ValueError, match=r'config key .* takes a .*number, got '):
      default.get_config(pair)
  for pair in ('seed=None', 'seed=True', 'optimizer.learning_rate=False', 'mollify.name=None'):
    key, _, value = pair.partition('=')
    with pytest.raises(ValueError, match=f'config key {key!r} takes .*, got {value}'):
      default.get_config(pair)


def test_nvaes_warm_up_follows_the_total_that_the_run_ends_up_with():
  """A hundredth of it, unless the warm-up is set itself; what is written down are plain numbers."""
  get_config = importlib.import_module('configs.cifar10_nvae').get_config
  assert get_config().to_dict()['optimizer']['warmup_steps'] == 1_000
  config = get_config('total_steps=5000')
  assert config.to_dict()['optimizer']['warmup_steps'] == 50
  config.total_steps = 700   # as --config.total_steps and experiments do
  assert pickle.loads(pickle.dumps(config)).optimizer.warmup_steps == 7
  pairs = ['optimizer.warmup_steps=3', 'total_steps=700']
  for given in (pairs, pairs[::-1]):
    config = get_config(','.join(given))
    assert (config.optimizer.warmup_steps, config.total_steps) == (3, 700)


def test_a_model_is_not_swapped_under_the_options_of_another():
  config = importlib.import_module('configs.digits_vae').get_config('model.name=realnvp_tabular')
  with pytest.raises(ValueError, match=r"model.beta is no option of 'realnvp_tabular'; take a run"):
    build.build(config)


def test_every_option_of_a_model_is_a_key():
  config = importlib.import_module('configs.digits_vae').get_config(
    'model.beta=4,model.widths=(8, 8),seed=3')
  assert set(config.model) == {'name', *models.options('vae')}
  assert (config.model.beta, config.model.widths, config.seed) == (4., (8, 8), 3)
  assert build.model(config, (8, 8, 1)).beta == 4.
  unset = default.get_config()
  default.set_model(unset, 'vae')
  assert unset.model.widths is None
  with pytest.raises(ValueError, match=r"'model.widths' takes a tuple such as .*, got 'x'"):
    default.set_key(unset, 'model.widths', 'x')
  default.set_key(unset, 'model.widths', (4, 4))
  assert unset.model.to_dict()['widths'] == (4, 4)


def test_options_of_a_data_set_are_keys():
  config = importlib.import_module('configs.synthetic_realnvp').get_config(
    'data.num_train=100,data.num_validation=20,data.num_test=30')
  loaded = build.load_data(config)
  assert [loaded.train.num_examples, loaded.validation.num_examples,
          loaded.test.num_examples] == [100, 20, 30]


def test_no_schedule_is_vanilla_training():
  config = importlib.import_module('configs.digits_vae').get_config('mollify.schedule=none')
  assert build.mollified_steps(config) == 0
  assert float(build.schedule(config, 9)(0)) == 0
  assert 'vanilla' in build.build(config).overview


def test_a_flow_on_discrete_pixels_has_no_likelihood():
  get_config = importlib.import_module('configs.digits_realnvp').get_config
  with pytest.raises(ValueError, match='no likelihood to evaluate or to choose by'):
    build.build(get_config('prepare.dequantize=none'))
  run = build.build(get_config("prepare.dequantize=none,eval.every=0,eval.best_metric=''"))
  assert 'no likelihood' in run.overview


def test_tensorboard_without_tensorflow_is_refused_before_anything_is_trained(monkeypatch):
  config = importlib.import_module('configs.digits_vae').get_config('log.tensorboard=True')
  monkeypatch.setattr(check.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r'needs TensorFlow: .*mollification\[data\]'):
    build.build(config)


BAD = {
  'batch_size=6': '6 must be divisible by the 4 devices; nearest: 4',
  'batch_size=2000': 'batch_size 2000 is larger than the 1257 training examples',
  'total_steps=130': 'total_steps must be a multiple of steps_per_call 50, got 130; nearest: 150',
  'log.every=20': r'log\.every must be a multiple of steps_per_call',
  'mollify.fraction=1.5': r'mollify.fraction must lie in \[0, 1\], got 1.5',
  'mollify.fraction=1.5,mollify.steps=10': r'mollify.fraction must lie in \[0, 1\], got 1.5',
  'mollify.fraction=-1.,mollify.schedule=none': r'mollify.fraction must lie in \[0, 1\], got -1',
  'mollify.name=blur_noise,mollify.blur_noise.noise_min=2.':
    r'mollify.blur_noise.noise_min must lie in \[0, 1\], got 2.0',
  'mollify.name=heat_blur,mollify.heat_blur.noise_std=-1.': r'noise_std must lie in \[0, inf\]',
  'optimizer.name=sgd,optimizer.momentum=1.': r'optimizer.momentum must lie in \[0, 1\), got 1.0',
  'mollify.schedule=sigmoidal': "mollify.schedule 'sigmoidal' is unknown; known: sigmoid.*, none",
  'mollify.granularity=day': "must be 'step' or 'epoch', got 'day'",
  'mollify.order=random': r"mollify\.order must be one of \('falling', .* got random",
  'mollify.name=blur': "mollify.name 'blur' is unknown; known: gaussian",
  'mollify.init_on=x': "'mollified' or 'clean', got 'x'",
  'data.name=digit': "no data set 'digit'; choose one of",
  'data.remainder=keep': r'data\.remainder must be one of .*got .keep',
  'model.name=vea': r"model must be one of .*got 'vea'",
  'model.latent_dim=0': r'model\.latent_dim must be',
  'model.decoder_variance=-1.': r'model\.decoder_variance must be positive',
  'mollify.sigmoid.temperature=-1.': r'mollify\.sigmoid\.temperature must be positive',
  'prepare.low=3.': r'prepare\.low must be below',
  'optimizer.clip_norm=1e999': 'optimizer.clip_norm must be a finite number, got inf',
  'ema_decay=1.': r'ema_decay must lie in \[0, 1\), got 1.0',
  'optimizer.name=lion': "unknown optimizer 'lion'; known: adam",
  'optimizer.schedule=step': "unknown learning-rate schedule 'step'",
  'optimizer.weight_decay=-1.': r'optimizer\.weight_decay must not be negative',
  'optimizer.warmup_steps=5000': r'optimizer\.warmup_steps must lie between 0 and total_steps',
  'eval.params=ema': 'ema_decay is 0',
  'eval.params=best': "'raw' or 'ema', got 'best'",
  'accumulate=3': 'accumulate 3 must divide the 32 examples',
  'max_nonfinite=0': 'max_nonfinite must be at least 1',
  'prepare.dequantize=gauss': r'prepare\.dequantize must be one of',
  'eval.quantize=ceil': 'quantize must be one of',
  'eval.best_metric=log_likelihod': "must be 'log_likelihood' .*got 'log_likelihod'",
  'eval.best_metric=bits_per_dim': "got 'bits_per_dim'",
  'eval.patience=3,eval.every=0': 'eval.patience 3 can never act',
  'eval.patience=3,mollify.fraction=1.': 'eval.patience 3 can never act',
  'eval.patience=-1': r'eval.patience must lie in \[0, inf\), got -1',
  'eval.num_samples=0': 'eval.num_samples must lie in',
  'eval.refresh_batch_size=0': 'eval.refresh_batch_size must lie in',
  'eval.temperature=-1.': 'eval.temperature must lie in',
  'ema_decay=1.5': r'ema_decay must lie in \[0, 1\), got 1.5',
  'mollify.steps=-7': r'mollify.steps must lie in \[-1, inf\), got -7',
  'optimizer.learning_rate=-1.': 'optimizer.learning_rate must lie in',
  'optimizer.b1=1.5': r'optimizer.b1 must lie in \[0, 1\), got 1.5',
  'seed=-1': 'seed must lie in',
  'model.likelihood=bernoulli': 'cannot reach the mollified targets outside',
  'model.likelihood=sigmoid_gaussian': 'cannot reach the mollified targets outside',
  'model.likelihood=bernoulli,mollify.fraction=0.': r'for pixels in \[0.0, 1.0\], got prep',
  'model.likelihood=logistic': 'model.levels must be the 17 grey levels of the data, got 256',
  'model.likelihood=logistic_mixture,prepare.low=0.': r'in \[-1.0, 1.0\], got prepare.low 0',
  'model.num_samples=0': 'num_samples must be at least 1, got 0',
  'model.beta=-1.': 'beta must not be negative',
  'eval.importance_samples=0': 'eval.importance_samples must lie in',
  'eval.valid_examples=-1': 'eval.valid_examples must lie in',
  'eval.importance_chunk=7': 'importance_chunk must divide eval.importance_samples 5000, got 7',
}


@pytest.mark.parametrize('arg', BAD)
def test_bad_values_name_the_rule(arg):
  config = importlib.import_module('configs.digits_vae').get_config(arg)
  with pytest.raises(ValueError, match=BAD[arg]):
    build.build(config).create_state()


@pytest.mark.parametrize('arg', ['model.likelihood=bernoulli', 'model.likelihood=sigmoid_gaussian'])
def test_sigmoids_explain_clean_pixels_of_the_unit_interval(arg):
  build.build(importlib.import_module('configs.digits_vae').get_config(
    f'{arg},mollify.schedule=none,prepare.low=0.'))


def test_blur_of_a_table_is_refused():
  config = importlib.import_module('configs.synthetic_realnvp').get_config('mollify.name=heat_blur')
  with pytest.raises(ValueError, match=r'got shape \(1, 2\); use gaussian'):
    build.build(config)


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


def test_smoke_keeps_accumulation_where_it_can():
  get_config = importlib.import_module('configs.digits_vae').get_config
  for accumulate, kept in ((1, 1), (4, 4), (16, 8)):
    config = build.smoke(get_config(f'accumulate={accumulate}'))
    assert config.accumulate == kept
    build.build(config)


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
