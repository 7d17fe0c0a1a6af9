"""Estimates of a run: FLOPs against XLA's and against what the layers multiply."""
import jax
import jax.numpy as jnp
import pytest

from experiments import estimate
from mollification import build
from mollification.evaluation import features
from tests.updates import config_of


def test_flops_of_a_network_without_loops_are_those_that_xla_counts():
  config = config_of('digits_vae')
  found = estimate.of_config(config)
  lowered = jax.jit(lambda a, b: jax.lax.conv_general_dilated(
    a, b, (1, 1), [(1, 1)] * 2, lhs_dilation=(2, 2), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    @ jnp.ones((5, 7))).trace(jnp.ones((2, 8, 8, 3)), jnp.ones((4, 4, 3, 5)))
  counted = estimate.matmul_flops(lowered.jaxpr)
  assert counted == pytest.approx(lowered.lower().cost_analysis()['flops'], rel=.15)   # the border
  state = jax.eval_shape(lambda: build.create_state(config, jnp.zeros((128, 8, 8, 1), jnp.uint8),
                                                    17, 1.))
  assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))
  weights = sum(leaf.size for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2)
  # Forward, and by inputs and by weights backward, but that nobody needs the first layer's inputs.
  assert found.flops == pytest.approx(6 * 128 * weights - 2 * 128 * 64 * 256, rel=1e-6)
  # XLA counts the noise and the optimiser too.
  assert found.flops < found.xla_flops < 1.2 * found.flops


def test_what_takes_the_place_of_a_donated_argument_counts_once():
  x = jnp.ones((1000,))
  for donated, arrays in (((), 2), (0, 1)):
    compiled = jax.jit(lambda x: x + 1., donate_argnums=donated).lower(x).compile()
    assert estimate.memory_of(compiled) == arrays * x.nbytes


def test_products_of_highest_precision_count_as_many_passes():
  def fn(a, b):
    return jnp.matmul(jnp.matmul(a, b, precision='highest'), b)

  traced = jax.make_jaxpr(fn)(jnp.ones((2, 3)), jnp.ones((3, 3)))
  assert estimate.matmul_flops(traced) == 2 * 36
  assert estimate.matmul_flops(traced, passes=6) == 7 * 36


@pytest.mark.parametrize('network, gflop', [('inception_pytorch', 11.43),
                                            ('digits_cnn_8x8', None)])
def test_a_sample_costs_its_decoder_and_the_network_of_features(network, gflop):
  """Of Inception 2 x 5.71: torchvision lists its inception_v3 with 5.71 G multiply-adds."""
  config = config_of('digits_vae')
  decoder = jax.eval_shape(lambda: build.create_state(
    config, jnp.zeros((128, 8, 8, 1), jnp.uint8), 17, 1.)).params['decoder']
  drawing = 2 * sum(leaf.size for leaf in jax.tree.leaves(decoder) if leaf.ndim == 2)
  found = estimate.of_sample(config, network) - drawing
  if gflop:
    assert found == pytest.approx(1e9 * gflop, rel=1e-3)
  else:
    extractor = features.load(network)
    lowered = jax.jit(extractor.apply).lower(extractor.variables, jnp.zeros((1, 8, 8, 1)))
    assert found == pytest.approx(lowered.cost_analysis()['flops'], rel=.2)   # the border, biases


@pytest.mark.slow
def test_loops_count_as_often_as_they_run():
  few, many = (estimate.of_config(config_of('digits_glow', f'model.steps={n}')) for n in (2, 4))
  assert many.flops == pytest.approx(2 * few.flops, rel=.02)
  assert many.xla_flops < 1.1 * few.xla_flops   # why it is not XLA that counts
  assert many.memory > few.memory
