"""Data larger than memory: of a mapped cache of 30 GB, batches are all that memory holds."""
import functools

import numpy as np
import pytest

from configs import cifar10_vae
from mollification import build
from mollification.data import cache
from mollification.data.dataset import batch_indices
from mollification.training import loop
from tests import memory
from tests.training import tiny

EVENT, COUNT = (32, 32, 3), 10_000_000   # 30.7 GB
CARVED = 5_000


def _sparse(path, shape, written):
  """A .npy file of `shape`, uint8, of zeros that take no room but for the rows {index: value}."""
  size = int(np.prod(shape[1:]))
  with path.open('wb') as file:
    np.lib.format.write_array_header_1_0(
      file, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
    start = file.tell()
    for row, value in written.items():
      file.seek(start + row * size)
      file.write(bytes([value]) * size)
    file.truncate(start + shape[0] * size)


@pytest.fixture
def large(tmp_path, monkeypatch):
  """(Dataset, {row: value}) of a cache on disk with a few rows that are not zero."""
  rng = np.random.default_rng(0)
  rows = {int(row): int(value) for row, value in zip(
    np.append(rng.integers(0, COUNT - CARVED, 30), COUNT - 1), rng.integers(1, 256, 31))}
  monkeypatch.setattr(cache, '_file_sha256', lambda path: 'not read here')   # it takes minutes

  def write(folder):
    _sparse(folder / 'train.npy', (COUNT, *EVENT), rows)
    if (folder / 'train.npy').stat().st_blocks * 512 > 1e9:
      pytest.skip('this disk has no sparse files')
    _sparse(folder / 'test.npy', (10, *EVENT), {})
    return {'carve': CARVED}

  monkeypatch.setattr(cache.dataset.Split, 'sha256', 'not read either')
  folder = cache.ensure(tmp_path / 'large', write)
  yield cache.read(folder, 'cifar10'), rows
  (folder / 'train.npy').unlink()


@pytest.mark.slow
def test_batches_of_a_cache_larger_than_memory_take_no_memory(large, record_property):
  """Through the run's own batches; the first has an epoch's order, 40 MB, made of 80."""
  data, rows = large
  assert data.train.x.nbytes > 30e9
  config = cifar10_vae.get_config('batch_size=128')
  batch = functools.partial(build.host_batch, config, data.train)
  before, found = memory.own_mb(), []
  for step in range(100):
    images, _, _ = batch(step, 1)
    assert images.shape == (1, 128, *EVENT)
    found.append(memory.own_mb() - before)
  record_property('MB more', max(found))
  assert max(found) < 200
  # And they are the rows of the file: the step of each that is not zero has it at its place.
  places = {int(row): divmod(place, 128) for place, row in enumerate(np.concatenate([
    batch_indices(step, seed=config.seed, num_examples=len(data.train.x), batch_size=128)[0]
    for step in range(len(data.train.x) // 128)])) if int(row) in rows}
  assert len(places) > 20
  for row, (step, i) in places.items():
    np.testing.assert_array_equal(batch(step, 1)[0][0, i], rows[row])
  np.testing.assert_array_equal(data.validation.x[-1], rows[COUNT - 1])


@pytest.mark.slow
def test_a_run_on_a_cache_larger_than_memory_takes_none_of_it(large, tmp_path, record_property):
  """Updates, evaluations, pictures and saves, from the first to the last."""
  data, _ = large
  changes = {'total_steps': 20, 'batch_size': 128, 'steps_per_call': 5, 'log.every': 5,
             'log.stdout': False, 'eval.every': 10, 'eval.valid_examples': 256,
             'eval.sample_every': 10, 'checkpoint.every': 10, 'model.widths': (8, 8, 8, 8)}
  config = cifar10_vae.get_config()
  config.update_from_flattened_dict(changes)
  before = memory.own_mb()
  run = build.build(config, data)
  outcome = loop.train(run, tmp_path / 'run')
  grown = memory.own_mb() - before
  record_property('MB more', grown)   # with the compiled programs and what compiling took
  assert outcome.reason == 'finished'
  assert [row['step'] for row in tiny.rows(tmp_path / 'run')] == [5, 10, 15, 20]
  assert grown < 3_000
