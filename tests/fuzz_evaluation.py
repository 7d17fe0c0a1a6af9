"""What is fuzzed of the evaluation: readers of weights, statistics, kept features and records."""
import contextlib
import dataclasses
import json
import pathlib
import pickle
import tempfile
import types
from unittest import mock

import numpy as np

from mollification import metrics
from mollification.evaluation import (
  graph_file,
  inception,
  records,
  reference,
  scoring,
  statistics_file,
  torch_file,
  weights,
)
from tests.evaluation import weight_files
from tests.fuzz_data import arrays, saved
from tests.fuzzing import Target, to_file


def _torch_seeds():
  good = weight_files.state_dict(arrays())
  hostile = {'a': weight_files.call(weight_files.named('os', 'system'), 'true')}
  return [weight_files.legacy(*good), weight_files.zipped(*good),
          weight_files.legacy(hostile, {}), weight_files.zipped(hostile, {})]


def _jax_fid_seeds():
  inception.shapes()   # compiled once, and JAX may keep that on disk
  tree = {'Conv': {'kernel': np.ones((2, 3), np.float32), 'bias': np.zeros(3, np.float32)}}
  return [*(pickle.dumps(tree, protocol) for protocol in range(2, 6)),
          weight_files.dumps(weight_files.call(weight_files.named('os', 'system'), 'true'))]


def _graph_seeds():
  return [weight_files.graph({name: a.astype(np.float32) for name, a in arrays().items()})]


# Of a net small enough to be damaged everywhere; of the real one's names, which the forms need.
_SMALL = {'Conv2d_1a_3x3/conv/kernel': (3, 3, 3, 2), 'Conv2d_1a_3x3/bn/bias': (2,),
          'Conv2d_1a_3x3/bn/mean': (2,), 'Conv2d_1a_3x3/bn/var': (2,), 'fc/kernel': (2, 4),
          'fc/bias': (4,)}


def _small_net():
  return mock.patch.object(inception, 'shapes', return_value=_SMALL)


def _weights_seeds():
  """The same weights in every form."""
  rng = np.random.default_rng(0)
  arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in _SMALL.items()}
  theirs = {'.'.join([*name.split('/')[:-1], weights.TORCH_LEAVES[name.split('/')[-1]]]):
            array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim))
            for name, array in arrays.items()}
  state = weight_files.state_dict(theirs)
  nodes = {weights.graph_names()[name]: array for name, array in arrays.items()}
  nested = weights.nest(arrays)
  with _small_net(), tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'x.npz'
    weights.save(weights.Weights(nested, '', weights.TORCH_SHA256), path)
    return [weight_files.legacy(*state), weight_files.zipped(*state), weight_files.graph(nodes),
            pickle.dumps(nested, protocol=4), path.read_bytes()]


def _read_weights(content, folder):
  path = folder / 'weights'
  path.write_bytes(content)
  with _small_net():
    weights.load(path, allow_unverified=True)


def _statistics_seeds():
  meta = {'name': 'a', 'n': 5, 'features': dict.fromkeys(statistics_file.IDENTITY, 'x')}
  arrays = {'mu': np.zeros(3), 'sigma': np.eye(3)}
  return [saved(**arrays), saved(**arrays, n=5, meta=np.array(json.dumps(meta))),
          saved(**arrays, n=np.float64(5))]


_KEPT = np.arange(15, dtype=np.float32).reshape(5, 3)


def _kept_in(folder):
  """What an evaluation keeps of a split, with rows and their description."""
  extractor = types.SimpleNamespace(name='net')
  split = types.SimpleNamespace(name='test', num_examples=5, sha256='a')
  with mock.patch.object(scoring, 'identity', return_value={'net': 'x'}):
    kept = reference._Kept(folder, extractor, 'digits', split)
  kept.rows_path.parent.mkdir(exist_ok=True)
  kept.write(types.SimpleNamespace(moments=None, spatial=None, rows=_KEPT), ['kid'])
  return kept


def _kept_seeds(suffix):
  with tempfile.TemporaryDirectory() as folder:
    return [_kept_in(pathlib.Path(folder)).rows_path.with_suffix(suffix).read_bytes()]


def _read_kept(suffix):
  def read(content, folder):
    kept = _kept_in(folder)
    kept.rows_path.with_suffix(suffix).write_bytes(content)
    bytes(kept.read('kid'))
  return read


def _kept_array_seeds():
  with tempfile.TemporaryDirectory() as folder:
    kept = _kept_in(pathlib.Path(folder))
    kept.array('kid', (), lambda: np.arange(5.), {})
    return [kept.rows_path.with_name('test-net-kid.npz').read_bytes()]


def _read_kept_array(content, folder):
  kept = _kept_in(folder)
  kept.rows_path.with_name('test-net-kid.npz').write_bytes(content)
  assert kept.array('kid', (), None, {}).shape == (5,)


def _record_seeds():
  record = records.Record(
    metric='mmd2', value=float('nan'), standard_error=.1, n=10, unit='nats', params='raw', step=3,
    reference={'dataset': 'digits', 'split': 'test', 'n': 10, 'sha256': 'a'}, seed=0,
    config_sha256='c', seconds=1., versions={}, device='cpu x 1', extra={'a': [1., 'inf']})
  return [json.dumps(metrics.jsonable(dataclasses.asdict(record))).encode()]


def _read_record(content, folder):
  path = folder / 'record.json'
  path.write_bytes(content)
  with contextlib.suppress(ValueError):
    records.read_all(folder)
  record = records.read(path)
  assert record.file_name == record.file_name.split('/')[-1]


TARGETS = {
  'torch': Target(_torch_seeds, lambda content, _: torch_file.read(content)),
  'jax_fid': Target(_jax_fid_seeds, lambda content, _: weights._from_jax_fid(content)),
  'graph': Target(_graph_seeds, lambda content, _: graph_file.read(content)),
  'weights': Target(_weights_seeds, _read_weights),
  'statistics': Target(_statistics_seeds, to_file('x.npz', statistics_file.read)),
  'kept_rows': Target(lambda: _kept_seeds('.npy'), _read_kept('.npy')),
  'kept_meta': Target(lambda: _kept_seeds('.json'), _read_kept('.json')),
  'kept_array': Target(_kept_array_seeds, _read_kept_array),
  'record': Target(_record_seeds, _read_record),
}
