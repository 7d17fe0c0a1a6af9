"""Contract of every model, and `refresh`."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mollification import models
from mollification.models.base import Model, _moments_of_batch, refresh
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.flow import Flow
from tests.models.support import jit, random_variables

# Case -> (name, event, tiny options). A later model adds a line.
MODELS = {
    'vae_mlp': ('vae', (6,), dict(latent_dim=2, widths=(8,))),
    'vae_conv': ('vae', (8, 8, 1), dict(latent_dim=2, net='conv', widths=(4, 5, 6),
                                        learn_variance=True)),
    'iwae_resnet': ('vae', (4, 4, 1), dict(latent_dim=2, net='resnet', widths=(3,), num_samples=2,
                                           likelihood='logistic_mixture', mixtures=2)),
    'vae_iaf': ('vae_iaf', (6,), dict(latent_dim=2, widths=(8,), flows=2, flow_widths=(8,))),
    'hvae': ('hvae', (6,), dict(latent_dim=2, widths=(8,), leapfrog_steps=2)),
    'hvae_resnet': ('hvae', (4, 4, 1), dict(latent_dim=2, net='resnet', widths=(3,),
                                            leapfrog_steps=2, step_size=.1)),
    'nvae': ('nvae', (4, 4, 1), dict(groups=(2,), latents=1, width=4, expansion=2, mixtures=1)),
    'realnvp_tabular': ('realnvp_tabular', (3,), dict(num_blocks=2, hidden=8)),
    'maf': ('maf', (3,), dict(num_blocks=2, hidden=8)),
    'glow_tabular': ('glow_tabular', (3,), dict(num_blocks=2, hidden=8)),
    'glow': ('glow', (4, 4, 1), dict(levels=2, steps=2, hidden=4)),
    'realnvp_image': ('realnvp_image', (4, 4, 1), dict(scales=2, features=4, blocks=1)),
}
# They compile for long; `make test` has their parts.
SLOW = ['iwae_resnet', 'hvae_resnet', 'nvae', 'glow_tabular', 'glow', 'realnvp_image']
WITH_STATISTICS = ['vae_conv', 'iwae_resnet', 'hvae_resnet', 'nvae', 'realnvp_tabular', 'maf',
                   'glow_tabular', 'realnvp_image']


def _cases(names):
  return pytest.mark.parametrize('case', [
      pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names])


# A Hamiltonian posterior passes its decoder several times, at other latents, and in training each
# pass is normalised by its own moments: no one set of statistics makes evaluation the same.
ONE_PASS = _cases([name for name in WITH_STATISTICS if name != 'hvae_resnet'])
ALL = _cases(MODELS)
NORMED = _cases(WITH_STATISTICS)
# Cases at the size of CIFAR-10, traced only.
FULL = {'vae': dict(net='conv', latent_dim=128), 'vae_iaf': dict(net='conv', latent_dim=128),
        'hvae': dict(net='conv', latent_dim=128), 'nvae': {}, 'realnvp_tabular': {}, 'maf': {},
        'glow_tabular': {}, 'glow': {}, 'realnvp_image': {}}


def _make(case, axis_name=None):
  name, event, options = MODELS[case]
  return models.create(name, event, axis_name, **options)


def _keys(rows=slice(None)):
  """Keys [8], or some of them: made anew at each call, since a key may be used once."""
  return jax.random.split(jax.random.key(4), 8)[rows]


def _setup(case):
  """(model, random variables, x [8, *event])."""
  model = _make(case)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(8, *model.event_shape)), jnp.float32)
  variables = random_variables(lambda: model.init(
      jax.random.key(1), x, jax.random.key(2), train=True, method='loss'), scale=.1)
  return model, variables, x


@functools.cache
def _compiled(model, method, **options):
  return jit(lambda variables, *args: model.apply(variables, *args, method=method, **options))


def _loss(model, variables, x, train):
  """((loss, metrics), model_state), compiled once per model and `train`."""
  step = _compiled(model, 'loss', train=train, mutable='batch_stats')
  return step(variables, x, _keys())


def _shards(n, *arrays):
  return [a.reshape(n, a.shape[0] // n, *a.shape[1:]) for a in arrays]


def _update(model, variables, x, keys, mask):
  """(losses [B], gradients of the unmasked mean, new statistics), over axis 'batch'.

  At a progress where NVAE balances its groups by a statistic of the batch; to others it is as any.
  """
  weight = mask.astype(jnp.float32)

  def mean_loss(params):
    (loss, _), state = model.apply({**variables, 'params': params}, x, keys, train=True,
                                   progress=.15, mask=mask, method='loss',
                                   mutable=['batch_stats'])
    # Equal to the mean over all unmasked rows after a pmean of the gradients.
    scale = jax.lax.axis_size('batch') / jax.lax.psum(weight.sum(), 'batch')
    return (jnp.where(mask, loss, 0.)).sum() * scale, (loss, state)
  gradients, (loss, state) = jax.grad(mean_loss, has_aux=True)(variables['params'])
  return loss, jax.lax.pmean(gradients, 'batch'), state


@pytest.mark.parametrize('case', ['vae_mlp', 'vae_conv', 'hvae', 'nvae', 'maf', 'glow'])
@pytest.mark.parametrize('method', ['loss', 'log_likelihood'])
def test_a_batch_of_other_events_is_refused(case, method):
  """Broadcasting would make numbers of it: a Bernoulli decoder of [8, 8, 1] took [B, 8, 8]."""
  model = _make(case)
  shape = model.event_shape
  options = {'train': True} if method == 'loss' else {}
  for wrong in ((8, *shape[:-1]), (8, *shape, 1), (8, *shape[:-1], shape[-1] + 1)):
    with pytest.raises(ValueError, match=r'this model is of events .*the batch comes first'):
      jax.eval_shape(lambda key, x: model.init(key, x, key, method=method, **options),
                     jax.random.key(0), jnp.zeros(wrong))


@functools.cache
def _step(case):
  model = _make(case, 'batch')
  return jit(jax.vmap(lambda *a: _update(model, *a), axis_name='batch', in_axes=(None, 0, 0, 0)))


def _sharded(case, variables, n, x, mask):
  """(losses [B], gradients, statistics) of `n` shards; the last two with axis [n]."""
  loss, *rest = _step(case)(variables, *_shards(n, x, _keys(slice(len(x))), mask))
  return loss.reshape(-1), *rest


def _assert_close(a, b, atol=1e-5):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


def test_every_listed_model_has_a_case_here():
  assert {name for name, _, _ in MODELS.values()} == set(models.MODELS) == set(FULL)


@ALL
def test_outputs_are_per_example_float32_and_finite(case):
  model, variables, x = _setup(case)
  assert isinstance(model, Model)
  assert isinstance(model.EXACT_LIKELIHOOD, bool)
  for train in (True, False):
    (loss, metrics), _ = _loss(model, variables, x, train)
    values = [loss, *metrics.values()]
    assert metrics
  values += [_compiled(model, 'log_likelihood')(variables, x, _keys())]
  for value in values:
    assert (value.shape, value.dtype) == ((8,), jnp.float32)
    assert jnp.isfinite(value).all()
  samples = _compiled(model, 'sample')(variables, _keys())
  assert (samples.shape, samples.dtype) == ((8, *model.event_shape), jnp.float32)
  # Of its gains; no other model has one unless it is asked for.
  assert (model.apply(variables, method='penalty') > 0.) == (case == 'realnvp_image')


@ALL
def test_evaluation_treats_each_example_by_itself(case):
  model, variables, x = _setup(case)
  evaluate = lambda s: _compiled(model, 'log_likelihood')(variables, x[s], _keys(s))
  np.testing.assert_allclose(evaluate(slice(8))[2:5], evaluate(slice(2, 5)), rtol=1e-5, atol=1e-5)
  sample = lambda s: _compiled(model, 'sample')(variables, _keys(s))
  np.testing.assert_allclose(sample(slice(8))[2:5], sample(slice(2, 5)), rtol=1e-5, atol=1e-5)
  (loss, _), _ = _loss(model, variables, x, train=False)
  if model.EXACT_LIKELIHOOD:
    np.testing.assert_allclose(-loss, evaluate(slice(8)), rtol=1e-6)


@ALL
def test_padded_rows_change_neither_loss_nor_gradients_nor_statistics(case):
  _, variables, x = _setup(case)
  plain = _sharded(case, variables, 1, x[:5], jnp.ones(5, bool))
  padded = x.at[5:].set(3.)
  masked = _sharded(case, variables, 1, padded, jnp.arange(8) < 5)
  _assert_close((plain[0], *plain[1:]), (masked[0][:5], *masked[1:]))
  assert jnp.isfinite(masked[0]).all()


@ALL
@pytest.mark.parametrize('mask', [8, 5], ids=['whole', 'masked'])
def test_one_two_and_four_shards_agree(case, mask):
  _, variables, x = _setup(case)
  # Both masks run the same compiled steps.
  found = [_sharded(case, variables, n, x, jnp.arange(8) < mask) for n in (1, 2, 4)]
  for loss, *rest in found[1:]:
    _assert_close(loss[:mask], found[0][0][:mask])
    for shard in range(2):
      _assert_close(jax.tree.map(lambda a: a[shard], rest),
                    jax.tree.map(lambda a: a[0], list(found[0][1:])))


@pytest.mark.slow
@pytest.mark.parametrize('case', MODELS)
def test_a_model_says_whether_it_starts_from_data(case):
  model, _, x = _setup(case)
  init = jit(lambda x: model.init(jax.random.key(1), x, _keys(), train=True, method='loss'))
  same = jax.tree.map(lambda a, b: bool((a == b).all()), init(x), init(3. * x + 1.))
  assert model.starts_from_data != all(jax.tree.leaves(same))


@NORMED
def test_train_chooses_the_statistics_and_moves_them(case):
  model, variables, x = _setup(case)
  (batch, _), state = _loss(model, variables, x, train=True)
  (running, _), same = _loss(model, variables, x, train=False)
  assert (batch != running).all()
  assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), same['batch_stats'],
                                   variables['batch_stats']))
  assert not jax.tree.all(jax.tree.map(lambda a, b: (a == b).any(), state['batch_stats'],
                                       variables['batch_stats']))


def test_init_leaves_running_statistics_at_their_start_and_no_raw_moments():
  for case in set(WITH_STATISTICS) - set(SLOW):
    model, _, x = _setup(case)
    init = lambda x=x, model=model: model.init(
        jax.random.key(1), x, _keys(), train=True, method='loss')
    assert set(jax.eval_shape(init)) == {'params', 'batch_stats'}
    # Only the statistics are asked for, so the parameters' initialisers are not compiled.
    stats = jit(lambda init=init: init()['batch_stats'])()
    for path, value in traverse_util.flatten_dict(stats).items():
      assert (value == (path[-1] == 'var')).all()


# --- refresh -------------------------------------------------------------------------------------

@ONE_PASS
def test_after_refresh_on_one_batch_evaluation_is_training_on_that_batch(case):
  model, variables, x = _setup(case)
  before = jax.tree.map(np.array, variables)
  state = refresh(model, variables, [(x, _keys())])
  jax.tree.map(np.testing.assert_array_equal, before, variables)
  kept = {name: value for name, value in before.items() if name != 'params'}
  assert jax.tree.structure(state) == jax.tree.structure(kept)
  refreshed = {'params': variables['params'], **state}
  run = lambda train: _loss(model, refreshed, x, train)
  (train_loss, _), moved = run(True)
  np.testing.assert_allclose(run(False)[0][0], train_loss, rtol=1e-5, atol=1e-5)
  _assert_close(moved['batch_stats'], state['batch_stats'], atol=1e-6)


def test_refresh_is_the_released_protocol_layer_by_layer():
  model, variables, x = _setup('realnvp_tabular')
  state = refresh(model, variables, [(x, None)])
  bound = model.bind(variables, mutable=['batch_stats'])
  h = x
  for i, layer in enumerate(bound.bijector.bijectors):
    if isinstance(layer, BatchNorm):
      found = state['batch_stats']['bijector'][f'bijectors_{i}']['moments']
      exact = np.asarray(h, np.float64)
      np.testing.assert_allclose(found['mean'], exact.mean(0), atol=1e-6)
      np.testing.assert_allclose(found['var'], exact.var(0) + 1e-5, rtol=1e-5)
    h, _ = layer.forward_and_log_det(h, train=True)


def test_refresh_pools_moments_by_unmasked_count():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
  model = Flow(event_shape=(3,), bijector=Chain((MaskedAffineCoupling(0, 8), BatchNorm())))
  variables = random_variables(lambda: model.init(
      jax.random.key(1), x, None, train=True, method='loss'), scale=.1)
  batches = [(x[:2], None), (x[2:5], None, None), (x[5:].at[2].set(9.), None,
                                                   jnp.array([True, True, False]))]
  state = refresh(model, variables, batches)['batch_stats']['bijector']['bijectors_1']['moments']
  # The first BatchNorm stands behind one coupling: its input does not depend on the batches.
  h = np.asarray(model.bind(variables).bijector.bijectors[0].forward_and_log_det(x)[0][:7])
  np.testing.assert_allclose(state['mean'], h.mean(0), atol=1e-6)
  np.testing.assert_allclose(state['var'], h.var(0) + 1e-5, rtol=1e-5)


@NORMED
def test_refresh_works_on_a_model_with_a_collective_axis(case):
  model, variables, x = _setup(case)
  plain = refresh(model, variables, [(x, _keys())])
  _assert_close(plain, refresh(_make(case, 'batch'), variables, [(x, _keys())]))


def test_refresh_keeps_other_state_and_models_without_statistics():
  model, variables, x = _setup('vae_mlp')
  assert refresh(model, {**variables, 'other': {'n': 3}}, None) == {'other': {'n': 3}}
  model, variables, x = _setup('realnvp_tabular')
  stats = {**variables['batch_stats'], 'spectral': {'u': jnp.ones(2)}}
  state = refresh(model, {**variables, 'batch_stats': stats, 'other': {'n': jnp.ones(1)}},
                  [(x, _keys())])
  np.testing.assert_array_equal(state['batch_stats']['spectral']['u'], jnp.ones(2))
  np.testing.assert_array_equal(state['other']['n'], jnp.ones(1))


def test_refresh_without_batches_is_an_error_and_compiles_once_per_shape():
  model, variables, x = _setup('realnvp_tabular')
  with pytest.raises(ValueError, match='at least one batch'):
    refresh(model, variables, [])
  _moments_of_batch.clear_cache()
  for _ in range(2):       # equal models, not the same object
    refresh(_make('realnvp_tabular'), variables, [(x, None), (x, None)])
  assert _moments_of_batch._cache_size() == 1


# --- registry and full size ----------------------------------------------------------------------

def test_unknown_names_and_options_are_errors_that_list_the_valid_ones():
  with pytest.raises(ValueError, match=r"one of \['glow', .*'vae_iaf'\], got 'va'"):
    models.create('va', (3,))
  with pytest.raises(ValueError, match=r"'vae' has no option 'latent'; its options: \['beta', "):
    models.create('vae', (3,), latent=2)
  for option, value in (('latent_dim', 2.), ('beta', 'x'), ('learn_variance', 1), ('net', 3),
                        ('widths', 8), ('widths', ('a',)), ('latent_dim', True)):
    with pytest.raises(ValueError, match=f'model option {option} takes a'):
      models.create('vae', (3,), **{option: value})
  with pytest.raises(ValueError, match=r"'realnvp_tabular' has no option 'parent'"):
    models.create('realnvp_tabular', (3,), parent=None)


def test_lists_among_the_options_become_tuples():
  model = models.create('vae', [6], widths=[8, 8])
  assert (model.event_shape, model.widths) == ((6,), (8, 8))
  assert isinstance(hash(model), int)


@pytest.mark.slow   # test_configs.py traces programs of this size in the fast tier
@pytest.mark.parametrize('name', FULL)
def test_a_step_at_cifar_size_traces_and_lowers_for_accelerators(name):
  model = models.create(name, (32, 32, 3), 'batch', **FULL[name])
  x = jax.ShapeDtypeStruct((2, 4, 32, 32, 3), jnp.float32)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (2, 4)))
  mask = jax.ShapeDtypeStruct((2, 4), bool)
  init = jax.vmap(lambda x, keys: model.init(jax.random.key(0), x, keys, train=True,
                                             method='loss'), axis_name='batch')
  variables = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype),
                           jax.eval_shape(init, x, keys))
  step = jax.vmap(lambda v, *a: _update(model, v, *a), axis_name='batch',
                  in_axes=(None, 0, 0, 0))
  traced = jax.jit(step).trace(variables, x, keys, mask)
  assert traced.out_info[0].shape == (2, 4)
  for platform in ('tpu', 'cuda'):
    traced.lower(lowering_platforms=(platform,))


@pytest.mark.parametrize('name', models.MODELS)
def test_options_can_be_config_keys(name):
  for option, (kind, value) in models.options(name).items():
    assert kind in (bool, int, float, str, tuple), option
    assert value is None or isinstance(value, kind), option
