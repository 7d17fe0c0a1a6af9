"""--deterministic: XLA's switches for the same bits from the same program on GPUs."""
import os

from absl import flags

_DETERMINISTIC = flags.DEFINE_bool(
  'deterministic', False, 'On GPUs take kernels that give the same bits each time; an operation '
  'without one is an error. CPUs and TPUs give them anyway.')
# Both known to every jaxlib that setup.py allows, on any backend: XLA ends the process over an
# unknown one. The first makes reductions and scatters ordered and leaves out autotuning, which
# picks kernels by time; the second makes what has no ordered kernel an error.
XLA_FLAGS = ('--xla_gpu_deterministic_ops=true', '--xla_gpu_exclude_nondeterministic_ops=true')


def apply():
  """Put the switches into XLA_FLAGS where --deterministic is given; what stands there stays.

  XLA reads them once, when the first backend starts or a program is compiled: call it before.
  Raises ValueError where the environment has one of them with another value.
  """
  if _DETERMINISTIC.value:
    os.environ['XLA_FLAGS'] = with_switches(os.environ.get('XLA_FLAGS', ''))


def with_switches(given):
  """`given`, the text of XLA_FLAGS, and the switches that it lacks; ValueError as in `apply`."""
  values = dict(word.partition('=')[::2] for word in given.split())
  missing = []
  for switch in XLA_FLAGS:
    name, _, value = switch.partition('=')
    if name not in values:
      missing.append(switch)
    elif values[name].lower() not in ('', '1', value):   # XLA takes a bare name as true
      raise ValueError(f'--deterministic wants {switch}, XLA_FLAGS has {name}={values[name]}; '
                       'drop one of them.')
  return ' '.join([*given.split(), *missing])
