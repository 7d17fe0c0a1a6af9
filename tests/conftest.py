"""Strict modes for all tests: four CPU devices, no silent rank promotion, no key used twice."""
import gc
import importlib.metadata
import os
import signal
import tempfile

import pytest
from _pytest.junitxml import xml_key

from experiments.bench import rows
from tests.flags import xla_flags

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# (XLA goes by the last of a flag: what the caller says stands.)
os.environ['XLA_FLAGS'] = f"{xla_flags(4)} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_debug_key_reuse', True)
# Many tests compile the same program; within a session it is compiled once.
_CACHE = tempfile.TemporaryDirectory(prefix='mollification-jax-')
jax.config.update('jax_compilation_cache_dir', _CACHE.name)
jax.config.update('jax_persistent_cache_min_compile_time_secs', .2)
# They compile much and run little: at full optimisation most of the time is LLVM's.
jax.config.update('jax_disable_most_optimizations', True)
# What is traced stays in JAX's caches: looking through it for garbage took a tenth of the time.
gc.set_threshold(50_000, 20, 50)


def pytest_sessionstart(session):
  """Commit and versions, as they are when the tests begin, into the report, where there is one.

  That is where the tests are dealt out: pytest's own fixture for it does nothing in the processes
  that xdist starts.
  """
  if xml_key in session.config.stash:
    jax_version, orbax = map(importlib.metadata.version, ('jax', 'orbax-checkpoint'))
    session.config.stash[xml_key].add_global_property(
      'run', f'{rows.commit()}, jax {jax_version}, orbax {orbax}')


@pytest.fixture
def no_key_reuse_check():
  """It slows every eager operation of a checkpoint; test_step.py holds the update to it."""
  with jax.debug_key_reuse(False):
    yield


@pytest.fixture
def sigint_is_heard():
  """A shell that starts tests in the background has them, and what they start, ignore it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


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
