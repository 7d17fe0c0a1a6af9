"""Joining: what is asked of JAX, flags that do not go together, and clusters that are not found."""
import contextlib
import json
import re
import socket

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from mollification import parallel, processes
from mollification.training import preemption
from tests import several

LAUNCHERS = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES',
             'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX')
# What JAX looks at of a job of two tasks on this host, but for the task's own number.
SLURM = {'SLURM_JOB_ID': '1', 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': '2'}
HOLDERS = {'distributed': processes._DISTRIBUTED, 'coordinator': processes._COORDINATOR,
           'num_processes': processes._NUM_PROCESSES, 'process_id': processes._PROCESS_ID}
GIVEN = {'coordinator': 'a:1', 'num_processes': 2, 'process_id': 1}
PASSED = {'coordinator_address': 'a:1', 'num_processes': 2, 'process_id': 1}
JOINED = """
import json, jax
from absl import app
from mollification import processes
from mollification.training import preemption
def main(argv):
  processes.join(preemption.Stop())
  print('found', json.dumps([jax.process_index(), jax.process_count(), jax.device_count(),
                             jax.config._read('jax_cuda_visible_devices')]), flush=True)
app.run(main)
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
  """No launcher's variables, whatever the tests run under."""
  for name in (*LAUNCHERS, *SLURM, 'SLURM_PROCID', 'SLURM_LOCALID', 'JAX_COORDINATOR_ADDRESS',
               'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'):
    monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def _flags(**values):
  flags.FLAGS.mark_as_parsed()   # a binary whose flags are required may be imported too
  with flagsaver.flagsaver(*((HOLDERS[name], value) for name, value in values.items())):
    yield


@pytest.fixture
def passed(monkeypatch):
  """The arguments of each call of `jax.distributed.initialize`, which joins nothing."""
  calls = []
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **given: calls.append(given))
  return calls


@pytest.fixture
def join(monkeypatch):
  """`processes.join` with `--distributed=auto`, as JAX answers where it detects nothing."""
  def initialize(**given):
    raise ValueError('coordinator_address should be defined.')

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  with _flags(distributed='auto'):
    yield lambda: processes.join(preemption.Stop())


@pytest.mark.parametrize('environment, way_out', [
  ({'SLURM_NTASKS': '4'}, 'SLURM_NTASKS=4 says .* start the processes with srun, give --coord'),
  ({'OMPI_COMM_WORLD_SIZE': '2'}, 'OMPI_COMM_WORLD_SIZE=2 says .* Open MPI before 5'),
  ({'TPU_WORKER_HOSTNAMES': 'a,b'}, r"TPU_WORKER_HOSTNAMES=a,b says .* pip install 'jax\[tpu\]'"),
  ({'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '0'},
   r"JOB_COMPLETION_INDEX=0 says .* pip install 'jax\[k8s\]'"),
])
def test_a_cluster_that_was_not_found_is_an_error(join, monkeypatch, environment, way_out):
  """Its processes would each go on alone, and fight for the workdir."""
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=way_out):
    join()


@pytest.mark.parametrize('environment', [
  {}, {'SLURM_NTASKS': '1'}, {'OMPI_COMM_WORLD_SIZE': '1'}, {'TPU_WORKER_HOSTNAMES': 'localhost'},
  {'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, {'JOB_COMPLETION_INDEX': '0'}])
def test_one_process_goes_on_with_a_warning(join, monkeypatch, environment):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  with pytest.warns(UserWarning, match='found no cluster; going on as one process'):
    join()


def test_a_part_of_the_addresses_is_not_enough_where_no_cluster_has_the_rest(join):
  with _flags(num_processes=2), pytest.raises(
      ValueError, match=r'found no cluster to take the rest from .* give --coordinator'):
    join()


@pytest.mark.parametrize('given, message', [
  ({'coordinator': 'a:1'}, 'go together, got coordinator_address alone; give all three'),
  ({'num_processes': 2, 'process_id': 0}, 'go together, got num_processes process_id alone'),
  ({**GIVEN, 'process_id': 2}, 'process_id must lie below num_processes 2, got 2'),
])
def test_flags_that_do_not_go_together_join_nothing(passed, given, message):
  with _flags(**given), pytest.raises(ValueError, match=message):
    processes.join(preemption.Stop())
  assert not passed


@pytest.mark.parametrize('given, index, before', [
  ({'distributed': 'auto'}, 0, True), ({'distributed': 'auto'}, 1, True),
  (GIVEN, 1, False), ({**GIVEN, 'process_id': 0}, 0, True)])
def test_a_process_that_is_not_told_its_number_takes_itself_for_the_first_until_it_has_joined(
    monkeypatch, given, index, before):
  """The first goes on for twice as long after a signal: of all that do none would be the last."""
  said, stop = [], preemption.Stop()
  stop.among = lambda several, first: said.append((several, first))
  stop.share = lambda *store: said.append(store)
  monkeypatch.setattr(processes, '_store', lambda: ('tell', 'told'))
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **given: said.append('joined'))
  monkeypatch.setattr(parallel, 'check_same', lambda *args: None)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(jax, 'process_index', lambda: index)
  with _flags(**given):
    processes.join(stop)
  assert said == [(True, before), 'joined', (True, index == 0), ('tell', 'told')]


@pytest.mark.parametrize('name', ['NUM_PROCESSES', 'PROCESS_ID'])
def test_a_variable_that_is_no_number_is_named(passed, monkeypatch, name):
  monkeypatch.setenv(f'JAX_{name}', '-1')
  with _flags(distributed='auto'), pytest.raises(
      ValueError, match=f"JAX_{name} must be a whole number, got '-1'.* --{name.lower()}"):
    processes.join(preemption.Stop())
  assert not passed


def test_nothing_is_joined_unless_a_flag_says_so(passed, monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', '2')
  with _flags():
    processes.join(preemption.Stop())
  assert not passed


def _set_jax(monkeypatch, address, process):
  for name, value in (('COORDINATOR_ADDRESS', address), ('NUM_PROCESSES', '2'),
                      ('PROCESS_ID', str(process))):
    monkeypatch.setenv(f'JAX_{name}', value)


@pytest.mark.parametrize('by', ['flags', 'variables'])
def test_whoever_is_given_all_asks_no_cluster(passed, monkeypatch, by):
  """It would answer with one device, or want a token for its answer."""
  if by == 'variables':
    _set_jax(monkeypatch, 'a:1', 1)
  with _flags(**(GIVEN if by == 'flags' else {'distributed': 'auto'})):
    processes.join(preemption.Stop())
  assert passed == [{**PASSED, 'cluster_detection_method': 'deactivate'}]


def test_the_cluster_is_asked_for_what_is_not_given_and_flags_go_first(passed, monkeypatch):
  monkeypatch.setenv('JAX_NUM_PROCESSES', '4')
  with _flags(distributed='auto', num_processes=2):
    processes.join(preemption.Stop())
  assert passed == [{'num_processes': 2}]


def test_processes_of_unequal_numbers_of_devices_are_refused(passed, monkeypatch):
  monkeypatch.setattr(parallel, 'all_processes', lambda own: [own, {'digest': own['digest'] + 1}])
  with _flags(**GIVEN), pytest.raises(
      ValueError, match=f'must have the same number of devices, got {jax.local_device_count()} in'):
    processes.join(preemption.Stop())


@pytest.mark.slow
@pytest.mark.parametrize('by', ['flags', 'variables', 'SLURM'])
def test_two_processes_of_a_job_under_slurm_find_each_other(monkeypatch, by):
  """Each by what it is given, and without all of that by what SLURM says; then it has one GPU."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  with contextlib.ExitStack() as running:
    started = []
    for i in range(2):
      for name, value in {**SLURM, 'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)}.items():
        monkeypatch.setenv(name, value)
      named = ['--distributed=auto']
      if by == 'flags':
        named = [f'--coordinator=localhost:{port}', '--num_processes=2', f'--process_id={i}']
      elif by == 'variables':
        _set_jax(monkeypatch, f'localhost:{port}', i)
      else:
        monkeypatch.setenv('JAX_COORDINATOR_PORT', str(port))
      started += running.enter_context(several.running(['-c', JOINED, *named], 1, 2))
    ended = several.ended(started)
  for i, (status, out, errors) in enumerate(ended):
    assert status == 0, errors
    found = json.loads(re.search(r'^found (.*)$', out, re.M)[1])   # gloo talks too
    assert found == [i, 2, 4, str(i) if by == 'SLURM' else 'all']


@pytest.mark.parametrize('error, status', [
  (SystemExit(), 0), (SystemExit(75), 75), (SystemExit('words'), 1), (KeyboardInterrupt(), 130),
  (ValueError(), 1)])
def test_a_process_that_is_not_waited_for_ends_as_python_would_end_it(error, status, monkeypatch):
  ended = []

  class Timer:
    def __init__(self, seconds, end, arguments):
      ended.append(arguments)

    def start(self):
      pass

  monkeypatch.setattr(processes.threading, 'Timer', Timer)
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: True)
  with pytest.raises(type(error)), processes.not_waited_for():
    raise error
  assert ended == [(status,)]
