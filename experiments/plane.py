"""What can be seen of a flow on a density in the plane: its field, its score, where samples fall.

For `grid.Cell`: `observe` is traced into the sweep's evaluation, `derive` works on the host.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

DENSITIES = ('two_gaussians', 'eight_gaussians', 'von_mises_circle')
SIDE = 3.2            # panels and the points off the data cover [-SIDE, SIDE]²
POINTS = 1_000        # of each kind
FIELD, ARROWS = 64, 16
RARE = .01            # a region is low where the density is below that of this share of the data
FAR = .1              # from the circle: its samples lie on it exactly
# Of the scores: squared error over squared norm, so that 1 is what no score at all would get.
UNITS = {'score_error': '1', 'score_error_low': '1', 'share_far': '1', 'mmd2': '1'}


@functools.cache
def density(name):
  """The density `name`, from data/synthetic.py."""
  from mollification.data import synthetic
  return synthetic.DENSITIES[name]


def units(name):
  """{metric: unit} of what can be measured on this density: one on a curve has no score."""
  return {metric: unit for metric, unit in UNITS.items()
          if density(name).score is not None or not metric.startswith('score')}


@functools.cache
def points(name):
  """(on, low): float32 [POINTS, 2] drawn from the density, and uniform where it is low but not 0.

  Low: in the square, below the density that all but `RARE` of the data exceed; for the circle,
  further than `FAR` from it.
  """
  rng, law = np.random.default_rng(2023), density(name)
  on = law.sample(rng, POINTS)
  square = rng.uniform(-SIDE, SIDE, (40 * POINTS, 2)).astype(np.float32)
  return on, square[is_far(name, square)][:POINTS]


def is_far(name, x):
  """Whether each of x [N, 2] lies where data are rare."""
  law = density(name)
  if law.log_prob is None:
    return law.distance(x) > FAR
  return law.log_prob(x) < _rare(name)


@functools.cache
def _rare(name):
  """Log-density in nats that all but `RARE` of the data exceed."""
  law = density(name)
  return np.quantile(law.log_prob(law.sample(np.random.default_rng(2024), 20_000)), RARE)


def lattice(count):
  """float32 [count², 2]: a grid of the square, rows from below."""
  axis = np.linspace(-SIDE, SIDE, count)
  return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)


def observe(name, pictures, net, variables):
  """{name: array} of one flow: see `build_sweep`; fields too if `pictures`."""
  apply = lambda method, x: net.apply(variables, x, method=method)
  found, law = {}, density(name)
  on, low = points(name)
  for kind, x in (('', on), ('_low', low)):
    score = apply('score', jnp.asarray(x))
    found[f'gradient{kind or "_on"}'] = jnp.linalg.norm(score, axis=-1).mean()
    if law.score is not None:
      exact = law.score(x).astype(np.float32)
      found[f'score_error{kind}'] = ((score - exact) ** 2).sum() / (exact**2).sum()
  keys = jax.random.split(jax.random.key(2023), POINTS)
  found['samples'] = net.apply(variables, keys, method='sample')
  if pictures:
    found['field'] = apply('log_prob', jnp.asarray(lattice(FIELD)))
    found['arrows'] = apply('score', jnp.asarray(lattice(ARROWS)))
  return found


def share_far(name, samples):
  """Share of samples [N, 2] where data are rare; one that is not finite counts as such."""
  finite = np.isfinite(samples).all(-1)
  rare = is_far(name, samples[finite]).sum() if finite.any() else 0
  return (rare + (~finite).sum()) / len(samples)


def derive(name, curves):
  """{'mmd2': [P], 'share_far': [P]} of the samples [P, POINTS, 2] of one run.

  A sample that is not finite counts as far, and leaves no MMD.
  """
  from mollification.evaluation import mmd
  reference = mmd.reference(points(name)[0])
  mmd2, far = [], []
  for samples in curves['samples']:
    far.append(share_far(name, samples))
    finite = np.isfinite(samples).all()
    mmd2.append(mmd.mmd2(samples, reference).value if finite else np.nan)
  return {'mmd2': np.array(mmd2), 'share_far': np.array(far)}


def cell(name, folder, runs, *, label='', pictures=False):
  """The grid.Cell of `runs` on the density `name`, with all that can be seen of it."""
  from experiments import grid
  return grid.Cell(label or name, folder, runs, functools.partial(observe, name, pictures),
                   functools.partial(derive, name), units(name),
                   ('samples', 'field', 'arrows') if pictures else ())
