"""Keys: a draw is a function of (seed, purpose, step, global index), however it is split."""
import jax
import numpy as np
import pytest

from mollification import rng


def _data(keys):
  return np.asarray(jax.random.key_data(keys))


def test_step_keys_do_not_depend_on_the_split():
  key = lambda: rng.purpose_key(0, 'train')
  whole = rng.step_keys(key(), 3, 0, 8)
  parts = [rng.step_keys(key(), 3, first, 2) for first in (0, 2, 4, 6)]
  for kind in range(3):
    np.testing.assert_array_equal(
      _data(whole[kind]), np.concatenate([_data(part[kind]) for part in parts]))


def test_step_keys_differ_by_kind_step_and_example():
  keys = [rng.step_keys(rng.purpose_key(0, 'train'), step, 0, 8) for step in (3, 4)]
  rows = np.concatenate([_data(kind) for step in keys for kind in step])
  assert len(np.unique(rows, axis=0)) == 2 * 3 * 8


def test_purposes_and_seeds_differ():
  rows = [_data(rng.purpose_key(seed, p)) for seed in (0, 1) for p in rng.PURPOSES]
  assert len(np.unique(rows, axis=0)) == 2 * len(rng.PURPOSES)


def test_unknown_purpose():
  with pytest.raises(ValueError, match="got 'noise'"):
    rng.purpose_key(0, 'noise')
