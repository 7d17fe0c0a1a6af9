"""`--distributed=auto` where no cluster is found: alone, unless a launcher started several."""
import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from mollification import processes

LAUNCHERS = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES',
             'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX')


@pytest.fixture
def join(monkeypatch):
  """`processes.join` with `--distributed=auto`, as JAX answers where it detects nothing."""
  def initialize(**given):
    raise ValueError('coordinator_address should be defined.')

  for name in LAUNCHERS:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  flags.FLAGS.mark_as_parsed()   # a binary whose flags are required may be imported too
  with flagsaver.flagsaver((processes._DISTRIBUTED, 'auto')):
    yield processes.join


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
