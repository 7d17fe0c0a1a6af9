"""Starts processes that train or evaluate together, one or several, on CPU devices of their own."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax

from mollification import metrics
from tests.flags import xla_flags

ROOT = pathlib.Path(__file__).parents[1]


def long_run(folder, *flags):
  """The command of the training binary, for longer than any test takes; a row after each update."""
  return ['-m', 'mollification.main', f'--workdir={folder}',
          '--config=configs/digits_vae.py:total_steps=100000,batch_size=16,steps_per_call=1',
          '--config.log.every=1', '--config.eval.every=0', '--config.log.stdout=False',
          '--config.model.widths=(8,)', *flags]


def wait_for_rows(started, folder, count=3):
  """Until `count` rows of the run in `folder` are there, for two minutes at most."""
  wait_for(lambda: len(metrics.read_rows(folder / 'metrics.jsonl')) >= count, started)


def wait_for(reached, started):
  """Until `reached()`, for two minutes at most, while the first of the processes runs."""
  until = time.monotonic() + 120
  while not reached():
    assert started[0].poll() is None
    assert time.monotonic() < until
    time.sleep(.02)


def run(command, processes, devices=1):
  """[(exit status, stdout, stderr)] of as many processes that did `command` together."""
  with running(command, processes, devices) as started:
    return ended(started)


@contextlib.contextmanager
def running(command, processes, devices=1):
  """The `processes`, started with `command` and the flags that join them; each has `devices`.

  None is left behind.
  """
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
         'PYTHONFAULTHANDLER': '1',
         'JAX_COMPILATION_CACHE_DIR': jax.config.jax_compilation_cache_dir,
         'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
         'XLA_FLAGS': xla_flags(devices)}
  joined = [[f'--coordinator=localhost:{port}', f'--num_processes={processes}',
             f'--process_id={i}'] for i in range(processes)] if processes > 1 else [[]]
  with contextlib.ExitStack() as stack:
    # Files: a pipe that is not read until the end takes 64 kB, and then the process waits.
    files = [[stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)] for _ in joined]
    started = [subprocess.Popen([sys.executable, *map(str, command), *flags], cwd=ROOT, env=env,
                                stdout=out, stderr=errors)
               for flags, (out, errors) in zip(joined, files)]
    for process, own in zip(started, files):
      process.said = own
    try:
      yield started
    finally:
      for process in started:
        process.kill()   # no effect where it has ended
        process.wait()


def ended(started, timeout=240):
  """[(exit status, stdout, stderr)] of `running` processes, which end by themselves."""
  until = time.monotonic() + timeout
  while any(process.poll() is None for process in started) and time.monotonic() < until:
    time.sleep(.05)
  hanging = [process for process in started if process.poll() is None]
  for process in hanging:
    process.send_signal(signal.SIGABRT)   # it says where
    process.wait()
  assert not hanging, [said(process)[1] for process in hanging]
  return [(process.returncode, *said(process)) for process in started]


def said(process):
  """(stdout, stderr) of one of `running`, so far; where it writes is left alone."""
  return tuple(os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()
               for file in process.said)
