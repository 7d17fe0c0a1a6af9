"""A run of a sweep is the run alone; a sweep that is cut goes on as if it had not been."""
import importlib
import types

import jax
import numpy as np
import pytest

from mollification import build, build_sweep, data
from mollification.training import loop, sweep

UPDATES = 200
# The batch norm after a coupling takes off whatever its `translate` biases add: their gradient is
# zero but for rounding, some 1e-8, which differs between any two compiled programs. With Adam's own
# epsilon of 1e-8 that noise is scaled to whole steps, and these biases alone, all else agreeing to
# 1e-7, walk 1e-3 apart without a trace in the density. At 1e-5 noise stays noise, but for the last
# biases of a MAF, which are left out below.
ADAM_EPS = 1e-5


def _config(seed, arg):
  return importlib.import_module('configs.synthetic_realnvp').get_config(
    f'seed={seed},model.hidden=8,model.num_blocks=2,batch_size=24,data.num_train=100,'
    f'data.num_validation=40,data.num_test=60,data.remainder=pad,total_steps={UPDATES},'
    'steps_per_call=50,eval.every=50,log.every=50,checkpoint.every=50,eval.batch_size=20,'
    f'log.stdout=False,optimizer.learning_rate=1e-4,eval.refresh_examples=100,'
    f'optimizer.eps={ADAM_EPS},{arg}')


# Another seed, another family, another parameter; and the vanilla arm.
CONFIGS = [_config(0, 'mollify.fraction=.5'), _config(1, 'mollify.fraction=0.'),
           _config(0, 'mollify.fraction=1.,mollify.granularity=epoch,'
                   'mollify.sigmoid.temperature=.2'),
           _config(2, "mollify.schedule='linear',mollify.scale=.5")]


POINTS = np.array([[0., 2.], [1., 0.], [3., 3.]], np.float32)


def _observe(net, variables):
  return {'field': net.apply(variables, POINTS, method='log_prob')}


@pytest.fixture(scope='module')
def trained():
  """(Sweep, states, curves) of all configs, on the four devices."""
  made = build_sweep.build_sweep(CONFIGS, observe=_observe)
  return made, *sweep.train(made)


@pytest.mark.parametrize('i', [0, 2])
def test_a_run_of_a_sweep_is_the_run_alone(trained, tmp_path, i):
  _, states, curves = trained
  _is_the_run_alone(CONFIGS[i], None, states, curves, i, tmp_path)
  assert (states.step == UPDATES).all()


@pytest.mark.slow
@pytest.mark.parametrize('eps', [ADAM_EPS, 1e-8])
@pytest.mark.parametrize('flow', ['maf', 'glow'])
def test_a_run_of_a_sweep_of_a_table_is_the_run_alone(tmp_path, flow, eps):
  """The UCI protocol: a level an epoch, its last batch not full; with its own epsilon in nats."""
  x = np.random.default_rng(0).standard_normal((250, 11)).astype(np.float32)
  x[:, 1:] += .9 * x[:, :-1]
  bounds = {'train': slice(190), 'validation': slice(190, 220), 'test': slice(220, None)}
  table = data.Dataset('redwine', levels=None, **{
    name: data.Split(name, x[rows]) for name, rows in bounds.items()})
  get_config = importlib.import_module(f'configs.uci_redwine_{flow}').get_config
  configs = [get_config(f'seed={seed},model.hidden=16,model.num_blocks=2,batch_size=52,'
                        f'total_steps={UPDATES},steps_per_call=4,eval.every=100,log.every=100,'
                        f'checkpoint.every=100,log.stdout=False,optimizer.eps={eps},'
                        f'mollify.fraction={fraction}')
             for seed, fraction in ((0, 1.), (1, 0.))]
  states, curves = sweep.train(build_sweep.build_sweep(configs, table))
  for i, config in enumerate(configs):
    _is_the_run_alone(config, table, states, curves, i, tmp_path / str(i))


def _is_the_run_alone(config, dataset, states, curves, i, folder):
  """To 1e-3 nats, and to 1e-4 in the parameters where rounding errors stay small."""
  state = loop.train(build.build(config, dataset), folder).state
  evaluation = build.build_evaluation(config, dataset)
  alone = evaluation.log_likelihood(evaluation.variables(state), evaluation.dataset.test)
  if config.optimizer.eps == ADAM_EPS:
    one, many = (_compared(params, config.model.name)
                 for params in (state.params, jax.tree.map(lambda a: a[i], states.params)))
    assert np.linalg.norm(one - many) < 1e-4 * np.linalg.norm(one)
  assert abs(curves['test'][i, -1] - alone.mean) < 1e-3
  np.testing.assert_allclose(curves['test_sem'][i, -1], alone.sem, rtol=1e-3)


def _compared(params, model):
  """All parameters in one array, but those of which ADAM_EPS says why."""
  return np.concatenate([
    np.ravel(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if model != 'maf' or "['last']['bias']" not in jax.tree_util.keystr(path)])


def test_curves_have_a_number_for_each_evaluation_and_runs_differ(trained):
  curves = dict(trained[2])
  assert set(curves) == {'field', 'validation', 'test', 'test_sem', 'loss', 'skipped'}
  assert curves.pop('field').shape == (4, 4, 3)
  for name, curve in curves.items():
    assert curve.shape == (4, 4)
    assert np.isfinite(curve).all()
    assert name == 'skipped' or len(np.unique(curve)) == 16
  assert (curves['loss'][:, -1] < curves['loss'][:, 0]).sum() >= 3


def test_what_is_observed_is_of_the_model_of_the_moment(trained):
  _, states, curves = trained
  net = build.model(CONFIGS[0], (2,))
  for i, config in enumerate(CONFIGS):
    evaluation = build.build_evaluation(config)
    state = jax.tree.map(lambda a, i=i: a[i], states)
    found = net.apply(evaluation.variables(state), POINTS, method='log_prob')
    np.testing.assert_allclose(curves['field'][i, -1], found, rtol=1e-4, atol=1e-4)
  assert len(np.unique(curves['field'][:, :, 0])) == 16


def test_levels_are_those_of_each_config(trained):
  made = trained[0]
  assert made.levels.shape == (4, 4, 50)
  levels = made.levels.reshape(4, UPDATES)
  assert (levels[:, 0] == [1., 0., 1., .5]).all()
  assert (levels[1] == 0.).all()
  assert (levels[0, 100:] == 0.).all()
  assert (np.diff(levels[2])[:4] == 0.).all()   # an epoch has five updates
  assert levels[2, 5] < levels[2, 4]
  np.testing.assert_allclose(levels[3, :100], .5 * (1 - np.arange(100) / 100), rtol=1e-6)


def test_a_sweep_that_is_cut_goes_on_bit_for_bit(trained, tmp_path):
  made, states, curves = trained
  seen, stop = [], types.SimpleNamespace(requested=True)
  for _ in range(3):
    assert sweep.train(made, tmp_path, stop=stop, progress=lambda *at: seen.append(at)) is None
  again = sweep.train(made, tmp_path, progress=lambda *at: seen.append(at))
  assert seen == [(i, 4) for i in range(1, 5)]
  jax.tree.map(np.testing.assert_array_equal, again, (states, curves))


def test_batches_of_a_sweep_need_not_fit_the_devices():
  """A run is whole on one of them: 25 rows on four."""
  assert jax.device_count() == 4
  assert build_sweep.build_sweep([_config(0, 'batch_size=25')]).levels.shape == (1, 4, 50)
  with pytest.raises(ValueError, match='accumulate 2 must divide the 25 examples'):
    build_sweep.build_sweep([_config(0, 'batch_size=25,accumulate=2')])


def test_statistics_of_noisy_data_are_those_of_the_run_alone(tmp_path):
  """Each run draws the noise of its own seed for them, where what is evaluated hangs on it."""
  configs = [_config(seed, 'mollify.denoise=True,mollify.schedule=constant,mollify.fraction=1.,'
                     'mollify.constant.value=.2,total_steps=50') for seed in (0, 1)]
  states, curves = sweep.train(build_sweep.build_sweep(configs))
  for i, config in enumerate(configs):
    _is_the_run_alone(config, None, states, curves, i, tmp_path / str(i))


def test_runs_start_from_as_many_rows_as_alone(monkeypatch):
  seen = []
  monkeypatch.setattr(build, 'INIT_ROWS', 4)
  monkeypatch.setattr(build, 'initialiser', lambda *args: lambda batch, *rest: (
    seen.append(batch), np.zeros(1))[1])
  build_sweep.build_sweep(CONFIGS[:1]).create_states()
  build._create_state(CONFIGS[0], build.load_data(CONFIGS[0]))
  assert len(seen[0]) == 4
  np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize(('arg', 'message'), [
  ('optimizer.learning_rate=.1', r'got optimizer\.learning_rate 0\.0001 and 0\.1; make two sweeps'),
  ("mollify.name='identity'", r"got mollify\.name 'gaussian' and 'identity'"),
  ('eval.every=75', r'got eval\.every 50 and 75')])
def test_runs_that_differ_in_more_are_refused(arg, message):
  with pytest.raises(ValueError, match=message):
    build_sweep.build_sweep([CONFIGS[0], _config(0, f'mollify.fraction=.5,{arg}')])


def test_what_cannot_be_swept_is_refused():
  with pytest.raises(ValueError, match='batch_size 24 is larger than the 20 training examples; lo'):
    build_sweep.build_sweep([_config(0, 'data.num_train=20')])
  with pytest.raises(ValueError, match=r'multiple of eval\.every in a sweep, got 200 and 150'):
    build_sweep.build_sweep([_config(0, 'eval.every=150')])
  digits = importlib.import_module('configs.digits_vae').get_config('eval.every=400')
  with pytest.raises(ValueError, match='tables and 2-D densities without classes, got model vae'):
    build_sweep.build_sweep([digits])
