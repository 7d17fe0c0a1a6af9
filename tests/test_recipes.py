"""README's recipes for several devices and processes: their form, and the flags that they give."""
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
BLOCKS = re.findall(r'```(\w+)\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)
SCRIPTS = [block for kind, block in BLOCKS if kind == 'bash']
RECIPES = [block for kind, block in BLOCKS
           if kind in ('bash', 'yaml') and re.search(r'--distributed|--coordinator', block)]


def _commands(block):
  """(binary, [name of a flag]) of each command of a block, whatever starts it."""
  text = ' '.join(block.replace('\\\n', ' ').split('\n'))
  for binary, rest in re.findall(r'python3? -m mollification\.(\w+)((?:\s+--\S+)*)', text):
    yield binary, re.findall(r'--([\w.]+)', rest)


@pytest.mark.parametrize('script', SCRIPTS, ids=range(len(SCRIPTS)))
def test_scripts_are_of_a_form_that_bash_reads(script):
  done = subprocess.run(['bash', '-n'], input=script, capture_output=True, text=True, check=False)
  assert (done.returncode, done.stderr) == (0, '')


def test_recipes_give_flags_that_the_binary_has():
  """Of a pod, of one host, by hand, of SLURM, and of Kubernetes."""
  commands = [found for block in RECIPES for found in _commands(block)]
  assert [binary for binary, _ in commands] == ['main'] * 5
  assert all({'config', 'workdir'} <= set(names) for _, names in commands)
  said = subprocess.run([sys.executable, '-m', 'mollification.main', '--helpfull'], cwd=ROOT,
                        capture_output=True, text=True, check=False).stdout
  known = set(re.findall(r'^ +--(?:\[no\])?(\w+):', said, re.MULTILINE))
  assert {'config', 'deterministic', 'process_id'} <= known
  assert {name for _, names in commands for name in names} <= known


def test_the_job_of_kubernetes_names_processes_that_find_each_other():
  (text,) = [block for kind, block in BLOCKS if kind == 'yaml']
  service, job = yaml.safe_load_all(text)
  assert (service['kind'], job['kind']) == ('Service', 'Job')
  spec = job['spec']
  assert spec['parallelism'] == spec['completions']
  assert spec['podFailurePolicy']['rules'][0]['onExitCodes']['values'] == [75]
  pod = spec['template']['spec']
  assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
  (container,) = pod['containers']
  command = ' '.join(container['command'][-1].split())
  assert f'--num_processes={spec["completions"]} ' in command
  # The pod of index 0, by the name that the headless service gives it.
  assert f'--coordinator={job["metadata"]["name"]}-0.{pod["subdomain"]}:' in command
  assert pod['subdomain'] == service['metadata']['name']
