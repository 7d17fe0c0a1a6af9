"""Promise 8: every config traces, its step lowers for TPU and CUDA, one smoke step runs."""
import csv
import dataclasses
import functools
import importlib
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from mollification import build, build_mollify, check, data, models, rng
from mollification.evaluation import likelihood, sampling
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


def traced_evaluation(config):
  """[likelihoods, samples] of a batch of an evaluation on one device, traced."""
  state, batch, _ = _state_and_batch(config)
  event_shape, _, levels = data.spec(config.data.name)
  net = build.model(config, event_shape)
  prepare = dataclasses.replace(build.prepare_fn(config, levels), flip=False)
  context = ({'params': state.params, **state.model_state},
             jax.eval_shape(lambda: rng.purpose_key(0, 'evaluate')))
  index = jax.ShapeDtypeStruct((config.eval.batch_size,), jnp.int32)
  rows = jax.ShapeDtypeStruct((*index.shape, *batch.shape[1:]), batch.dtype)
  values = likelihood._example_values(
    functools.partial(net.apply, method='log_likelihood'), prepare)
  samples = sampling._example_samples(
    build_mollify.sample_fn(config, net),
    functools.partial(prepare.invert, quantize=config.eval.quantize),
    {'temperature': config.eval.temperature})
  return [jax.jit(values).trace(context, index, rows), jax.jit(samples).trace(context, index)]


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
  run = build.build(importlib.import_module('configs.digits_vae').get_config(
    f'{arg},mollify.schedule=none,prepare.low=0.'))
  assert np.isfinite(run.evaluate(run.create_state())['log_likelihood'])


def test_blur_of_a_table_is_refused():
  config = importlib.import_module('configs.synthetic_realnvp').get_config('mollify.name=heat_blur')
  with pytest.raises(ValueError, match=r'got shape \(1, 2\); use gaussian'):
    build.build(config)
