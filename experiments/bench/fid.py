"""The evaluator against pytorch-fid, on one core: python -m experiments.bench.fid [--json]

Needs the extra `bench`. Weights are seeded random ones, the same on both sides: speed, memory and
the share of the network do not depend on what they are. About fifteen minutes on 2 cores.
"""
import functools
import subprocess
import sys
import tempfile

import jax
import numpy as np

from experiments.bench import inception_golden, rows
from mollification import metrics
from mollification.evaluation import (
  features,
  frechet,
  inception,
  resize,
  scoring,
  sources,
  weights,
)

BATCH = 8
IMAGES = 500
GROUPS = frechet.GROUPS


@functools.cache
def _weights():
  return inception_golden.random_weights()


def _extractor():
  fused = inception.fuse(weights.nest(_weights()))

  def apply(variables, x):
    taps = inception.forward(variables, x)
    return {'features': taps['2048'], 'logits_unbiased': taps['logits_unbiased'],
            'spatial': taps['spatial']}

  return features.Extractor(
    'inception_pytorch', 'random', None, fused, apply,
    functools.partial(resize.scaled, mode='pytorch'), ('pytorch', inception.SIZE), 'pytorch')


def _images(count):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def feature_rate():
  """Images per CPU second of resizing and network, against pytorch-fid's in torch eager; bar 1.2.

  Both in one process that has been on one core from its start, so that neither has more than one
  thread; CPU time, because the core may be shared.
  """
  code = ('import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}); '
          'from experiments.bench import fid; print(*fid._compare_networks())')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  numbers = np.array(done.stdout.split()[-8:], float).reshape(2, 4)
  return [rows.Row(name, BATCH / ours, 'images/s', f'{what}, batch {BATCH}, {pairs:.0f} pairs',
                   BATCH / theirs, ratio, bar, False)
          for (theirs, ours, ratio, pairs), name, what, bar in zip(
            numbers, ('features', 'channels_last'),
            ('pytorch-fid in torch eager', 'the same, channels last'), (1.2, None))]


def _compare_networks():
  """For a batch, uint8 to 2048 features: CPU seconds of pytorch-fid, ours, their ratio, pairs.

  Twice: on NCHW tensors, as pytorch-fid's transforms make them, and on channels-last ones, which
  torch runs faster.
  """
  import torch
  torch.set_num_threads(1)
  net, _ = inception_golden.reference(_weights())
  extractor, images = _extractor(), _images(BATCH)
  variables = jax.device_put(extractor.variables)

  @jax.jit
  def forward(variables, images):
    return extractor.apply(variables, resize.prepare(images, 'pytorch', inception.SIZE))['features']

  def ours():
    jax.block_until_ready(forward(variables, images))

  def theirs(layout):
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    with torch.no_grad():
      net(x.contiguous(memory_format=layout))[-1].mean((2, 3))

  found = []
  for layout in (torch.contiguous_format, torch.channels_last):
    timed = rows.interleaved(functools.partial(theirs, layout), ours, 9, seconds=60,
                             clock=rows.processor_seconds_of)
    found += [timed.a, timed.b, timed.ratio, timed.pairs]
  return found


def _commuting(d):
  """Two Statistics with one eigenbasis, and their distance."""
  rng = np.random.default_rng(0)
  basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
  values = 10. ** -rng.uniform(0, 4, (2, d))
  covs = [(basis * v) @ basis.T for v in values]
  a, b = (frechet.Statistics(10 * d, np.zeros(d), (c + c.T) / 2) for c in covs)
  return a, b, float(np.square(np.sqrt(values[0]) - np.sqrt(values[1])).sum())


def frechet_2048():
  """The distance at 2048 features against scipy's sqrtm of the product; bars 3 and 1e-12."""
  import scipy.linalg
  a, b, exact = _commuting(2048)
  found = {}

  def ours():
    fresh = [frechet.Statistics(s.n, s.mean, s.cov) for s in (a, b)]   # no factor is kept
    found['ours'] = frechet.frechet_distance(*fresh)

  def theirs():
    root = scipy.linalg.sqrtm(a.cov @ b.cov)
    found['theirs'] = np.trace(a.cov) + np.trace(b.cov) - 2 * np.trace(root).real

  timed = rows.interleaved(theirs, ours, 5)
  errors = {name: abs(value - exact) / exact for name, value in found.items()}
  return [
    rows.Row('frechet_2048', timed.b, 's', f'scipy sqrtm, {timed.pairs} pairs', timed.a,
             timed.ratio, 3., True),
    rows.Row('frechet_error', errors['ours'], 'relative', 'the required error', 1e-12,
             1e-12 / max(errors['ours'], 1e-300), 1., True),
    rows.Row('sqrtm_error', errors['theirs'], 'relative', 'none', None, None, None, True)]


def memory():
  """Peak memory of FID and inception score with the jackknife at two numbers of images; bar 0.98.

  Each in a process of its own, on one device, in rows of the width of the network but without it:
  its own memory does not depend on the number of images either, and takes hours.
  """
  small, large = (_peak(count) for count in (12_000, 48_000))
  return [rows.Row('memory', large, 'GB', 'a quarter of the images', small, small / large, .98,
                   True)]


def _peak(count):
  code = ('import sys; from experiments.bench import fid; '
          'fid._accumulate(int(sys.argv[1])); print(fid._peak_gb())')
  done = subprocess.run([sys.executable, '-c', code, str(count)], capture_output=True, text=True,
                        check=True)
  return float(done.stdout.split()[-1])


def _peak_gb():
  return metrics.peak_memory()['host'] / 2**30


def _accumulate(count):
  """FID's moments and the inception score's sums of `count` rows, as a pass leaves them."""
  def apply(variables, x):
    pixels = x.reshape(len(x), -1).astype('float32') / 255
    wide = jax.numpy.concatenate([pixels, pixels[:, ::-1]], -1)
    return {'features': wide[:, :2048], 'logits_unbiased': wide[:, :inception.CLASSES]}

  toy = features.Extractor('inception_toy', 'none', (32, 32, 3), {}, apply)
  rng = np.random.default_rng(0)
  source = sources.Source('noise', 'all', count, lambda start, stop: rng.integers(
    0, 256, (stop - start, 32, 32, 3), dtype=np.uint8))
  done = scoring.run(toy, source, ['fid', 'is'], groups=GROUPS)
  done.score.score()
  # As each distance of the jackknife: its singular values take memory of their own.
  frechet.frechet_distance(done.moments.without(0), done.moments.statistics())


def network_share():
  """Share of a statistics run over 500 images that is spent in the network; bar 0.9.

  In five folders, each in turn with the network alone over as many: minutes apart, the core itself
  would be another.
  """
  from PIL import Image
  extractor, count = _extractor(), IMAGES // 5
  with tempfile.TemporaryDirectory() as folder:
    for i, image in enumerate(_images(count)):
      Image.fromarray(image).save(f'{folder}/{i:04d}.png')

    def whole():
      images = sources.open_images(folder)
      scoring.run(extractor, images, device_batch=BATCH).moments.statistics()

    timed = rows.interleaved(_network_alone(extractor, count), whole, 5)
  return [rows.Row('network_share', timed.ratio, 'share', 'the required share', .9,
                   timed.ratio / .9, 1., False),
          rows.Row('stats_rate', count / timed.b, 'images/s', 'network alone', count / timed.a,
                   timed.ratio, None, False)]


def _network_alone(extractor, count):
  """The network over so many images that are prepared and on the devices, as a function."""
  size = features.piece_size(BATCH)
  (block,) = features._blocks(extractor, _images(size), size)
  x = features._prepared(extractor, [block])
  variables = features.parallel.place(extractor.variables)

  def alone():
    for _ in range(-(-count // size)):
      jax.block_until_ready(extractor.mapped(variables, x))

  return alone


MEASURES = {
  'features': feature_rate,
  'frechet_2048': frechet_2048,
  'memory': memory,
  'network_share': network_share,
}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__))
