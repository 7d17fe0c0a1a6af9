"""MAF against nflows: one set of random weights, the same densities and scores.

`experiments/bench/maf_golden.py` wrote the vectors; the conversion is here, so no torch is needed.
"""
import pathlib

import jax
import numpy as np
import pytest

from mollification.models.flows import made
from mollification.models.flows.maf import maf
from tests.models.support import jit

SIZE, HIDDEN, BLOCKS = 6, 20, 3
EPSILON = 1e-5   # of the library's BatchNorm, and added to its scale


@pytest.fixture(scope='module')
def golden():
  with np.load(pathlib.Path(__file__).with_name('maf_golden.npz')) as file:
    return {name: file[name].astype(np.float64) for name in file}


def _network(state, prefix):
  """Params of one MADE. There hidden units stand as arange(H) mod (D - 1), here by degree."""
  order = np.argsort(np.arange(HIDDEN) % (SIZE - 1), kind='stable')
  # There the two outputs of a coordinate, log-scale and shift, stand side by side.
  last = np.concatenate([np.arange(SIZE) * 2 + 1, np.arange(SIZE) * 2])
  layer = lambda name: (state[f'{prefix}.{name}.weight'].T, state[f'{prefix}.{name}.bias'])
  (first, first_bias), (hidden, hidden_bias), (out, out_bias) = (
      layer(name) for name in ('initial_layer', 'blocks.0.linear', 'final_layer'))
  degrees = made.hidden_degrees(HIDDEN, SIZE)
  blocks = made.to_blocks(hidden[order][:, order], made.groups(degrees, degrees))
  return {'net': {'first': {'kernel': first[:, order], 'bias': first_bias[order]},
                  'hidden_0': {'kernel': blocks, 'bias': hidden_bias[order]},
                  'last': {'kernel': out[order][:, last], 'bias': out_bias[last]}}}


def _block(state, i):
  """(params, running statistics) of the i-th [MADE, BatchNorm, Reverse], by position."""
  net = f'_transform._transforms.{3 * i}.autoregressive_net'
  norm = f'_transform._transforms.{3 * i + 1}'
  gamma = np.log1p(np.exp(state[f'{norm}.unconstrained_weight'])) + EPSILON
  statistics = {'mean': state[f'{norm}.running_mean'],
                'var': state[f'{norm}.running_var'] + EPSILON}
  return ({0: _network(state, net),
           1: {'log_gamma': np.log(gamma), 'beta': state[f'{norm}.bias']}},
          {1: {'moments': statistics}})


def test_log_densities_and_scores_are_those_of_nflows(golden, monkeypatch):
  monkeypatch.setattr(made, 'GROUP_WIDTH', 4)   # five groups, as wide nets have
  flow = maf((SIZE,), BLOCKS, HIDDEN)
  params, statistics = {}, {}
  for i in range(BLOCKS):   # after the Reshape, three layers a block: MADE, BatchNorm, Reverse
    for layers, block in zip((params, statistics), _block(golden, i)):
      layers |= {f'bijectors_{1 + 3 * i + j}': layer for j, layer in block.items()}
  variables = jax.tree.map(lambda leaf: leaf.astype(np.float32), {
      'params': {'bijector': params}, 'batch_stats': {'bijector': statistics}})
  x = golden['x'].astype(np.float32)
  shapes = jax.eval_shape(lambda: flow.init(jax.random.key(0), x, None, train=False,
                                            method='loss'))
  same = jax.tree.map(lambda a, b: a.shape == b.shape, shapes, variables)
  assert all(jax.tree.leaves(same))
  for method in ('log_prob', 'score'):
    found = jit(lambda x, method=method: flow.apply(variables, x, method=method))(x)
    np.testing.assert_allclose(found, golden[method], rtol=1e-4,
                               atol=1e-4 * np.abs(golden[method]).max())
