"""What scale and reliability cost: python -m experiments.bench.scale [--json] [--only=...]

Twenty minutes on 2 cores. Ratios are medians over pairs that are measured in turn on the
same cores; a ratio above 1 is better than the reference.

devices_4   One update of the convolutional VAE of configs/cifar10_vae.py on random 32×32×3 images,
            global batch 256, by four forced CPU devices, against one: each in a process of its own,
            of which one waits. A slice with a quarter of the widths, (32, 64, 128, 256): a full
            update takes half a minute. Said too are how many cores each keeps busy, and where the
            difference goes: into the gradients of four parts beside that of the whole, the sums
            over devices of BatchNorm included, which are within them; into the average of
            gradients; and into the rest of an update, most of which every device does whole (the
            gradient's norm and Adam), and some for its part (mollifying). Bar 0.8.
checkpoint_cost
            The loop (`training.loop.train`) over 100 updates of the same VAE at a batch of 100
            with one checkpoint amid them, against 100 without: seconds without over seconds
            with, the pause and what is written in the background included. The state is of 45 MB;
            the cores that write it are those that compute here. Bar 0.97.
resume_time Seconds from starting `python -m mollification.main` to the row of its first update, of
            the slice at batch 16 on random images from an npz: a start of a run, times 1.3, against
            going on from a checkpoint of 45 MB. Nothing is cached. Bar 1.
prefetch    Share of the input that the loop hides behind the device: the update is a pause of
            200 ms in a callback, so that the device is busy and the cores are free, as with an
            accelerator; batches of 32,768 of 50,000×32×32×3. With t the loop's seconds per call,
            fed and with batches at hand, and the input's alone, 1 - (t_fed - t_bare) / t_input; two
            forced devices, since one alone has JAX wait for a callback, and more threads than cores
            in XLA's pool, where the devices that wait would else leave none for a copy. Threads are
            switched every .1 ms: the callback stands for a device, which waits for no interpreter.
            Bar 0.95.
prefetch_plain
            The same with switches of threads as Python has them, every 5 ms, for which the callback
            may wait, but no device; the same bar, which one record reached (0.99 of all) and the
            next one missed (0.91). Other ways to do without fast ones were noise on two threads of
            one core: batches of 512 to 8,192 and a pause in proportion gave 0.64 to 0.98, and a
            device that computes on the other thread 0.32 to 1.02.

All workers keep freed memory, as the binaries do (`mollification.allocator`).
"""
import contextlib
import dataclasses
import functools
import io
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from configs import cifar10_vae
from experiments.bench import rows, scale_worker
from mollification import build
from mollification.data import dataset
from mollification.training import loop

ROOT = pathlib.Path(__file__).parents[2]
BATCH, CHECKPOINT_BATCH, SMOKE_BATCH = 256, 100, 8
SAVE_EVERY, WARM = 100, 5
RESUMED = (f'--config=configs/cifar10_vae.py:batch_size=16,{scale_worker.SLICE}',
           '--config.data.name=npz', '--config.log.every=1', '--config.log.stdout=False',
           '--config.eval.every=0', '--config.eval.sample_every=0', '--config.checkpoint.every=20')


def _worker(devices, *flags, **env):
  """`rows.worker` of `scale_worker` with so many CPU devices."""
  return rows.worker('scale_worker', *flags,
                     XLA_FLAGS=f'--xla_force_host_platform_device_count={devices}', **env)


def devices_4(batch=BATCH):
  """Four devices against one at the same global batch; bar 0.8."""
  flags = (f'--batch={batch}',)
  with _worker(1, *flags) as one, _worker(4, *flags) as four:
    timed = _in_turn(one, four, 'update', 120)
    cores = [_median(ask, 'cores', 5) for ask in (one, four)]
    lost = _account(one, four, timed)
  return [rows.Row('devices_4', timed.b, 's/update',
                   f'one device, batch {batch}, {timed.pairs} pairs; busy cores {cores[1]:.2f} of '
                   f'four and {cores[0]:.2f} of one; of {-1e3 * timed.difference:.0f} ms more, '
                   + ', '.join(f'{what} {1e3 * seconds:.0f}' for what, seconds in lost.items()),
                   timed.a, timed.ratio, .8, True)]


def _account(one, four, timed):
  """{what: seconds} that an update on four devices takes longer for than one on one device.

  What is said of a part is what an update that ends with it takes longer, beyond one that ends
  before it; of the rest, what is left.
  """
  gradient, averaged, adam = (-_in_turn(one, four, word, 120).difference
                              for word in ('gradient', 'averaged', 'adam'))
  return {"gradients of parts with BatchNorm's sums": gradient,
          'average of gradients': averaged - gradient, 'Adam on each': adam - averaged,
          'the rest': -timed.difference - adam}


def _in_turn(one, four, word, seconds):
  return rows.interleaved(lambda: one(word), lambda: four(word), 7, seconds=seconds,
                          clock=lambda ask: ask())


def _median(ask, word, times=21):
  """The median answer; the first does not count, it compiles."""
  ask(word)
  return statistics.median(ask(word) for _ in range(rows.or_one(times)))


def checkpoint_cost(batch=CHECKPOINT_BATCH, updates=SAVE_EVERY):
  """A save every 100 updates against none; bar 0.97."""
  made = functools.partial(_training_run, batch, updates)
  with tempfile.TemporaryDirectory() as cache, _compilation_cache(cache):
    timed = rows.interleaved(made(0), made(updates), 5, seconds=120, clock=lambda run: run())
  return [rows.Row('checkpoint_cost', timed.b / updates, 's/update',
                   f'without saving, a save per {updates} updates, {timed.pairs} pairs',
                   timed.a / updates, timed.ratio, .97, True)]


def _training_run(batch_size, updates, save_every):
  """() -> seconds of `updates` updates of the loop, from `WARM` on, with a save if wanted.

  The save starts after half of them: what it leaves to do in the background falls into the time.
  """
  config = cifar10_vae.get_config(
    f"batch_size={batch_size},eval.every=0,eval.sample_every=0,eval.best_metric='',"
    f'log.every={updates},log.stdout=False,{scale_worker.SLICE}')
  # The loop saves at multiples; of these it should be one that the window holds.
  config.checkpoint.every = save_every and WARM + updates // 2
  config.total_steps = WARM + updates + 1
  images = _images()
  split = lambda name, n: dataset.Split(name, images[:n])
  run = build.build(config, dataset.Dataset('cifar10', split('train', 2048), split('validation', 2),
                                            split('test', 2), levels=256))

  def seconds():
    times, batch = {}, run.batch

    def timed(first, count):
      times[first] = time.perf_counter()
      return batch(first, count)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
      loop.train(dataclasses.replace(run, batch=timed), folder)
    return times[WARM + updates] - times[WARM]

  return seconds


def _images(n=2048):
  return np.random.default_rng(0).integers(0, 256, (n, *scale_worker.EVENT), dtype=np.uint8)


@contextlib.contextmanager
def _compilation_cache(folder):
  """Equal programs are compiled once: each run makes its own."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', folder)
  try:
    yield
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


def resume_time(pairs=5):
  """Seconds to the first update, cold times 1.3 against resumed; bar 1."""
  with tempfile.TemporaryDirectory() as folder:
    saved = pathlib.Path(folder) / 'saved'
    np.savez(saved.with_name('images.npz'), train=_images(), test=_images(16))
    _until_row(saved, lambda: (saved / 'checkpoints' / '20').exists())
    cold, resumed = (functools.partial(_start, pathlib.Path(folder) / 'run', source)
                     for source in (None, saved))
    timed = rows.interleaved(cold, resumed, pairs, clock=lambda start: start())
  return [rows.Row('resume_time', timed.b, 's', f'a start, times 1.3, {timed.pairs} pairs',
                   1.3 * timed.a, 1.3 * timed.ratio, 1., True)]


def _start(folder, source):
  """Seconds to the first row of a run in `folder`, a copy of `source` or new."""
  shutil.rmtree(folder, ignore_errors=True)
  if source is None:
    return _until_row(folder)
  shutil.copytree(source, folder)
  return _until_row(folder)


def _until_row(folder, ready=lambda: True):
  """Seconds until a run that is started in `folder` has written a row and is `ready`; it is ended.

  Its images lie beside the folder. A run that goes on puts a new file in the place of its rows
  before it adds any.
  """
  path, start = folder / 'metrics.jsonl', time.perf_counter()
  state = lambda: (path.stat().st_ino, path.stat().st_size) if path.exists() else (0, 0)
  before = inode, size = state()
  command = [sys.executable, '-m', 'mollification.main', f'--workdir={folder}', *RESUMED,
             f'--config.data.data_dir={folder.with_name("images.npz")}']
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL) as process:
    while not (inode != before[0] and state()[1] > size and ready()):
      if process.poll() is not None:
        raise RuntimeError(f'the run in {folder} ended with {process.returncode}')
      if state()[0] != inode:
        inode, size = state()
      time.sleep(.002)
    seconds = time.perf_counter() - start
    process.kill()
  return seconds


def prefetch():
  """Share of the input that the loop hides; bar 0.95."""
  return _prefetch('prefetch', .95, NPROC='8')


def prefetch_plain():
  """The same with switches of threads as they come; the same bar."""
  return _prefetch('prefetch_plain', .95, '--switch_interval=0.005', NPROC='8')


def _prefetch(name, bar, *flags, **env):
  with _worker(2, *flags, **env) as ask:
    timed = rows.interleaved(lambda: ask('bare'), lambda: ask('fed'), 31, clock=lambda fn: fn())
    taken = statistics.median(ask('input') for _ in range(rows.or_one(9)))
  hidden = 1 + timed.difference / taken   # the difference is bare - fed
  calls = scale_worker.CALLS
  return [rows.Row(name, hidden, 'share', f'all of it; input {1e3 * taken / calls:.1f}'
                   f' of {1e3 * timed.b / calls:.1f} ms a call, {timed.pairs} pairs', 1., hidden,
                   bar, False)]


MEASURES = {'devices_4': devices_4, 'checkpoint_cost': checkpoint_cost, 'resume_time': resume_time,
            'prefetch': prefetch, 'prefetch_plain': prefetch_plain}
SMOKE = {**MEASURES, 'devices_4': lambda: devices_4(SMOKE_BATCH),
         'checkpoint_cost': lambda: checkpoint_cost(8, 10)}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
