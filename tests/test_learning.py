"""Slow tier: the whole path learns what can be known exactly."""
import importlib

import pytest

from mollification import build
from mollification.training import loop


@pytest.mark.slow
@pytest.mark.parametrize('fraction', [0., .5])
def test_realnvp_comes_near_the_entropy_of_the_mixture(tmp_path, fraction):
  config = importlib.import_module('configs.synthetic_realnvp').get_config()
  config.mollify.fraction = fraction
  run = build.build(config)
  evaluation = build.build_evaluation(config)
  outcome = loop.train(run, tmp_path)
  found = evaluation.log_likelihood(evaluation.variables(outcome.state), evaluation.dataset.test)
  entropy = evaluation.dataset.density.entropy()
  # No density beats the true one by more than the error of the mean.
  assert found.mean < -entropy + 5 * found.sem
  assert found.mean > -entropy - .15
