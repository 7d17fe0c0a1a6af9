"""Densities in the plane: exact samples, log-densities (nats) and scores, in NumPy float64.

What does not exist is None: a law on the circle has no density in the plane, and one with edges
no score.
"""
import dataclasses
import functools
import math

import numpy as np

from mollification.data import dataset

_CHUNK = 8192  # points at once: bounds the [points, components] array


def _logsumexp(a):
  top = a.max(-1, keepdims=True)
  return (top + np.log(np.exp(a - top).sum(-1, keepdims=True)))[..., 0]


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Σ w_k N(mean_k, sd² I) in two dimensions: means K pairs, weights None for equal ones."""
  means: tuple
  sd: float
  weights: tuple | None = None

  @functools.cached_property
  def _arrays(self):
    means = np.asarray(self.means, np.float64)
    weights = np.full(len(means), 1 / len(means)) if self.weights is None else self.weights
    return means, np.asarray(weights, np.float64)

  def sample(self, rng, n):
    """float32 [n, 2] from a NumPy Generator."""
    means, weights = self._arrays
    centres = means[rng.choice(len(means), size=n, p=weights)]
    return (centres + self.sd * rng.standard_normal((n, 2))).astype(np.float32)

  def _terms(self, x):
    """log w_k N(x; mean_k, sd² I), [B, K]."""
    means, weights = self._arrays
    squares = ((x[:, None] - means) ** 2).sum(-1)
    return np.log(weights) - squares / (2 * self.sd**2) - math.log(2 * math.pi * self.sd**2)

  def log_prob(self, x):
    """Nats, [B], for x [B, 2]."""
    x = np.asarray(x, np.float64)
    return np.concatenate([_logsumexp(self._terms(part)) for part in _parts(x)])

  def score(self, x):
    """∇ log p(x) = Σ r_k (mean_k - x) / sd², [B, 2], with responsibilities r_k."""
    return np.concatenate([self._score(part) for part in _parts(np.asarray(x, np.float64))])

  def _score(self, x):
    terms = self._terms(x)
    responsibilities = np.exp(terms - _logsumexp(terms)[:, None])
    return (responsibilities @ self._arrays[0] - x) / self.sd**2

  @functools.cached_property
  def _entropy(self):
    # The trapezoid rule converges geometrically for a smooth integrand that vanishes at the ends;
    # a step of sd/4 leaves about 1e-12.
    means, step, reach = self._arrays[0], self.sd / 4, 9 * self.sd
    axes = [np.arange(low - reach, high + reach, step)
            for low, high in zip(means.min(0), means.max(0))]
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
    log_prob = self.log_prob(grid)
    return float(-(np.exp(log_prob) * log_prob).sum() * step**2)

  def entropy(self):
    """-E log p in nats, by quadrature on a grid."""
    return self._entropy


@dataclasses.dataclass(frozen=True)
class TwoMoons:
  """Two interleaved half circles of radius 1 about the origin, blurred by N(0, sd² I).

  Upper: (cos t - ½, sin t - ¼), lower: (½ - cos t, ¼ - sin t), t ~ U(0, π): scikit-learn's moons,
  centred. The density is an integral over t, taken by Gauss-Legendre quadrature with 200 nodes,
  which is exact to 1e-10 nats for sd ≥ 0.05 within a distance of 1 of the moons.
  """
  sd: float = .1

  @staticmethod
  def _arc(t, lower):
    sign = np.where(lower, -1., 1.)
    return np.stack([sign * (np.cos(t) - .5), sign * (np.sin(t) - .25)], -1)

  @functools.cached_property
  def _mixture(self):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    t = (nodes + 1) * math.pi / 2
    means = np.concatenate([self._arc(t, False), self._arc(t, True)])
    weights = np.concatenate([weights, weights]) / (2 * weights.sum())
    return Mixture(tuple(map(tuple, means)), self.sd, tuple(weights))

  def sample(self, rng, n):
    """float32 [n, 2] from a NumPy Generator."""
    centres = self._arc(rng.uniform(0, math.pi, n), rng.random(n) < .5)
    return (centres + self.sd * rng.standard_normal((n, 2))).astype(np.float32)

  def log_prob(self, x):
    """Nats, [B], for x [B, 2]."""
    return self._mixture.log_prob(x)

  def score(self, x):
    """∇ log p(x), [B, 2]."""
    return self._mixture.score(x)

  def entropy(self):
    """-E log p in nats, by quadrature on a grid."""
    return self._mixture.entropy()


@dataclasses.dataclass(frozen=True)
class Checkerboard:
  """Uniform on the 8 unit squares of [-2, 2]² with ⌊x⌋ + ⌊y⌋ even: p = 1/8 there, else 0."""
  score = None  # the density has edges

  def sample(self, rng, n):
    """float32 [n, 2] from a NumPy Generator."""
    column = rng.integers(0, 4, n)
    row = 2 * rng.integers(0, 2, n) + column % 2
    corner = np.stack([column, row], -1) - 2
    # Odd multiples of 2^-21 are exact in float32: no sample is rounded onto an edge.
    return (corner + (rng.integers(0, 2**20, (n, 2)) + .5) / 2**20).astype(np.float32)

  def log_prob(self, x):
    """Nats, [B], for x [B, 2]: -log 8, or -inf off the board."""
    x = np.asarray(x, np.float64)
    inside = (np.abs(x) <= 2).all(-1) & (np.floor(x).sum(-1) % 2 == 0)
    return np.where(inside, -math.log(8), -np.inf)

  def entropy(self):
    """log 8 nats."""
    return math.log(8)


@dataclasses.dataclass(frozen=True)
class VonMisesCircle:
  """(cos θ, sin θ), θ ~ von Mises(0, κ): a law on a curve, without a density in the plane."""
  kappa: float = 1.
  log_prob = None
  score = None
  entropy = None

  def sample(self, rng, n):
    """float32 [n, 2] from a NumPy Generator."""
    theta = rng.vonmises(0., self.kappa, n)
    return np.stack([np.cos(theta), np.sin(theta)], -1).astype(np.float32)

  def distance(self, x):
    """Distance of x [B, 2] to the circle, [B]."""
    return np.abs(np.linalg.norm(np.asarray(x, np.float64), axis=-1) - 1)

  def log_prob_along(self, x):
    """Nats per unit of arc, [B], at the direction θ of x: κ cos θ - log(2π I₀(κ))."""
    x = np.asarray(x, np.float64)
    cosine = x[:, 0] / np.linalg.norm(x, axis=-1)
    return self.kappa * cosine - math.log(2 * math.pi * float(np.i0(self.kappa)))


def _parts(x):
  if x.ndim != 2 or x.shape[1] != 2 or not len(x):
    raise ValueError(f'points must be [B, 2] with B > 0, got {x.shape}.')
  return [x[start:start + _CHUNK] for start in range(0, len(x), _CHUNK)]


def _ring(count, radius):
  angles = 2 * np.pi * np.arange(count) / count
  return tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)


DENSITIES = {
  'two_gaussians': Mixture(((0., 2.), (0., -2.)), .3),
  'eight_gaussians': Mixture(_ring(8, 2.), .2),
  'von_mises_circle': VonMisesCircle(1.),
  'two_moons': TwoMoons(),
  'checkerboard': Checkerboard(),
}


def load(name, *, num_train=10_000, num_validation=2_000, num_test=10_000, seed=0):
  """Samples of `DENSITIES[name]`, float32 [N, 2]; every split has its own stream of the seed.

  ValueError for an unknown name (lists the names) or an empty split.
  """
  if name not in DENSITIES:
    raise ValueError(f'no synthetic data set {name!r}; choose one of {sorted(DENSITIES)}.')
  return dataset.drawn(name, DENSITIES[name], seed, num_train=num_train,
                       num_validation=num_validation, num_test=num_test)
