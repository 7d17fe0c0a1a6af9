"""GLOW against normflows: one set of random weights, the same densities and scores.

`experiments/bench/glow_golden.py` wrote the vectors; the conversion is here, so no torch is needed.
"""
import pathlib

import jax
import numpy as np
import pytest

from mollification.models.flows.glow import glow
from mollification.models.flows.linear import decompose
from tests.models.support import jit

LEVELS, STEPS, HIDDEN = 2, 3, 32


@pytest.fixture(scope='module')
def golden():
  with np.load(pathlib.Path(__file__).with_name('glow_golden.npz')) as file:
    return {name: file[name].astype(np.float64) for name in file}


def _kernel(weight):
  """[F, C, K, K] of torch as [K, K, C, F]."""
  return weight.transpose(2, 3, 1, 0)


def _step(state, prefix):
  """(params, fixed) of one step; the library lists it from the latent to the data."""
  net = f'{prefix}.flows.0.flows.1.param_map.net'
  # There shift and scale alternate along the output channels, here they are halves.
  order = np.r_[0:len(state[f'{net}.4.bias']):2, 1:len(state[f'{net}.4.bias']):2]
  lu = f'{prefix}.flows.1'
  triangles = np.tril(state[f'{lu}.L'], -1), np.triu(state[f'{lu}.U'], 1)
  eye = np.eye(len(triangles[0]))
  weight = state[f'{lu}.P'] @ (triangles[0] + eye) @ (
      triangles[1] + np.diag(state[f'{lu}.sign_S'] * np.exp(state[f'{lu}.log_S'])))
  linear, fixed = decompose(weight)
  coupling = {
      'Conv_0': {'kernel': _kernel(state[f'{net}.0.weight']), 'bias': state[f'{net}.0.bias']},
      'Conv_1': {'kernel': _kernel(state[f'{net}.2.weight']), 'bias': state[f'{net}.2.bias']},
      'Conv_2': {'kernel': _kernel(state[f'{net}.4.weight'])[..., order],
                 'bias': state[f'{net}.4.bias'][order]}}
  actnorm = {'mean': state[f'{prefix}.flows.2.t'].ravel(),
             'log_std': state[f'{prefix}.flows.2.s'].ravel()}
  return ({'bijectors_0': actnorm, 'bijectors_1': linear, 'bijectors_2': {'net': coupling}},
          {'bijectors_1': fixed})


def _converted(state):
  """Variables of our GLOW from the state of the library's."""
  params, fixed = {}, {}
  for level in range(LEVELS):
    theirs = LEVELS - 1 - level
    # Data to latent runs through their steps backwards.
    steps = [_step(state, f'flows.{theirs}.{step}') for step in reversed(range(STEPS))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
    name = f'levels_{level}'
    params[name], fixed[name] = ({'bijectors_1': {'bijector': part}} for part in stacked)
    names = {'mean': 'loc', 'mean_logs': 'loc_logs', 'log_scale': 'log_scale',
             'log_scale_logs': 'log_scale_logs'}
    params[f'bases_{level}'] = {ours: state[f'q0.{theirs}.{name}'].ravel()
                                for ours, name in names.items()}
  variables = {'params': {'bijector': params}, 'fixed': {'bijector': fixed}}
  return jax.tree.map(
      lambda a: np.asarray(a, np.int32 if a.dtype.kind == 'i' else np.float32), variables)


def test_densities_and_scores_are_those_of_normflows(golden):
  flow, variables = glow((8, 8, 3), LEVELS, STEPS, HIDDEN), _converted(golden)
  x = golden['x'].transpose(0, 2, 3, 1).astype(np.float32)
  expected = jax.eval_shape(lambda: flow.init(jax.random.key(0), x, None, train=True,
                                              method='loss'))
  assert jax.tree.map(lambda a: a.shape, variables) == jax.tree.map(lambda a: a.shape, expected)
  log_prob, score = jit(lambda x: (flow.apply(variables, x, method='log_prob'),
                                   flow.apply(variables, x, method='score')))(x)
  np.testing.assert_allclose(log_prob, golden['log_prob'], rtol=1e-4)
  largest = np.abs(golden['score']).max()
  np.testing.assert_allclose(score, golden['score'].transpose(0, 2, 3, 1), rtol=1e-4,
                             atol=1e-5 * largest)
