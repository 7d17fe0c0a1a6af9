"""What is fuzzed and how: damaged forms of good files, and the errors that readers may raise."""
import contextlib
import dataclasses
import io
import json
import pathlib
import pickle
import resource
import signal
import sys
import zipfile
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from configs import digits_vae
from mollification import metrics, npz
from mollification.data import density_tables, images, tabular
from mollification.evaluation import (
  graph_file,
  records,
  sources,
  statistics_file,
  torch_file,
  weights,
)
from tests.evaluation import weight_files

SECONDS = 20           # for one input; more is a hang
MEMORY = 4_000_000_000   # that one input may add to what the process maps
# What no reader has to do with; auditing tells of it whatever the way.
FORBIDDEN = ('os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'subprocess.Popen',
             'socket.connect', 'os.chmod', 'shutil.rmtree')
_watching = []
# Numbers that files hold as sizes and offsets: too large, negative, just beyond a limit.
_NUMBERS = [n.to_bytes(size, 'little', signed=True) for n, size in (
  (-1, 4), (-1, 8), (2**31 - 1, 4), (2**40, 8), (2**62, 8), (0, 4), (0, 8), (1, 4), (255, 4))]


@sys.addaudithook
def _audit(event, args):
  if _watching and event in FORBIDDEN:
    _watching.append(f'{event} {args!r:.80}')


@dataclasses.dataclass(frozen=True)
class Target:
  """A reader, `read(content, folder)`, and good files to damage."""
  seeds: Callable[[], list]
  read: Callable


def check(target, content, folder):
  """Read `content`: True where that works, False for an error that may be; else AssertionError."""
  limits = resource.getrlimit(resource.RLIMIT_AS)
  used = 4096 * int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
  signal.signal(signal.SIGALRM, _too_long)
  signal.alarm(SECONDS)
  before, raised = _peak(), None
  _watching[:] = ['on']
  try:
    target.read(content, folder)
  except ValueError as error:
    raised = error
  finally:
    done, _watching[:] = _watching[1:], []
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, limits)
  assert not done, done
  assert not _ran_out(raised), 'it made room for more than the file holds'
  assert _peak() - before < MEMORY / 10, 'it took memory for more than the file holds'
  return raised is None


def _peak():
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _ran_out(error):
  """Whether an exception, or one that it came of, is a MemoryError."""
  return error is not None and (
    isinstance(error, MemoryError) or _ran_out(error.__cause__ or error.__context__))


def _too_long(*args):
  raise AssertionError(f'no end after {SECONDS} s')


@st.composite
def damaged(draw, seeds):
  """Bytes: random ones, or one of `seeds` after up to four changes."""
  if draw(st.integers(0, 19)) == 0:
    return draw(st.binary(max_size=300))
  content = bytearray(draw(st.sampled_from(seeds)))
  for _ in range(draw(st.integers(0, 4))):
    at = draw(st.integers(0, len(content)))
    end = min(len(content), at + draw(st.integers(0, 64)))
    kind = draw(st.sampled_from(['cut', 'flip', 'drop', 'repeat', 'insert', 'splice', 'number']))
    if kind == 'cut':
      del content[at:]
    elif kind == 'flip' and at < len(content):
      content[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == 'drop':
      del content[at:end]
    elif kind == 'repeat':
      content[at:at] = content[at:end] * draw(st.sampled_from([1, 2, 100]))
    elif kind == 'insert':
      content[at:at] = draw(st.binary(max_size=16))
    elif kind == 'splice':
      other = draw(st.sampled_from(seeds))
      start = draw(st.integers(0, len(other)))
      content[at:] = other[start:]
    elif kind == 'number':
      number = draw(st.sampled_from(_NUMBERS))
      content[at:at + len(number)] = number
  return bytes(content)


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
  tree = {'Conv': {'kernel': np.ones((2, 3), np.float32), 'bias': np.zeros(3, np.float32)}}
  return [*(pickle.dumps(tree, protocol) for protocol in range(2, 6)),
          weight_files.dumps(weight_files.call(weight_files.named('os', 'system'), 'true'))]


def _graph_seeds():
  return [weight_files.graph({name: a.astype(np.float32) for name, a in _arrays().items()})]


def _read_weights(content, folder):
  path = folder / 'weights'
  path.write_bytes(content)
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


TARGETS = {
  'statistics': Target(_statistics_seeds, _to_file('x.npz', statistics_file.read)),
  'own_images': Target(_own_images_seeds, _to_file('x.npz', images.load_npz)),
  'table': Target(_npy_seeds, _to_file('x.npy', tabular.read_npy)),
  'table_text': Target(lambda: [b'a,b,c\n1,2,3\n4.5,1e3,-7\n', b'x y z\n1,nan,2\n'], _to_file(
    'x.csv', lambda path: density_tables._read_text(path, 3, ','))),
  'torch': Target(_torch_seeds, lambda content, _: torch_file.read(content)),
  'jax_fid': Target(_jax_fid_seeds, lambda content, _: weights._from_jax_fid(content)),
  'graph': Target(_graph_seeds, lambda content, _: graph_file.read(content)),
  'weights': Target(lambda: [*_torch_seeds(), *_jax_fid_seeds(), *_graph_seeds(), *_npz_seeds()],
                    _read_weights),
  'npz': Target(_npz_seeds, _read_npz),
  'npz_mapped': Target(_npz_seeds, _map('.npz')),
  'npy_mapped': Target(_npy_seeds, _map('.npy')),
  'images': Target(_image_seeds, _read_images),
  'archive': Target(_archive_seeds, _read_archive),
  'config': Target(_config_seeds, _read_config),
  'rows': Target(_row_seeds, _read_rows),
  'record': Target(_record_seeds, _read_record),
}
