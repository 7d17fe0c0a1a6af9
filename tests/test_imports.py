"""Promise 11: imports point one way, and the base needs nothing but jax and numpy.

And by the same reading of the code: no file's content is trusted but where it is said.
"""
import ast
import pathlib
import re
import subprocess
import sys

import pytest

import mollification

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'mollification'
MODULES = sorted(PACKAGE.rglob('*.py'))
SCRIPTS = sorted([*(ROOT / 'configs').glob('*.py'), *(ROOT / 'experiments').rglob('*.py')])
# A room may import rooms of a lower number, and of its own where that is the same room.
ORDER = {
  'files': 0, 'npz': 0, 'rng': 0, 'causes': 0, 'allocator': 0, 'notices': 0,
  'mollifiers': 1, 'schedules': 1, 'preprocess': 1, 'curricula': 1,
  'metrics': 2, 'parallel': 2, 'data': 2, 'models': 2, 'cli': 2,
  'deterministic': 2,
  'processes': 3, 'evaluation': 3, 'training': 4, 'check': 4, 'overview': 4, 'measurements': 4,
  'build_mollify': 5,
  'build': 6, 'build_sweep': 7, 'measure': 7, 'score': 8, 'watch': 8,
  'main': 9, 'evaluate': 9,
}
# Models are jax and flax, so that one may be lifted out of here.
MODELS_MAY = {'mollification', 'jax', 'flax', 'numpy', 'scipy', 'typing', 'math', 'itertools',
              'functools', 'types', 'inspect', 'collections'}


def _imports(path):
  """(name, inside a function?) of everything that a file imports; relative imports are refused."""
  return _imported(ast.parse(path.read_text()), inside=False)


def _imported(node, inside):
  if isinstance(node, ast.Import):
    yield from ((alias.name, inside) for alias in node.names)
  elif isinstance(node, ast.ImportFrom):
    assert not node.level, f'line {node.lineno}: a relative import says nothing of rooms'
    yield from ((f'{node.module}.{alias.name}', inside) for alias in node.names)
  inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
  for child in ast.iter_child_nodes(node):
    yield from _imported(child, inside)


def _room(name):
  parts = name.split('.')
  return parts[1] if parts[0] == 'mollification' and len(parts) > 1 and parts[1] in ORDER else None


def _name(path):
  return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


@pytest.mark.parametrize('path', MODULES, ids=_name)
def test_imports_point_one_way(path):
  room = _room(_name(path))
  for name, _ in _imports(path):
    other = _room(name)
    if room and other and other != room:
      assert ORDER[other] < ORDER[room], f'{room} imports {other}'
    top = name.split('.')[0]
    assert top not in ('configs', 'experiments', 'tests'), f'the package imports {top}'
    if room == 'models' and top == 'mollification':
      assert other in ('models', 'rng'), f'models import {name}'
    if room == 'evaluation':
      assert other not in ('mollifiers', 'schedules', 'curricula'), 'evaluation is about clean data'
    if _name(path) == 'mollification.training.step' and top == 'mollification':
      assert name.startswith('mollification.training.state') or other == 'rng'


def test_every_module_has_its_room():
  """Of one that has none no direction is known, and none was asked for."""
  own = ['mollification.__init__']   # which imports when it is asked
  assert [name for name in map(_name, MODULES) if _room(name) is None] == own
  assert {_room(_name(path)) for path in MODULES} - {None} == set(ORDER)


@pytest.mark.parametrize('path', MODULES, ids=_name)
def test_who_may_import_what(path):
  text, name = path.read_text(), _name(path)
  if name != 'mollification.parallel':
    assert not _calls_pmap(path)
  by_name = [(imported, True) for imported in _imports_by_name(path)]
  for imported, inside in [*_imports(path), *by_name]:
    top = imported.split('.')[0]
    if _room(name) == 'models':
      assert top in MODELS_MAY, f'models import {imported}'
    if top in ('tensorflow', 'tensorflow_datasets'):
      assert name == 'mollification.data.images'
      assert inside
    if imported.startswith('clu.metric_writers'):
      assert name == 'mollification.metrics'
      assert inside
    if top == 'ml_collections':
      assert _room(name) in ('main', 'measure', 'build')
    assert not imported.startswith(('jax._src', 'optax._src', 'flax.core.nn'))
  assert not re.search(r'\bconfig(\.\w+)*\.get\(', text), 'a config has every key: no default here'


def _imports_by_name(path):
  """Names of modules that a file imports through `require('module', extra)`."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(('require', 'import_module')):
      yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def _calls_pmap(path):
  """Whether a file uses `jax.pmap`, under whatever name it was imported."""
  tree = ast.parse(path.read_text())
  return any(
    (isinstance(node, ast.Attribute) and node.attr == 'pmap') or
    (isinstance(node, ast.ImportFrom) and node.module == 'jax' and
     any(alias.name == 'pmap' for alias in node.names)) for node in ast.walk(tree))


@pytest.mark.parametrize('path', SCRIPTS, ids=_name)
def test_configs_and_experiments_stand_on_the_package(path):
  assert not _calls_pmap(path)
  for imported, _ in _imports(path):
    top = imported.split('.')[0]
    assert top != 'tests'
    if path.parent.name == 'configs':
      assert top in ('configs', 'ml_collections', 'mollification', 'ast', 'difflib', 're'), imported


# What turns the content of a file into code, or writes where an archive says.
TEXT_RUNS = ('eval', 'exec', 'compile', '__import__')
PICKLES = ('pickle', '_pickle', 'marshal', 'shelve', 'dill', 'cloudpickle', 'joblib')
UNPICKLE = ('load', 'loads', 'Unpickler', 'open')
EXTRACT = ('extract', 'extractall', 'unpack_archive', 'read_pickle')
# The readers of torch's and jax-fid's weights, whose unpicklers know the names of arrays alone.
MAY_UNPICKLE = {'mollification.evaluation.torch_file': ['pickle.Unpickler'],
                'mollification.evaluation.weights': ['pickle.Unpickler']}


def _trusting(tree):
  """Texts of all that trusts a file's content, in order."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Name):
      trusts = node.id in TEXT_RUNS
    elif isinstance(node, ast.Attribute):
      module = node.value.id if isinstance(node.value, ast.Name) else ''
      trusts = (node.attr in EXTRACT or (module in PICKLES and node.attr in UNPICKLE)
                or (module == 'builtins' and node.attr in TEXT_RUNS))
    elif isinstance(node, ast.ImportFrom):
      trusts = node.module in (*PICKLES, 'builtins')
    elif isinstance(node, ast.Import):   # under another name it would not be seen above
      trusts = any(alias.asname and alias.name in (*PICKLES, 'builtins') for alias in node.names)
    elif isinstance(node, ast.keyword):
      trusts = node.arg == 'allow_pickle' and ast.unparse(node.value) != 'False'
    elif isinstance(node, ast.Call):   # NumPy's default has changed once: it is spelt out
      trusts = (ast.unparse(node.func) in ('np.load', 'numpy.load')
                and 'allow_pickle' not in [keyword.arg for keyword in node.keywords])
    else:
      continue
    if trusts:
      yield ast.unparse(node)


@pytest.mark.parametrize('path', [*MODULES, *SCRIPTS], ids=_name)
def test_no_file_is_trusted_but_where_it_is_said(path):
  found = list(_trusting(ast.parse(path.read_text())))
  assert found == MAY_UNPICKLE.get(_name(path), [])


@pytest.mark.parametrize('code', [
  'eval(x)', 'run = exec', 'builtins.eval(x)', 'from builtins import eval as f', '__import__(x)',
  'pickle.load(file)', 'from pickle import loads', 'import pickle as p', 'import marshal as m',
  'class A(pickle.Unpickler): pass', 'zipfile.ZipFile(x).extractall()', 'tar.extract(x)',
  'shutil.unpack_archive(x)', 'np.load(x)', "np.load(x, mmap_mode='r')",
  'np.load(x, allow_pickle=True)', 'npz(x, allow_pickle=flag)', 'pandas.read_pickle(x)'])
def test_trust_is_seen(code):
  assert len(list(_trusting(ast.parse(code)))) == 1


def test_other_names_are_no_trust():
  code = ('config.eval.x\nre.compile(x)\njson.loads(x)\nnp.load(x, allow_pickle=False)\n'
          'import pickle')
  assert not list(_trusting(ast.parse(code)))


def test_what_is_imported_on_import_is_seen_as_that():
  code = 'try:\n  import a\nexcept E:\n  pass\ndef f():\n  if g:\n    from b import c\n'
  assert list(_imported(ast.parse(code), False)) == [('a', False), ('b.c', True)]
  with pytest.raises(AssertionError, match='line 1'):
    list(_imported(ast.parse('from . import x'), False))


def test_imports_by_name_are_seen():
  images = PACKAGE / 'data' / 'images.py'
  assert {'tensorflow', 'tensorflow_datasets', 'PIL.Image'} <= set(_imports_by_name(images))


def test_base_import_needs_jax_and_numpy_alone():
  code = ('import sys, jax, numpy; before = set(sys.modules); from mollification import *; '
          'print(sorted({m.split(".")[0] for m in set(sys.modules) - before}))')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert ast.literal_eval(out.stdout) == ['mollification']


def test_names_of_the_package_are_imported_when_they_are_asked_for():
  """Binaries hear signals before jax is imported."""
  code = ('import sys, mollification; print("jax" in sys.modules, "numpy" in sys.modules); '
          'from mollification import curricula, mollify, schedules; '
          'print(mollification.mollifiers.gaussian is mollify, curricula.__name__); '
          'print(set(mollification.__all__) - set(dir(mollification)))')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert out.stdout.split('\n')[:3] == [
    'False False', 'True mollification.curricula', 'set()']
  with pytest.raises(AttributeError, match="no attribute 'molify'"):
    mollification.molify  # noqa: B018


def test_the_training_binary_listens_before_it_imports_what_takes_long():
  code = ('import sys; from mollification import main; '
          'print([name for name in ("jax", "numpy", "flax", "scipy") if name in sys.modules])')
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert out.stdout == '[]\n'


def test_the_one_line_runs_without_the_extras():
  code = '''
import sys
for name in ('flax', 'optax', 'orbax', 'ml_collections', 'clu', 'tensorflow', 'sklearn', 'PIL'):
  sys.modules[name] = None
import jax
from mollification import mollify, schedules
level = schedules.sigmoid(100)
x = jax.jit(lambda x, step, key: mollify(x, level(step), key))(jax.numpy.ones((4, 3)), 10,
                                                               jax.random.key(0))
print(x.shape)
'''
  out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert out.stdout.strip() == '(4, 3)'
