"""Strict modes for all tests: four CPU devices, no silent rank promotion, no key used twice."""
import os
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
_FORCE = '--xla_force_host_platform_device_count=4'
if _FORCE not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = f"{os.environ.get('XLA_FLAGS', '')} {_FORCE}".strip()

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)
# Many tests compile the same program; within a session it is compiled once.
_CACHE = tempfile.TemporaryDirectory(prefix='mollification-jax-')
jax.config.update('jax_compilation_cache_dir', _CACHE.name)
jax.config.update('jax_persistent_cache_min_compile_time_secs', .2)
# They compile much and run little: at full optimisation most of the time is LLVM's.
jax.config.update('jax_disable_most_optimizations', True)


_SECONDS = {}


def pytest_runtest_logreport(report):
  """Add up each module's seconds: the tiers have budgets, and somebody has to see who spends."""
  module = report.nodeid.split('::')[0]
  _SECONDS[module] = _SECONDS.get(module, 0.) + report.duration


def pytest_terminal_summary(terminalreporter):
  """Print each module's share of the time."""
  total = sum(_SECONDS.values())
  terminalreporter.section('seconds by module')
  for module, seconds in sorted(_SECONDS.items(), key=lambda item: -item[1]):
    share = 100 * seconds / max(total, 1e-9)
    terminalreporter.write_line(f'{seconds:8.1f} s {share:5.1f} %  {module}')
