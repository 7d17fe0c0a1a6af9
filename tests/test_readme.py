"""Promise 12: every command of the README runs with --smoke, every figure is a record's."""
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from experiments import report

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
# Of the blocks, then those within sentences, which may be without their workdir.
COMMANDS = [line for block in re.findall(r'```bash\n(.*?)```', README, re.S)
            for line in block.splitlines() if line.startswith('python -m ')]
INLINE = re.findall(r'`(python -m [^`]+)`', README)


def test_figures_are_those_of_the_records():
  assert report.render(README) == README


def test_figures_follow_the_records(monkeypatch):
  monkeypatch.setitem(report.BLOCKS, 'bench', lambda: 'new')
  monkeypatch.setitem(report.BLOCKS, 'bench vae', lambda: 'too')
  block = '<!-- {0} -->\n{1}\n<!-- /{0} -->\n'.format
  text = 'a\n' + block('bench', 'old') + block('bench vae', 'old')
  assert report.render(text) == 'a\n' + block('bench', 'new') + block('bench vae', 'too')
  with pytest.raises(ValueError, match="block 'bnch' that is not rendered"):
    report.render('<!-- bnch -->\n<!-- /bnch -->')


def test_the_readme_names_commands():
  assert len(COMMANDS) >= 5
  assert any('experiments.quickstart' in command for command in INLINE)


def test_files_that_the_readme_shows_exist():
  for target in re.findall(r'\]\((?!http)([^)]+)\)', README):
    assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_commands_run(tmp_path_factory):
  """In order: a later one may evaluate what an earlier one trained."""
  folder = tmp_path_factory.mktemp('readme')
  trained = f'--workdir={folder}/digits_vae'
  for command in [*COMMANDS, *INLINE]:
    args = [sys.executable, *shlex.split(command)[1:], '--smoke']
    args = [a.replace('=runs/', f'={folder}/') for a in args]
    args += [f'--workdir={folder}/quickstart'] if 'quickstart' in command else []
    args += [trained] if command in INLINE and 'evaluate' in command else []
    result = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f'{command}: {result.stderr[-2000:]}'
