"""Dropout in conditioners: what it draws, where it is on, and that a flow stays a density."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthetic_realnvp
from mollification import build, models
from mollification.models import nets
from mollification.models.dropout import dropout, part_keys
from mollification.models.flows import made
from tests.models.support import jit, random_variables
from tests.updates import mapped

FLOWS = ('realnvp_tabular', 'maf', 'glow_tabular')


def _keys(seed, n):
  return jax.random.split(jax.random.key(seed), n)


def test_units_are_lost_at_the_rate_and_the_mean_stays():
  h = jnp.ones((400, 50))
  kept = np.asarray(dropout(h, .3, _keys(0, 400)))
  assert set(np.unique(kept)) == {0., np.float32(1 / .7)}
  # 20,000 draws: five standard errors of a share of .7.
  assert (kept > 0).mean() == pytest.approx(.7, abs=5 * (.7 * .3 / 20_000)**.5)
  assert len(np.unique(kept > 0, axis=0)) == 400
  np.testing.assert_array_equal(dropout(h, .3, None), h)
  np.testing.assert_array_equal(dropout(h, 0., _keys(1, 400)), h)
  assert part_keys(None, 1) is None


def test_what_an_example_loses_is_its_own_keys_affair():
  h = jnp.ones((6, 20))
  all_of_them, last = dropout(h, .5, _keys(0, 6)), dropout(h[:2], .5, _keys(0, 6)[4:])
  np.testing.assert_array_equal(all_of_them[4:], last)


def _flow(name, rate, batch=7, blocks=1):
  flow = models.create(name, (4,), num_blocks=blocks, hidden=12, dropout=rate)
  x = jax.random.normal(jax.random.key(0), (batch, 4))
  variables = random_variables(lambda: flow.init(
    jax.random.key(1), x, None, train=True, method='loss'), scale=.3)
  return flow, variables, x


@pytest.mark.parametrize('name', FLOWS)
def test_it_acts_in_a_loss_with_keys_and_nowhere_else(name):
  (flow, variables, x), (plain, _, _) = _flow(name, .5), _flow(name, 0.)
  loss = lambda flow, keys, train=True: np.asarray(jit(lambda: flow.apply(
    variables, x, keys, train=train, method='loss', mutable=['batch_stats'])[0][0])())
  np.testing.assert_array_equal(loss(flow, None), loss(plain, _keys(2, 7)))
  # Running statistics, so that the examples do not meet: each has draws of its own.
  first, again, other = (loss(flow, _keys(seed, 7), train=False) for seed in (2, 2, 3))
  np.testing.assert_array_equal(first, again)
  assert (first != other).all()
  assert (first != loss(plain, None, train=False)).all()
  for method, args in (('log_likelihood', lambda: (x, _keys(4, 7))), ('score', lambda: (x,)),
                       ('sample', lambda: (_keys(5, 7),))):
    ask = lambda flow, method=method, args=args: jit(
      lambda: flow.apply(variables, *args(), method=method))()
    np.testing.assert_array_equal(ask(flow), ask(plain))


@pytest.mark.parametrize(('name', 'layers'), [
  ('realnvp_tabular', 8), ('maf', 4), ('glow_tabular', 8)])
def test_every_hidden_layer_loses_units_of_its_own(monkeypatch, name, layers):
  """Of two blocks, of two nets in a coupling: one key for all would make them lose the same."""
  flow, variables, x = _flow(name, .5, blocks=2)
  seen = []

  def spy(h, rate, keys):
    seen.append((rate, h.shape, np.asarray(jax.random.key_data(keys)).tobytes()))
    return h

  for module in (nets, made):
    monkeypatch.setattr(module, 'dropout', spy)
  flow.apply(variables, x, _keys(0, 7), train=False, method='loss')
  assert len(set(seen)) == len(seen) == layers
  assert {(rate, shape) for rate, shape, _ in seen} == {(.5, (7, 12))}


def test_an_autoregressive_network_stays_one():
  net, x = made.MADE(2, (12, 12), dropout=.4), jax.random.normal(jax.random.key(0), (1, 4))
  variables = random_variables(lambda: net.init(jax.random.key(1), x))
  run = lambda v: net.apply(variables, v[None], None, _keys(3, 1))[0]
  jacobian = np.asarray(jax.jacfwd(run)(x[0]))   # [2, D, D]
  assert (np.triu(jacobian) == 0).all()
  assert np.abs(jacobian).max() > 0


def _config(arg=''):
  return synthetic_realnvp.get_config(
    'model.hidden=8,model.num_blocks=1,batch_size=16,data.num_train=64,data.num_validation=20,'
    f"data.num_test=20,total_steps=8,steps_per_call=4,optimizer.name='sgd',{arg}")


def test_an_update_drops_the_same_units_on_any_number_of_devices():
  batch = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
  state = build.create_state(_config(), batch, None, 0.)
  found = {}
  for rate, devices in ((.5, 1), (.5, 4), (0., 1)):
    step = build.train_step(_config(f'model.dropout={rate}'), (2,), None)
    after, _ = jax.jit(mapped(step, devices))(
      state, batch, jax.random.key(3), jnp.float32(0.), np.ones(16, bool))
    found[rate, devices] = np.concatenate([a.ravel() for a in jax.tree.leaves(after.params)])
  np.testing.assert_allclose(found[.5, 1], found[.5, 4], rtol=1e-5, atol=1e-6)
  assert np.abs(found[.5, 1] - found[0., 1]).max() > 1e-4


def test_running_statistics_are_of_whole_conditioners():
  dataset = build.load_data(_config())
  state = build.build(_config(), dataset).create_state()
  found = [build.build_evaluation(_config(f'model.dropout={rate}'), dataset).variables(state)
           for rate in (0., .5)]
  jax.tree.map(np.testing.assert_array_equal, *found)
