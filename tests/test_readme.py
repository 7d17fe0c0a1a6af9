"""Promise 12: every command of the pages runs with --smoke, every figure is a record's."""
import json
import pathlib
import re
import shlex
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from experiments import report
from mollification import build, mollifiers, mollify, processes, schedules
from mollification.training import loop
from tests.training import tiny

ROOT = pathlib.Path(__file__).parents[1]
UCI, TFDS = ROOT.parent / 'shared/data/uci', ROOT.parent / 'shared/tfds'
README = (ROOT / 'README.md').read_text()
PAGES = {path: path.read_text() for path in report.PAGES}
ALL = '\n'.join(PAGES.values())
# Those of blocks, then those within sentences, which may be without their workdir. What is in
# capitals is the user's own (A, B, FILE, DIR, REPORT), what is in brackets may be left out. Of
# recipes for several machines (CONFIG) the flags alone are looked at.
BLOCK_COMMANDS = [line for block in re.findall(r'```\w*\n(.*?)```', ALL, re.S)
                  for line in block.splitlines()
                  if line.startswith('python -m ') and '=CONFIG' not in line]
RECIPES = re.findall(r'python -m mollification\.main ([^`]*?--workdir=(?:WORKDIR|SHARED))', README)
COMMANDS = [line for line in BLOCK_COMMANDS if not re.search(r'\b(A|B|FILE|DIR)\b', line)]
WITH_FILES = [line for line in BLOCK_COMMANDS if line not in COMMANDS]
CELLS = {'experiments.sensitivity': 'redwine', 'experiments.uci': 'redwine_realnvp',
         'experiments.alternatives': 'redwine'}
INLINE = [line for line in dict.fromkeys(re.findall(r'`(python -m [^`]+)`', ALL))
          if 'REPORT' not in line]
# Tables and sentences also leave `python -m` out. Benches have flags, and tests, of their own.
SHORT = sorted(set(re.findall(r'`(experiments\.(?!bench)[^`]+)`', ALL)))
PARSED = """
import runpy, sys
from absl import app, flags
from mollification import cli
app.run = lambda main, flags_parser: flags_parser(sys.argv)
for line in sys.stdin.read().splitlines():
  print(line, flush=True)
  before = set(flags.FLAGS)
  sys.argv = [*line.split(), '--smoke']
  runpy.run_module(sys.argv[0], run_name='__main__')
  for name in set(flags.FLAGS) - before:   # each command is a process of its own elsewhere
    delattr(flags.FLAGS, name)
"""
# Not run: the paper's size (test_configs.py traces its programs), and what is run in other words.
RUN = [line for line in SHORT if not re.search('--scale=paper|[.]uci|=DIR', line)
       and f'python -m {line}' not in INLINE]


def _python(containing, **defined):
  """What the one block of Python of README with these words defines, beside what is `defined`."""
  block, = (block for block in re.findall(r'```python\n(.*?)```', README, re.S)
            if containing in block)
  exec(block, defined)   # the README is ours
  return defined


def _seen(defined, state, batch):
  """What `mollify` of the block's `update` makes of a batch."""
  made = []
  defined['mollify'] = lambda *args: made.append(mollify(*args))
  defined['update'](state, batch, jax.random.key(0))
  return made[0]


def test_the_one_line():
  """Strong noise at first, and none from where the schedule ends."""
  defined = _python('state.step')
  assert [float(defined['level'](step)) for step in (0, 30_000)] == [1., 0.]
  batch = jnp.ones((4, 2, 2, 1))
  for step, same in ((0, False), (30_000, True)):
    state = types.SimpleNamespace(step=jnp.int32(step))
    x = _seen(defined, state, batch)
    assert x.shape == batch.shape
    assert bool((x == batch).all()) == same


def test_the_loop_of_ones_own_trains_on_noise_in_its_first_half_alone():
  mean = lambda params, batch: ((batch - params) ** 2).mean()
  tx, batch = optax.sgd(.1), jnp.array([[-1.], [1.]])
  update = jax.jit(_python('value_and_grad', loss=mean, tx=tx, total_steps=10)['update'])
  params = jnp.zeros((1, 1))
  for step, clean in ((0, False), (4, False), (5, True), (9, True)):
    new, _, value = update(params, tx.init(params), batch, jax.random.key(0), jnp.int32(step))
    assert (value == mean(params, batch)) == clean
    assert bool((new == params).all()) == clean   # the batch's own mean is 0


def test_a_flow_by_itself_has_densities_scores_and_samples():
  found = _python('models.create')
  assert (found['log_prob'].shape, found['bits'].shape) == ((8,), (8,))
  assert (found['score'].shape, found['samples'].shape) == ((8, 3), (4, 3))
  np.testing.assert_allclose(found['bits'], -found['log_prob'] / (3 * np.log(2.)), rtol=1e-5)
  assert all(jnp.isfinite(found[name]).all() for name in ('log_prob', 'score', 'samples'))


def test_a_trained_model_comes_out_of_its_workdir(tmp_path, monkeypatch):
  """Of a run of one update; the block names the workdir that the command above it makes."""
  config = tiny.config(total_steps=1, eval__every=0, checkpoint__every=1)
  loop.train(build.build(config), tmp_path / 'runs/digits_vae')
  (tmp_path / 'runs/digits_vae/config.json').write_text(json.dumps(config.to_dict()))
  monkeypatch.chdir(tmp_path)
  found = _python('open_run')
  assert (found['images'].shape, found['images'].dtype) == ((64, 8, 8, 1), np.uint8)
  z, _ = found['net'].apply(found['variables'], jnp.zeros((2, 8, 8, 1)), method='encode')
  assert z.shape == (2, config.model.latent_dim)


def test_mollifiers_and_schedules_are_named():
  table = set(re.findall(r'^\| `(\w+)`', README, re.M))
  assert table == set(mollifiers.MOLLIFIERS) - {'identity'}
  said, = re.findall(r'^Schedules are (.*?);', README, re.M | re.S)
  assert set(re.findall(r'`(\w+)`', said)) == set(schedules.SCHEDULES)


def test_figures_are_those_of_the_records():
  for path, text in PAGES.items():
    assert report.render(text) == text, path


def test_every_block_that_is_rendered_is_shown():
  assert sorted(re.findall(r'<!-- ([\w ]+) -->', ALL)) == sorted(report.BLOCKS)


def test_figures_follow_the_records(monkeypatch):
  monkeypatch.setitem(report.BLOCKS, 'bench', lambda: 'new')
  monkeypatch.setitem(report.BLOCKS, 'bench vae', lambda: 'too')
  block = '<!-- {0} -->\n{1}\n<!-- /{0} -->\n'.format
  text = 'a\n' + block('bench', 'old') + block('bench vae', 'old')
  assert report.render(text) == 'a\n' + block('bench', 'new') + block('bench vae', 'too')
  with pytest.raises(ValueError, match="opens and closes the block 'bench' unlike often"):
    report.render('<!-- bench -->\nold\n<!-- /bnch -->')
  with pytest.raises(ValueError, match=r"a\.md has a block 'bnch' that is not rendered"):
    report.render('<!-- bnch -->\n<!-- /bnch -->', 'a.md')


@pytest.mark.slow
def test_figures_are_drawn_from_the_records(tmp_path):
  """Those that are committed, to a rounding of their colours."""
  drawn = list(report.draw(tmp_path))
  for path in (*drawn, *(tmp_path / 'synthetic').glob('*.png')):
    committed = report.RESULTS / path.relative_to(tmp_path)
    new, old = (np.asarray(Image.open(p).convert('RGB')).astype(int) for p in (path, committed))
    assert new.shape == old.shape, path.name
    assert abs(new - old).max() <= 2, path.name


def test_the_readme_names_commands():
  assert len(COMMANDS) >= 5
  assert any('experiments.quickstart' in command for command in INLINE)


def test_recipes_have_flags_that_exist():
  assert len(RECIPES) == 5
  used = {flag for recipe in RECIPES for flag in re.findall(r'--(\w+)', recipe)}
  assert used == {'config', 'workdir', *processes.FLAGS}


def test_short_commands_have_flags_that_exist():
  assert {'experiments.table_nvae --scale=paper', 'experiments.first_steps',
          'experiments.uci --data_dir=DIR --cells=redwine_maf'} <= set(SHORT)
  done = subprocess.run([sys.executable, '-c', PARSED], cwd=ROOT, input='\n'.join(SHORT),
                        capture_output=True, text=True, check=False)
  assert done.returncode == 0, f'{done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}'
  assert done.stdout.splitlines() == SHORT


@pytest.mark.slow
@pytest.mark.parametrize('command', RUN)
def test_short_commands_run(command, tmp_path):
  """With one cell of many; a figure without runs names the command that makes them."""
  cell = {'experiments.first_steps': 'vae', 'experiments.scaling': 'vae',
          'experiments.table_schedules --scale=cpu': 'fashion_mnist/vae/cosine/0'}.get(command)
  args = [f'--cells={cell}'] if cell else []
  if 'experiments.table_' in command:
    if not (TFDS / 'fashion_mnist').is_dir():
      pytest.skip(f'no Fashion-MNIST in {TFDS}')
    args.append(f'--data_dir={TFDS}')
  done = subprocess.run(
    [sys.executable, '-m', *command.split(), '--smoke', f'--workdir={tmp_path}', *args], cwd=ROOT,
    capture_output=True, text=True, check=False)
  if 'experiments.fig_' in command and command != 'experiments.fig_method':
    assert done.returncode == 2
    assert 'python -m experiments.table1 --scale=cpu' in done.stderr
  else:
    assert done.returncode == 0, done.stderr[-2000:]


def test_links_lead_to_files_and_sections_that_exist():
  for page, text in PAGES.items():
    for target in re.findall(r'\]\((?!http)([^)]+)\)', text):
      name, _, section = target.partition('#')
      path = (page.parent / name).resolve() if name else page
      assert path.exists(), f'{page}: {target}'
      assert not section or section in _sections(PAGES[path]), f'{page}: {target}'


def _sections(text):
  """What a page's headings are called in links to them."""
  return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')
          for title in re.findall(r'^#+ (.*)$', text, re.M)}


def test_commands_with_files_are_known():
  """Each is run below, but convert-weights, whose files evaluation/test_weights.py writes."""
  found = {line.split(' -m ')[1].split(' --')[0] for line in WITH_FILES}
  evaluate = [f'mollification.evaluate {what}' for what in (
    'score A B', 'stats A', 'convert-weights FILE')]
  assert found == {*CELLS, *evaluate}


@pytest.mark.slow
@pytest.mark.parametrize('command', [line for line in WITH_FILES if 'convert' not in line])
def test_commands_with_files_run(command, tmp_path):
  cell = next((cell for experiment, cell in CELLS.items() if experiment in command), '')
  if cell and not UCI.is_dir():
    pytest.skip(f'no UCI tables in {UCI}')
  for name in 'AB':
    images = np.random.default_rng(ord(name)).integers(0, 17, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / f'{name}.npz', x=images)
  paths = {'A': 'A.npz', 'B': 'B.npz', 'FILE.json': 'out.json', 'FILE.npz': 'out.npz'}
  optional = [f'--cells={cell}'] if cell else [
    '--features=digits_cnn_8x8', *(['--metrics=fid,kid,pr'] if 'score' in command else [])]
  words = [re.sub(r'\b(FILE\.\w+|A|B)\b', lambda m: str(tmp_path / paths[m[0]]), word)
           .replace('=DIR', f'={UCI}') for word in shlex.split(command)[1:]]
  words = [word.strip('[]') for word in words if '...' not in word]
  extra = ['--smoke', f'--workdir={tmp_path}/runs'] if cell else []
  done = subprocess.run([sys.executable, *words, *optional, *extra], cwd=ROOT,
                        capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'out.' not in command or list(tmp_path.glob('out.*'))


@pytest.mark.slow
def test_commands_run(tmp_path_factory):
  """In order: a later one may evaluate what an earlier one trained."""
  folder = tmp_path_factory.mktemp('readme')
  trained, before = f'--workdir={folder}/digits_vae', sorted((ROOT / 'runs').rglob('*'))
  for command in [*COMMANDS, *INLINE]:
    args = [sys.executable, *shlex.split(command)[1:]]
    if command == 'python -m experiments.report':   # it would mend what is to be tested
      args.append('--check')
    args += [] if 'experiments.report' in command else ['--smoke']   # that one trains nothing
    args = [a.replace('=runs/', f'={folder}/') for a in args]
    experiment = re.search(r'-m experiments\.(?!report|bench)(\w+)', command)
    args += [f'--workdir={folder}/{experiment[1]}'] if experiment else []
    args += [trained] if command in INLINE and 'evaluate' in command else []
    if '-m experiments.table1' in command and '--cells' not in command:   # of 72 runs a few
      args.append('--cells=digits/vae')
    result = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f'{command}: {result.stderr[-2000:]}'
  assert before == sorted((ROOT / 'runs').rglob('*'))   # a user's own runs are left alone
  assert {path: path.read_text() for path in PAGES} == PAGES
