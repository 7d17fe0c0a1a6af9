"""The model of scaling, on paper: its limits, and what it counts of an update."""
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accelerators, collectives, estimate, scaling
from mollification import parallel
from tests.training import tiny
from tests.updates import config_of


def _counts(parameters=3e7, flops=1e12, collectives=1):
  return {'parameters': parameters, 'flops': flops, 'bytes': 4 * parameters,
          'collectives': collectives}


def test_one_device_sends_nothing_and_more_send_twice_the_gradient():
  assert scaling.seconds(_counts(), 1) == (1e12 / (.3 * 19.5e12), 0., 0.)
  _, sending, waiting = scaling.seconds(_counts(1e9), 1024)
  assert sending == pytest.approx(2 * 4e9 * 1023 / 1024 / scaling.ACROSS[0])
  assert waiting == pytest.approx(2 * 10 * scaling.ACROSS[1])
  _, sending, waiting = scaling.seconds(_counts(1e9, collectives=761), 8)
  assert sending == pytest.approx(2 * 4e9 * 7 / 8 / scaling.IN_HOST[0])
  assert waiting == pytest.approx(761 * 2 * 3 * scaling.IN_HOST[1])


def test_efficiency_falls_with_devices_and_norms_and_rises_with_work():
  found = [scaling.efficiency(_counts(), n) for n in scaling.COUNTS]
  assert found == sorted(found, reverse=True)
  assert found[0] == 1.
  assert scaling.efficiency(_counts(flops=1e13), 64) > scaling.efficiency(_counts(), 64)
  assert scaling.efficiency(_counts(collectives=100), 64) < scaling.efficiency(_counts(), 64)
  compute = 1e12 / scaling.UTILISATION / accelerators.ACCELERATORS['a100'].flops
  assert found[2] == pytest.approx(compute / sum(scaling.seconds(_counts(), 64)))
  assert math.isclose(scaling.seconds(_counts(), 64)[0], compute)


def test_a_row_a_model():
  _, _, row = scaling.table({'v': _counts(31_000_000, collectives=25)}).splitlines()
  assert row.startswith('| v | 248 MB | 25 | 171 ms | 0.7 + 0.8 ms, 99.1% | 9.8 + 3.0 ms, 93.1% |')


def _realnvp():
  config = config_of('fashion_mnist_realnvp')
  config.batch_size = 8
  config.model.update(scales=1, blocks=1, features=2)
  return config


def _norms(state):
  """BatchNorms of a state; those of a scanned body are stacked."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state.model_state['batch_stats'])
  return sum(math.prod(leaf.shape[:-1]) for path, leaf in leaves if path[-1].key == 'mean')


@pytest.mark.parametrize('make', [_realnvp, lambda: tiny.config('flow')], ids=['realnvp', 'flow'])
def test_a_batch_norm_waits_for_four_sums_and_the_gradients_for_one(make):
  """Loops of couplings in full: that is what makes RealNVP wait."""
  update, shapes = estimate.update_of(make())
  norms, jaxpr = _norms(shapes[0]), jax.make_jaxpr(update)(*shapes)
  assert norms > 1
  assert collectives.rounds(jaxpr) == 4 * norms + 1
  gradients = 4 * estimate.parameters_of(shapes[0])
  assert gradients < collectives.sent(jaxpr) < 2 * gradients


def test_without_batch_norms_the_gradients_alone_are_summed():
  assert scaling.counts(tiny.config('glow'))['collectives'] == 1


def test_rounds_are_the_all_reduces_that_a_compiler_leaves():
  """Of a net without loops, of which a program's text shows each once."""
  update, shapes = estimate.update_of(tiny.config('flow'))
  text = update.lower(*shapes).compile().as_text()
  assert len(re.findall(r' all-reduce(?:-start)?\(', text)) == scaling.counts(
    tiny.config('flow'))['collectives']


def test_what_does_not_wait_goes_together_and_a_loop_counts_each_time():
  def fn(x):
    both = jax.lax.psum(x, 'batch'), jax.lax.psum(2. * x, 'batch')
    again = jax.lax.psum(both[0] + both[1] / jax.lax.psum(jnp.sum(jnp.ones(3)), 'batch'), 'batch')
    again = jax.lax.cond(again.sum() > 0., lambda: again, lambda: jax.lax.psum(again, 'batch'))
    return jax.lax.scan(lambda x, _: (jax.lax.psum(x, 'batch'), x), again, None, length=5)

  n = jax.local_device_count()
  jaxpr = jax.make_jaxpr(jax.pmap(fn, axis_name=parallel.AXIS))(np.ones((n, 7), np.float32))
  assert collectives.rounds(jaxpr) == 1 + 1 + 1 + 5
  assert collectives.sent(jaxpr) == 4 + 28 * (2 + 1 + 1 + 5)


@pytest.mark.slow
@pytest.mark.parametrize('model', scaling.MODELS)
def test_what_is_recorded_is_of_the_configs_as_they_are(model):
  found = scaling.counts(config_of(f'cifar10_{model}'))
  assert json.loads(scaling.RESULTS.read_text())[model] == {
    **found, 'flops': pytest.approx(found['flops'], rel=1e-3)}


def test_realnvp_waits_for_its_many_norms():
  assert json.loads(scaling.RESULTS.read_text())['realnvp']['collectives'] > 4 * 100
