"""Class-conditional models through config, batches, training, evaluation and samples."""
import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs import default, synthetic_realnvp
from mollification import build
from mollification.training import loop
from tests.training import tiny


def _config(classes=10):
  config = tiny.config('flow', eval__every=8, log__every=8)
  default.set_model(config, 'realnvp_tabular', num_blocks=1, hidden=8, learned_base=True,
                    classes=classes)
  return config


def test_the_labels_of_a_batch_are_its_condition():
  config = _config()
  dataset = build.load_data(config)
  batch, cond, _ = build.build(config, dataset).batch(3, 2)
  assert cond.shape == (2, 16, 10)
  label_of = {x.tobytes(): label for x, label in zip(dataset.train.x, dataset.train.labels)}
  expected = np.array([[label_of[x.tobytes()] for x in rows] for rows in batch])
  np.testing.assert_array_equal(cond.argmax(-1), expected)
  np.testing.assert_array_equal(cond.sum(-1), 1.)


def test_training_evaluation_and_samples_know_the_class(tmp_path):
  config = _config()
  with jax.debug_key_reuse(False):   # it slows every eager operation of a checkpoint
    state = loop.train(build.build(config), tmp_path).state
  evaluation = build.build_evaluation(config)
  variables = evaluation.variables(state)
  of_class = {path[-1]: value for path, value in
              traverse_util.flatten_dict(variables['params']).items() if 'of_class' in path[-1]}
  assert all(np.abs(value).sum(-1).min() > 0 for value in of_class.values())   # each class moved
  split = evaluation.dataset.test
  right = evaluation.log_likelihood(variables, split)
  labels = split.labels.copy()
  labels[-1] = (labels[-1] + 1) % 10
  wrong = evaluation.log_likelihood(variables, dataclasses.replace(split, labels=labels))
  assert right.mean != wrong.mean   # one label makes a difference, the last one too
  # Samples take the classes in turn: one of class 3 is the same as long as 3 stays in its place.
  many, few = evaluation.sample(variables, 14).x, evaluation.sample(variables, 3).x
  np.testing.assert_array_equal(many[:3], few)


def test_classes_that_the_data_have_not():
  with pytest.raises(ValueError, match=r'classes 5 needs labels 0 to 4, .*labels up to 9; set'):
    build.build(_config(classes=5)).create_state()
  config = synthetic_realnvp.get_config('model.learned_base=True,model.classes=2')
  with pytest.raises(ValueError, match=r'classes 2 needs labels .*have no labels; set it to 0'):
    build.build(config).create_state()
