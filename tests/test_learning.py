"""Slow tier: the whole path learns what can be known exactly."""
import importlib

import pytest

from mollification import build
from mollification.training import loop


def _trained(workdir, arg):
  """(mean test log-likelihood, its standard error, entropy), of a run of the synthetic config."""
  config = importlib.import_module('configs.synthetic_realnvp').get_config(arg)
  run = build.build(config)
  evaluation = build.build_evaluation(config)
  outcome = loop.train(run, workdir)
  found = evaluation.log_likelihood(evaluation.variables(outcome.state), evaluation.dataset.test)
  return found.mean, found.sem, evaluation.dataset.density.entropy()


@pytest.mark.slow
@pytest.mark.parametrize('fraction', [0., .5])
def test_realnvp_comes_near_the_entropy_of_the_mixture(tmp_path, fraction):
  mean, sem, entropy = _trained(tmp_path, f'mollify.fraction={fraction}')
  # No density beats the true one by more than the error of the mean.
  assert mean < -entropy + 5 * sem
  assert mean > -entropy - .05


@pytest.mark.slow
@pytest.mark.parametrize('fraction', [0., .5])
def test_the_gap_on_the_ring_of_eight_is_reported(tmp_path, fraction, record_property):
  """Its modes are islands that a flow joins by bridges: the gap is recorded, not bounded."""
  mean, sem, entropy = _trained(tmp_path, f'data.name=eight_gaussians,mollify.fraction={fraction}')
  record_property('gap_nats', -entropy - mean)
  print(f'ring of eight, fraction {fraction}: {-entropy - mean:.3f} nats from the entropy')
  assert mean < -entropy + 5 * sem
