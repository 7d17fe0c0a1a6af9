"""Several processes as one: the flags that say so, and joining them through JAX's own runtime."""
import contextlib
import os
import signal
import threading
import warnings

from absl import flags

_DISTRIBUTED = flags.DEFINE_enum(
  'distributed', 'off', ['off', 'auto'],
  'auto: join the processes that SLURM, Open MPI, Kubernetes, Cloud TPU or the environment '
  '(JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID) started together.')
_COORDINATOR = flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, to join without '
                                   'a cluster; with --num_processes and --process_id.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Processes in all.', lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.',
                                   lower_bound=0)
FLAGS = ('distributed', 'coordinator', 'num_processes', 'process_id')
_ASKED = 'mollification/asked'   # in the coordinator's store once a process is asked to stop
_PATIENCE = 10.   # seconds that a process which fails waits for the others on its way out
# What launchers of several processes set -> (whether it says so, what JAX's detection lacks then).
_LAUNCHED = {
  'SLURM_NTASKS': (lambda value: value not in ('', '0', '1'), 'start the processes with srun'),
  'OMPI_COMM_WORLD_SIZE': (lambda value: value not in ('', '0', '1'),
                           'use a version of Open MPI before 5'),
  'TPU_WORKER_HOSTNAMES': (lambda value: ',' in value, "pip install 'jax[tpu]'"),
  'JOB_COMPLETION_INDEX': (lambda value: value and 'KUBERNETES_SERVICE_HOST' in os.environ,
                           "pip install 'jax[k8s]'")}


def join(stop):
  """Join the other processes as the flags say, before anything runs on a device.

  `stop` (a preemption.Stop) is told whether this is one of several, and the first: by the flags
  until they have met, when any may be the first that is not told its number, then what it is.

  Afterwards `jax.devices()` are those of all. Nothing is joined with `--distributed=off` and no
  coordinator, nor, with a warning, where `auto` finds no cluster. Where all three values are given
  no cluster is asked for anything: each process takes every device that it sees. JAX's pre-emption
  service takes SIGTERM for itself, unless somebody handles it here already. Raises ValueError for
  flags that do not go together, where the environment says that there is a cluster which was not
  found, since each of its processes would go on alone, and for processes of unequal numbers of
  devices.
  """
  given = _given()
  automatic = _DISTRIBUTED.value == 'auto'
  if not given and not automatic:
    return
  if not automatic and len(given) < 3:
    raise ValueError('--coordinator, --num_processes and --process_id go together, got '
                     f'{" ".join(sorted(given))} alone; give all three, or --distributed=auto, '
                     'which looks for the rest.')
  if given.get('process_id', 0) >= given.get('num_processes', float('inf')):
    raise ValueError(f'process_id must lie below num_processes {given["num_processes"]}, got '
                     f'{given["process_id"]}; they count from 0.')
  several = automatic or given.get('num_processes', 1) > 1
  stop.among(several, several and given.get('process_id', 0) == 0)
  import jax

  from mollification import parallel
  heard = signal.getsignal(signal.SIGTERM)
  # Left to itself JAX would still take the devices from the cluster, under SLURM one of them alone,
  # and in a Kubernetes pod ask for a token.
  detection = {'cluster_detection_method': 'deactivate'} if len(given) == 3 else {}
  try:
    jax.distributed.initialize(**given, **detection)
  except ValueError as error:   # JAX says what it misses, not what to do about it
    if given:
      raise ValueError(f'--distributed=auto found no cluster to take the rest from ({error}); '
                       'give --coordinator, --num_processes and --process_id.') from error
    _check_not_launched(error)
    warnings.warn('--distributed=auto found no cluster; going on as one process.', stacklevel=2)
  finally:
    if heard is not signal.SIG_DFL:
      signal.signal(signal.SIGTERM, heard)
  introduce(stop)
  # Evaluations round batches up to the devices of a process: their numbers would differ.
  parallel.check_same('number of devices', jax.local_device_count())


def introduce(stop):
  """Tell `stop` of the other processes, which have met: what asks one of them to stop asks all."""
  from mollification import parallel
  stop.among(parallel.several(), parallel.is_first())
  if parallel.several():
    stop.share(*_store())


def _store():
  """(tell, told): through the store of JAX's coordinator, which needs no process to take part."""
  import jax
  import orbax.checkpoint as ocp
  client = ocp.multihost.get_jax_distributed_client()

  def tell():
    with contextlib.suppress(jax.errors.JaxRuntimeError):   # the coordinator may be gone
      client.key_value_set(_ASKED, '', allow_overwrite=True)

  def told():
    try:
      client.key_value_try_get(_ASKED)
    except jax.errors.JaxRuntimeError:   # it is not there
      return False
    return True

  return tell, told


@contextlib.contextmanager
def not_waited_for():
  """Of several processes, one that leaves this context by an error soon ends, and with it all.

  Python's way out waits for the others, for minutes, while they wait for it in what all do
  together; where they come too, as with an error that all have found, it is through at once.
  """
  try:
    yield
  except BaseException as error:
    import jax
    if jax.distributed.is_initialized():
      status = _status(error)
      end = threading.Timer(_PATIENCE, os._exit, (status,))
      end.daemon = True
      end.start()
    raise


def _status(error):
  """That with which Python ends after `error`."""
  if isinstance(error, KeyboardInterrupt):
    return 128 + signal.SIGINT
  code = error.code if isinstance(error, SystemExit) else 1
  return code if isinstance(code, int) else int(code is not None)


def _check_not_launched(error):
  """Raise ValueError where the environment says that this is one of several processes."""
  for name, (several, missing) in _LAUNCHED.items():
    value = os.environ.get(name, '')
    if several(value):
      raise ValueError(f'--distributed=auto found no cluster, though {name}={value} says that this '
                       f'is one of several processes; {missing}, give --coordinator, '
                       '--num_processes and --process_id, or leave out --distributed where each is '
                       'to be alone.') from error


def check_alone(task):
  """Raise ValueError where this is to be one of several processes, and `task` is for one."""
  if _DISTRIBUTED.value != 'off' or _given().get('num_processes', 1) > 1:
    raise ValueError(f'{task} by one process; leave out --{", --".join(FLAGS)}.')


def _given():
  """{argument of jax.distributed.initialize: value} of the flags, and with `auto` the environment.

  Of the variables JAX itself reads the first alone.
  """
  given = {'coordinator_address': _COORDINATOR.value or None,
           'num_processes': _NUM_PROCESSES.value, 'process_id': _PROCESS_ID.value}
  if _DISTRIBUTED.value == 'auto':
    for name in given:
      text = os.environ.get(f'JAX_{name.upper()}', '')
      if given[name] is None and text:
        given[name] = text if name == 'coordinator_address' else _number(name, text)
  return {name: value for name, value in given.items() if value is not None}


def _number(name, text):
  if not text.isdecimal():
    raise ValueError(f'JAX_{name.upper()} must be a whole number, got {text!r}; unset it, or give '
                     f'--{name}.')
  return int(text)
