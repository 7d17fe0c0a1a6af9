"""--deterministic: XLA sees the switches, beside what the user set, before any backend starts."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

from mollification import deterministic

ROOT = pathlib.Path(__file__).parents[1]
BOTH = ' '.join(deterministic.XLA_FLAGS)


def _of_xla(folder):
  """{switch: value} that XLA had for the first program it compiled, as it dumps its options."""
  dumped = min(folder.glob('*debug_options'), key=lambda path: path.stat().st_mtime_ns).read_text()
  return dict(re.findall(r'(xla_gpu_\w*deterministic_ops): (\w+)', dumped))


def _programs(folder):
  """The compiled programs that XLA dumped, sorted: their order is that of its threads."""
  return sorted(path.read_text() for path in folder.glob('*after_optimizations.txt'))


def _smoke_run(folder, *flags):
  """(switches, programs) of a run that has XLA dump them, which is the user's own flag."""
  done = subprocess.run(
    [sys.executable, '-m', 'mollification.main', '--smoke', f'--workdir={folder / "run"}',
     '--config=configs/synthetic_realnvp.py', '--config.model.num_blocks=1', *flags], cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'--xla_dump_to={folder / "xla"}'},
    capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'finished after' in done.stdout
  return _of_xla(folder / 'xla'), _programs(folder / 'xla')


@pytest.mark.slow   # two runs of the binary
def test_xla_has_the_switches_before_it_compiles_anything_and_programs_of_cpus_stay(tmp_path):
  names = [flag.split('=')[0].removeprefix('--') for flag in deterministic.XLA_FLAGS]
  switches, programs = _smoke_run(tmp_path / 'with', '--deterministic')
  assert switches == dict.fromkeys(names, 'true')
  switches, others = _smoke_run(tmp_path / 'without')
  assert 'true' not in switches.values()
  assert programs
  assert programs == others


@pytest.mark.parametrize('given, expected', [
  ('', BOTH), ('--xla_dump_to=/a  --b=1', f'--xla_dump_to=/a --b=1 {BOTH}'), (BOTH, BOTH),
  ('--xla_gpu_deterministic_ops', f'--xla_gpu_deterministic_ops {deterministic.XLA_FLAGS[1]}')])
def test_what_stands_in_the_environment_stays(given, expected):
  assert deterministic.with_switches(given) == expected


def test_a_switch_that_is_set_to_the_opposite_is_an_error():
  with pytest.raises(ValueError, match=r'wants --xla_gpu_deterministic_ops=true, XLA_FLAGS has '
                     '--xla_gpu_deterministic_ops=false; drop one'):
    deterministic.with_switches('--xla_gpu_deterministic_ops=false')
