"""Pictures of what a VAE makes of given images: reconstructions, and walks between two."""
import jax
import numpy as np

from mollification.evaluation import sampling

STEPS = 8   # images on the way from one to another, both ends included


def make_pictures(net, prepare, images, *, levels, batch_size):
  """(variables, key) -> {name: grid uint8 [H, W, C]} of stored `images` [n, H, W, C]; see below.

  'reconstructions': each image beside the decoder's mean at its latents. 'interpolations': rows of
  `STEPS` from an image to the one half the images further on, which in a split sorted by class is
  of another class. A model with an exact likelihood has no latents to look at: no pictures.
  `prepare` and running statistics as in evaluation.
  """
  if net.EXACT_LIKELIHOOD:
    return lambda variables, key: {}
  images = np.asarray(images)
  columns = 2 * max(1, int(len(images)**.5) // 2)
  reconstruct = _sampler(net, prepare, _reconstruct, batch_size)
  interpolate = _sampler(net, prepare, _interpolate, batch_size)
  pairs = np.stack([images, np.roll(images, -(len(images) // 2), axis=0)], axis=1)
  pairs = spread(pairs, STEPS)

  def draw(variables, key):
    made = reconstruct(variables, key, len(images), cond=images).x
    beside = np.stack([images, made], axis=1).reshape(-1, *images.shape[1:])
    walks = interpolate(variables, key, len(pairs), cond=pairs).x.reshape(-1, *images.shape[1:])
    return {'reconstructions': sampling.grid(beside, columns, levels=levels, gap=1),
            'interpolations': sampling.grid(walks, STEPS, levels=levels, gap=1)}

  return draw


def spread(rows, n):
  """n of `rows`, or all if fewer, at even distances: a split may be sorted by class."""
  return rows[::max(1, len(rows) // n)][:n]


def _sampler(net, prepare, make, batch_size):
  """A sampler whose condition are the stored images."""
  def sample(variables, keys, cond):
    pairs = jax.vmap(jax.random.split)(keys)
    return make(net, variables, prepare, cond, pairs[:, 0], pairs[:, 1])

  return sampling.make_sampler(sample, prepare.invert, batch_size=batch_size, allow_nonfinite=True)


def _reconstruct(net, variables, prepare, images, keys, _):
  return net.apply(variables, prepare(images, keys), method='reconstruct')


def _interpolate(net, variables, prepare, pairs, *keys):
  ends = (prepare(pairs[:, i], keys[i]) for i in range(2))
  walks = net.apply(variables, *ends, STEPS, method='interpolate')
  return walks.swapaxes(0, 1)                                           # [B, steps, H, W, C]
