"""MAF against nflows and pythae: a set of random weights each, the same densities and scores.

`experiments/bench/maf_golden.py` wrote the vectors, and says what of nflows it had to override; the
conversions are here, so no torch is needed.
"""
import pathlib

import jax
import numpy as np
import pytest

from mollification.models.flows import made
from mollification.models.flows.maf import maf
from tests.models.support import jit

SIZE, HIDDEN, BLOCKS = 6, 20, 3
EPSILON = 1e-5   # of both libraries' BatchNorm; nflows adds it to the scale too


def _golden(name):
  with np.load(pathlib.Path(__file__).with_name(f'maf_{name}_golden.npz')) as file:
    return {name: file[name].astype(np.float64) for name in file}


def _network(state, layers, last):
  """Params of one MADE, its layers called `layers` there; `last` are the outputs in our order.

  Both libraries have hidden units of the degrees arange(H) mod (D - 1); here they are sorted.
  """
  order = np.argsort(np.arange(HIDDEN) % (SIZE - 1), kind='stable')
  (first, first_bias), (hidden, hidden_bias), (out, out_bias) = (
      (state[f'{name}.weight'].T, state[f'{name}.bias']) for name in layers)
  degrees = made.hidden_degrees(HIDDEN, SIZE)
  blocks = made.to_blocks(hidden[order][:, order], made.groups(degrees, degrees))
  return {'net': {'first': {'kernel': first[:, order], 'bias': first_bias[order]},
                  'hidden_0': {'kernel': blocks, 'bias': hidden_bias[order]},
                  'last': {'kernel': out[order][:, last], 'bias': out_bias[last]}}}


def _nflows(state, i):
  """(MADE, {'log_gamma', 'beta'}, {'mean', 'var'}) of the i-th [MADE, BatchNorm, Reverse]."""
  net, norm = (f'_transform._transforms.{3 * i + j}' for j in (0, 1))
  layers = [f'{net}.autoregressive_net.{name}' for name in ('initial_layer', 'blocks.0.linear',
                                                            'final_layer')]
  # The two outputs of a coordinate, log-scale and shift, stand side by side.
  last = np.concatenate([np.arange(SIZE) * 2 + 1, np.arange(SIZE) * 2])
  gamma = np.log1p(np.exp(state[f'{norm}.unconstrained_weight'])) + EPSILON
  return (_network(state, layers, last),
          {'log_gamma': np.log(gamma), 'beta': state[f'{norm}.bias']},
          {'mean': state[f'{norm}.running_mean'], 'var': state[f'{norm}.running_var'] + EPSILON})


def _pythae(state, i):
  """As `_nflows`; the BatchNorm stands between two reversals there."""
  net, norm = (f'blocks.{i}.net.{j}' for j in (0, 1))
  turned = lambda name: state[f'{norm}.{name}'][::-1]
  return (_network(state, [f'{net}.net.{j}' for j in (0, 2, 4)], np.arange(2 * SIZE)),
          {'log_gamma': turned('log_gamma'), 'beta': turned('beta')},
          {'mean': turned('running_mean'), 'var': turned('running_var') + EPSILON})


@pytest.mark.parametrize(('name', 'block_of'), [('nflows', _nflows), ('pythae', _pythae)])
def test_log_densities_and_scores_are_those_of_other_libraries(name, block_of, monkeypatch):
  monkeypatch.setattr(made, 'GROUP_WIDTH', 4)   # five groups, as wide nets have
  flow, golden = maf((SIZE,), BLOCKS, HIDDEN), _golden(name)
  params, statistics = {}, {}
  for i in range(BLOCKS):   # after the Reshape, three layers a block: MADE, BatchNorm, Reverse
    net, norm, moments = block_of(golden, i)
    for layers, block in ((params, {0: net, 1: norm}), (statistics, {1: {'moments': moments}})):
      layers |= {f'bijectors_{1 + 3 * i + j}': layer for j, layer in block.items()}
  variables = jax.tree.map(lambda leaf: leaf.astype(np.float32), {
      'params': {'bijector': params}, 'batch_stats': {'bijector': statistics}})
  x = golden['x'].astype(np.float32)
  shapes = jax.eval_shape(lambda: flow.init(jax.random.key(0), x, None, train=False,
                                            method='loss'))
  same = jax.tree.map(lambda a, b: a.shape == b.shape, shapes, variables)
  assert all(jax.tree.leaves(same))
  for method, atol in (('log_prob', 0.), ('score', 1e-5 * np.abs(golden['score']).max())):
    found = jit(lambda x, method=method: flow.apply(variables, x, method=method))(x)
    np.testing.assert_allclose(found, golden[method], rtol=1e-4, atol=atol)
