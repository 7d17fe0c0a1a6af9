"""Training steps and what surrounds them: python -m experiments.bench.step [--json] [--only=...]

Six minutes on 2 idle cores, ten on busy ones. Ratios are medians over pairs that are measured
in turn in this process; times are wall times. A ratio above 1 is better than the reference.

overhead_vae    One update of the convolutional VAE of configs/cifar10_vae.py at full width (32×32×3
                uint8, random, batch 8) with `gaussian` at level 0.5, against the same update
                built with `identity`. Ratio identity / gaussian.
overhead_blur   The same with `heat_blur`, of the strength that Table 1 has on CIFAR-10.
overhead_digits The first for the MLP VAE of configs/digits_vae.py (8×8×1, batch 128), as scanned
                there: milliseconds that the noise adds to one update.
input           Images per second out of shuffled gathers of batches of 128 from 50,000×32×32×3
                uint8, whole epochs with their permutation, on one core. Reference 200,000.
help            Seconds of `python -m mollification.main --help`, median of 5. Reference 2 s.
import          Seconds of an interpreter that does `import mollification` and ends, against 1.2 ×
                those of `import jax`: value ≤ reference is ratio ≥ 1.
scan            Seconds that pass inside the compiled call (100 scanned updates of
                configs/synthetic_realnvp.py) of `training.loop.train`, with a logged row per 10
                calls and without evaluations and checkpoints, against the loop's wall time, data
                and metrics included. Each call is waited for here, where the loop itself prepares
                the next one meanwhile: the share in use is higher.

What the noise should cost, predicted: about 5 ns of one core a number (20 rounds of threefry, in
passes over memory; then erf_inv), so .12 ms for the 24,576 of a batch of 8 images. The update
takes 7.2 GFLOP an image (1.2 G multiply-adds forward, three times that with gradients), 58 GFLOP,
.3 s at the peak of two cores: .04 %. Both grow with the batch, so the share is that of any batch.
For the digits 8,192 numbers, .04 ms, beside 150 MFLOP of network, 1 to 2 ms: there it shows.
Measured alone on two EPYC cores, keys included, a number takes 15 to 30 ns, three to six times the
prediction: .5 ms for 8 images, about .1 % of an update (results/bench/step.jsonl), and .06 to
.25 ms for the digits: too small a share for wall times to resolve.
"""
import contextlib
import functools
import io
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock

import jax
import jax.numpy as jnp
import numpy as np

from configs import cifar10_vae, digits_vae, synthetic_realnvp
from experiments import image_cells
from experiments.bench import rows
from mollification import build, parallel, rng
from mollification.data import dataset
from mollification.training import loop

ROOT = pathlib.Path(__file__).parents[2]
LEVEL = .5
VAE_BATCH = 8   # short updates make many pairs, which is what a shared machine needs
LOOP_CALLS, LOGGED_CALLS = 100, 10


def overhead_vae():
  """What `gaussian` costs the convolutional VAE; bar 0.99."""
  return _overhead('overhead_vae', 'gaussian', .99)


def overhead_blur():
  """What `heat_blur` costs the same; no bar."""
  return _overhead('overhead_blur', 'heat_blur', None)


def _overhead(row, mollifier, bar):
  options = (f'batch_size={VAE_BATCH},'
             f'mollify.heat_blur.sigma_max={image_cells.SIGMA_MAX["cifar10"]}')
  identity, own = _updates(cifar10_vae.get_config, options, (32, 32, 3), 256, mollifier)
  timed = rows.interleaved(identity, own, 9, seconds=90)
  return [rows.Row(row, timed.b, 's/update', f'identity, batch {VAE_BATCH}, {timed.pairs} pairs',
                   timed.a, timed.ratio, bar, True)]


def overhead_digits():
  """What `gaussian` adds to an update of the VAE on digits, in ms; no bar."""
  updates = digits_vae.get_config().steps_per_call
  identity, gaussian = _updates(digits_vae.get_config, '', (8, 8, 1), 17)
  timed = rows.interleaved(identity, gaussian, 15, seconds=10)
  return [rows.Row('overhead_digits', -1e3 * timed.difference / updates, 'ms/update',
                   'the whole update with identity', 1e3 * timed.a / updates, timed.ratio, None,
                   True)]


def _updates(get_config, options, event_shape, levels, mollifier='gaussian'):
  """Calls of the compiled update with identity and with `mollifier`, each on a state of its own."""
  base = get_config(options)
  size = base.steps_per_call
  shape = (size, base.batch_size, *event_shape)
  batch = np.random.default_rng(0).integers(0, levels, shape, dtype=np.uint8)
  level = np.full(size, LEVEL, np.float32)
  state = build.create_state(base, batch[0], levels, LEVEL)
  if size == 1:
    batch, level = batch[0], level[0]
  batch = parallel.shard(batch, axis=int(size > 1))
  return [calls(build.train_step(_with_mollifier(get_config(options), name), event_shape, levels),
                size, jax.tree.map(jnp.array, state), batch, level)
          for name in ('identity', mollifier)]


def _with_mollifier(config, name):
  config.mollify.name = name
  return config


def calls(train_step, size, state, batch, level, cond=None, mask=None):
  """(count=1) -> None: compiled calls, inputs ready, the last waited for; the state goes on."""
  update = parallel.pmap_step(train_step, steps_per_call=size)
  state, key = parallel.place(state), parallel.place(rng.purpose_key(0, 'train'))
  batch, level = jax.device_put((batch, level))

  def call(count=1):
    nonlocal state
    for _ in range(count):
      state, _ = update(state, batch, key, level, cond, mask)
    jax.block_until_ready(state)

  return call


def input_rate():
  """Images per second through batch_indices and gather on one core; bar 200,000."""
  num_examples, batch_size = 50_000, 128
  images = np.random.default_rng(0).integers(0, 256, (num_examples, 32, 32, 3), dtype=np.uint8)
  steps = dataset.steps_per_epoch(num_examples, batch_size)

  def epoch(number):
    for step in range(number * steps, (number + 1) * steps):
      indices, _ = dataset.batch_indices(step, seed=0, num_examples=num_examples,
                                         batch_size=batch_size)
      dataset.gather(images, indices)

  with _one_core():
    taken = [rows.seconds_of(functools.partial(epoch, number)) for number in range(9)]
  rate = steps * batch_size / statistics.median(taken)
  return [rows.Row('input', rate, 'images/s', 'the required rate', 200_000., rate / 200_000, 1.,
                   False)]


@contextlib.contextmanager
def _one_core():
  """Keep this thread on one of its cores."""
  cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(cores)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, cores)


def help_time():
  """Seconds of the training binary's --help; bar 2 s."""
  command = functools.partial(_python, '-m', 'mollification.main', '--help')
  command()   # brings the files into memory
  seconds = statistics.median(rows.seconds_of(command) for _ in range(5))
  return [rows.Row('help', seconds, 's', 'the required time', 2., 2 / seconds, 1., True)]


def import_time():
  """Seconds of `import mollification` in fresh interpreters, against 1.2 x `import jax`; bar 1."""
  timed = rows.interleaved(functools.partial(_python, '-c', 'import jax'),
                           functools.partial(_python, '-c', 'import mollification'), 11)
  return [rows.Row('import', timed.b, 's', 'import jax, times 1.2', 1.2 * timed.a,
                   1.2 * timed.ratio, 1., True)]


def _python(*args):
  done = subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True)
  if done.returncode > 1 or 'Traceback' in done.stderr:   # --help of absl ends with 1
    raise RuntimeError(f'python {" ".join(args)} failed: {done.stderr}')


def scan():
  """Share of the loop's wall time that passes in the compiled call; bar 0.9."""
  config = synthetic_realnvp.get_config('eval.every=0,checkpoint.every=0')
  size = config.steps_per_call
  config.log.every = LOGGED_CALLS * size
  config.total_steps = (1 + rows.or_one(LOOP_CALLS)) * size   # the first call compiles
  made = []
  pmapped = parallel.pmap_step

  def timed(*args, **kwargs):
    made.append(TimedCall(pmapped(*args, **kwargs)))
    return made[-1]

  with (tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        unittest.mock.patch.object(parallel, 'pmap_step', timed)):
    loop.train(build.build(config), folder)
  call, = made
  return [rows.Row('scan', call.inside / call.count, 's/call',
                   f'wall time of the loop per call, {call.count} calls',
                   call.wall / call.count, call.inside / call.wall, .9, True)]


class TimedCall:
  """A compiled call that is waited for and timed from its second call on: the first compiles."""

  def __init__(self, call):
    self._call, self._first, self._last = call, None, None
    self.inside, self.count = 0., 0

  def __call__(self, *args):
    before = time.perf_counter()
    out = jax.block_until_ready(self._call(*args))
    self._last = time.perf_counter()
    if self._first is None:
      self._first = self._last
    else:
      self.inside += self._last - before
      self.count += 1
    return out

  @property
  def wall(self):
    """Seconds from the end of the first call to that of the last."""
    return self._last - self._first


MEASURES = {
  'overhead_vae': overhead_vae,
  'overhead_blur': overhead_blur,
  'overhead_digits': overhead_digits,
  'input': input_rate,
  'help': help_time,
  'import': import_time,
  'scan': scan,
}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__))
