"""What is fuzzed: the readers of files and commands, each with good files to damage."""
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import pickle
import sys
import tempfile
import types
import zipfile
from unittest import mock

import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image

from configs import digits_vae
from mollification import cli, metrics, npz
from mollification.data import cache, density_tables, images, tabular
from mollification.evaluation import (
  graph_file,
  inception,
  records,
  reference,
  scoring,
  sources,
  statistics_file,
  torch_file,
  weights,
)
from mollification.training import workdir
from tests.evaluation import weight_files
from tests.fuzzing import Target


def _arrays():
  rng = np.random.default_rng(0)
  return {'a.weight': rng.normal(size=(3, 4)).astype(np.float32), 'a.bias': np.arange(4.),
          'n': np.int64([3])}


def _torch_seeds():
  good = weight_files.state_dict(_arrays())
  hostile = {'a': weight_files.call(weight_files.named('os', 'system'), 'true')}
  return [weight_files.legacy(*good), weight_files.zipped(*good),
          weight_files.legacy(hostile, {}), weight_files.zipped(hostile, {})]


def _jax_fid_seeds():
  inception.shapes()   # compiled once, and JAX may keep that on disk
  tree = {'Conv': {'kernel': np.ones((2, 3), np.float32), 'bias': np.zeros(3, np.float32)}}
  return [*(pickle.dumps(tree, protocol) for protocol in range(2, 6)),
          weight_files.dumps(weight_files.call(weight_files.named('os', 'system'), 'true'))]


def _graph_seeds():
  return [weight_files.graph({name: a.astype(np.float32) for name, a in _arrays().items()})]


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


def _npz_seeds():
  seeds = []
  for write in (np.savez, np.savez_compressed):
    stream = io.BytesIO()
    write(stream, **_arrays(), f=np.asfortranarray(np.ones((3, 2))), s=np.array('text'))
    seeds.append(stream.getvalue())
  return seeds


def _npy_seeds():
  seeds = []
  for array in (*_arrays().values(), np.asfortranarray(np.ones((3, 2)))):
    stream = io.BytesIO()
    np.save(stream, array)
    seeds.append(stream.getvalue())
  return seeds


def _read_npz(content, folder):
  npz.read(io.BytesIO(content))


def _map(suffix):
  def read(content, folder):
    path = folder / f'x{suffix}'
    path.write_bytes(content)
    array = npz.mapped(path, lambda names: names[0] if names else 'none')
    bytes(array)   # what is mapped beyond the file's end kills the process
  return read


def _image(kind, mode='RGB', **options):
  stream = io.BytesIO()
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
  Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
  return stream.getvalue()


def _image_seeds():
  return [_image('PNG'), _image('PNG', 'P'), _image('PNG', 'L'), _image('JPEG'), _image('WEBP'),
          _image('BMP')]


def _read_images(content, folder):
  (folder / 'images').mkdir(exist_ok=True)
  (folder / 'images' / 'good.png').write_bytes(_image('PNG'))
  (folder / 'images' / 'x.png').write_bytes(content)
  _read_source(folder / 'images')


def _read_source(path):
  source = sources.open_images(path)
  found = source.piece(0, source.n)
  assert len(found) == source.n
  assert all(image.dtype == np.uint8 and image.ndim == 3 for image in found)


def _archive_seeds():
  seeds = []
  for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as archive:
      for i, image in enumerate((_image('PNG'), _image('JPEG'))):
        archive.writestr(f'folder/{i}.png', image)
    seeds.append(stream.getvalue())
  return seeds


def _read_archive(content, folder):
  path = folder / 'x.zip'
  path.write_bytes(content)
  _read_source(path)


def _config_seeds():
  return [text.encode() for text in (
    'batch_size=16,total_steps=20,model.widths=(8,4)', "data.name=digits,eval.best_metric=''",
    'mollify.fraction=.25,mollify.name=heat_blur,log.stdout=False', 'optimizer.b1=1e-3,seed=7',
    'model.learn_variance=True,model.likelihood=gaussian,smoke=True')]


def _read_config(content, folder):
  digits_vae.get_config(content.decode('utf-8', 'replace'))


def _override_seeds():
  """What follows `--config.`, a flag a line."""
  return [text.encode() for text in (
    'batch_size=16\ntotal_steps=20\nmodel.widths=(8,4)', "data.name=digits\neval.best_metric=''",
    'mollify.fraction=.25\nmollify.name=heat_blur\nlog.stdout=False\nlog.tensorboard',
    'optimizer.b1=1e-3\nseed=7\nmollify=1', 'model.learn_variance=True\nmodel.likelihood=gaussian')]


def _read_overrides(content, folder):
  """As a binary does, which ends with one line and status 2."""
  values, said = flags.FlagValues(), io.StringIO()
  config = config_flags.DEFINE_config_file('config', flag_values=values)
  lines = content.decode('utf-8', 'replace').split('\n')
  argv = ['main', '--config=configs/digits_vae.py', *(f'--config.{line}' for line in lines)]
  # ml_collections looks for them in sys.argv.
  with (mock.patch.object(flags, 'FLAGS', values), mock.patch.object(sys, 'argv', argv),
        contextlib.redirect_stderr(said)):
    try:
      cli.parse_flags(argv)
      cli.config_of(config)
      return
    except SystemExit as end:
      status = end.code
  assert (status, said.getvalue().count('\n')) == (2, 1), said.getvalue()
  raise ValueError(said.getvalue())


def _row_seeds():
  rows = [{'step': step, 'train/loss': 1. / step, 'valid/x': 'nan'} for step in (1, 2, 3)]
  return [''.join(json.dumps(row) + '\n' for row in rows).encode()]


def _read_rows(content, folder):
  path = folder / 'metrics.jsonl'
  path.write_bytes(content)
  rows = metrics.read_rows(path)
  assert metrics.cut_rows(path, lambda step: step != 2) == [r for r in rows if r['step'] != 2]
  metrics.read_rows(path)


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


def _to_file(name, read):
  """The reader of a path as one of its content."""
  def read_content(content, folder):
    (folder / name).write_bytes(content)
    read(folder / name)
  return read_content


def _saved(**arrays):
  stream = io.BytesIO()
  np.savez(stream, **arrays)
  return stream.getvalue()


def _statistics_seeds():
  meta = {'name': 'a', 'n': 5, 'features': dict.fromkeys(statistics_file.IDENTITY, 'x')}
  arrays = {'mu': np.zeros(3), 'sigma': np.eye(3)}
  return [_saved(**arrays), _saved(**arrays, n=5, meta=np.array(json.dumps(meta))),
          _saved(**arrays, n=np.float64(5))]


def _own_images_seeds():
  x = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
  return [_saved(train=x, test=x[:3]),
          _saved(train=x, test=x, validation=x, train_labels=x[:, 0, 0, 0])]


def _read_own_image(path):
  """As of a folder of images: in its own size and mode where they may be, and made to fit."""
  with contextlib.suppress(ValueError):
    assert images._read_image(path, None, None).dtype == np.uint8
  for channels in (1, 3):
    assert images._read_image(path, 4, channels).shape == (4, 4, channels)


_CACHED = np.arange(80, dtype=np.uint8).reshape(20, 2, 2, 1)


def _cache_in(folder):
  """A cache whose stamps are the same wherever and whenever it is written."""
  def write(place):
    for name, rows in (('train', _CACHED), ('test', _CACHED[:3])):
      cache.write_rows(place / f'{name}.npy', rows.shape, np.uint8, [rows])
      os.utime(place / f'{name}.npy', ns=(0, 0))
    return {'carve': 5}

  place = folder / 'cache'
  if not place.exists():
    cache.ensure(place, write)
  return place


def _cache_seeds(name):
  """A file of the cache; meta.json also as it was before it had a sha256."""
  with tempfile.TemporaryDirectory() as folder:
    content = (_cache_in(pathlib.Path(folder)) / name).read_bytes()
  meta = json.loads(content)
  if 'sha256' not in meta:
    return [content]
  del meta['sha256']
  return [content, json.dumps(meta).encode()]


def _read_cache(folder):
  trouble = cache.problem(folder)
  if trouble:
    raise ValueError(trouble)
  found = cache.read(folder, 'x')
  for split, rows in (('train', _CACHED[:15]), ('validation', _CACHED[15:]), ('test', _CACHED[:3])):
    np.testing.assert_array_equal(getattr(found, split).x, rows)


def _read_cache_meta(content, folder):
  place = _cache_in(folder)
  (place / 'meta.json').write_bytes(content)
  _read_cache(place)


def _read_cache_stamp(content, folder):
  """It spares the hash of what is large; what is wrong with it is written anew."""
  place = _cache_in(folder)
  (place / 'stamp.json').write_bytes(content)
  with mock.patch.object(cache, 'VERIFY_BYTES', 0):
    assert not cache.problem(place)
  if json.loads((place / 'stamp.json').read_text()) != _or_none(content):
    raise ValueError('written anew')


def _or_none(content):
  try:
    return json.loads(content)
  except (ValueError, RecursionError):
    return None


_RUN = {'seed': 0, 'total_steps': 20, 'data': {'name': 'a', 'noise': 0.}, 'model': {'name': 'b'},
        'mollify': {'steps': 5, 'order': 'falling'}, 'optimizer': {'schedule': 'constant'}}
_SUMMARIES = {'train': {'shape': [5, 2], 'dtype': '<f4', 'means': [.5, -1., 0., 1e-3, 2.]}}


def _run_seeds():
  return [json.dumps(run, indent=2).encode() for run in (_RUN, _RUN | {'total_steps': 10})]


def _read_run(content, folder):
  (folder / 'config.json').write_bytes(content)
  workdir.read_config(folder)
  workdir.check(folder, _RUN)


def _read_run_data(content, folder):
  (folder / 'data.json').write_bytes(content)
  workdir.check_data(folder, _SUMMARIES)


def _kept_in(folder):
  """What an evaluation keeps of a split, with rows and their description."""
  extractor = types.SimpleNamespace(name='net')
  split = types.SimpleNamespace(name='test', num_examples=5, sha256='a')
  with mock.patch.object(scoring, 'identity', return_value={'net': 'x'}):
    kept = reference._Kept(folder, extractor, 'digits', split)
  kept.rows_path.parent.mkdir(exist_ok=True)
  kept.write(types.SimpleNamespace(moments=None, spatial=None, rows=_KEPT), ['kid'])
  return kept


_KEPT = np.arange(15, dtype=np.float32).reshape(5, 3)


def _kept_seeds(suffix):
  with tempfile.TemporaryDirectory() as folder:
    return [_kept_in(pathlib.Path(folder)).rows_path.with_suffix(suffix).read_bytes()]


def _read_kept(suffix):
  def read(content, folder):
    kept = _kept_in(folder)
    kept.rows_path.with_suffix(suffix).write_bytes(content)
    bytes(kept.read('kid'))
  return read


TARGETS = {
  'kept_rows': Target(lambda: _kept_seeds('.npy'), _read_kept('.npy')),
  'kept_meta': Target(lambda: _kept_seeds('.json'), _read_kept('.json')),
  'own_image': Target(_image_seeds, _to_file('x.png', _read_own_image)),
  'csv': Target(lambda: [b'"a";"b";"c"\n1;2;3\n4.5;"1e3";-7\n', b'\xef\xbb\xbfa;x;b\r\n1;;nan\r\n'],
                _to_file('x.csv', lambda path: tabular.read_csv(path, ('b', 'a'), ';'))),
  'cache_meta': Target(lambda: _cache_seeds('meta.json'), _read_cache_meta),
  'cache_stamp': Target(lambda: _cache_seeds('stamp.json'), _read_cache_stamp),
  'run_config': Target(_run_seeds, _read_run),
  'run_data': Target(lambda: [json.dumps(_SUMMARIES).encode()], _read_run_data),
  'statistics': Target(_statistics_seeds, _to_file('x.npz', statistics_file.read)),
  'own_images': Target(_own_images_seeds, _to_file('x.npz', images.load_npz)),
  'table': Target(_npy_seeds, _to_file('x.npy', tabular.read_npy)),
  'table_text': Target(lambda: [b'a,b,c\n1,2,3\n4.5,1e3,-7\n', b'x y z\n1,nan,2\n'], _to_file(
    'x.csv', lambda path: density_tables._read_text(path, 3, ','))),
  'torch': Target(_torch_seeds, lambda content, _: torch_file.read(content)),
  'jax_fid': Target(_jax_fid_seeds, lambda content, _: weights._from_jax_fid(content)),
  'graph': Target(_graph_seeds, lambda content, _: graph_file.read(content)),
  'weights': Target(_weights_seeds, _read_weights),
  'npz': Target(_npz_seeds, _read_npz),
  'npz_mapped': Target(_npz_seeds, _map('.npz')),
  'npy_mapped': Target(_npy_seeds, _map('.npy')),
  'images': Target(_image_seeds, _read_images),
  'archive': Target(_archive_seeds, _read_archive),
  'config': Target(_config_seeds, _read_config),
  'overrides': Target(_override_seeds, _read_overrides),
  'rows': Target(_row_seeds, _read_rows),
  'record': Target(_record_seeds, _read_record),
}
