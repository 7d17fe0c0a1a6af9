"""Data of known intrinsic dimension: d coordinates, embedded in D, exactly or with noise."""
import dataclasses
import functools
import math

import numpy as np

from mollification.data import dataset

WAVES = 1.5   # radians per unit of latent coordinate: how fast a curved manifold turns
SPREAD = .4   # standard deviation of each of the two modes of a latent coordinate, at ±1


@dataclasses.dataclass(frozen=True)
class Manifold:
  """x = s (Q_1 u + c Q_2 h(u)) + noise ε: a d-dimensional graph over a plane in R^D.

  The d coordinates of u are independent, each a mixture of N(±1, .4²) scaled to unit variance.
  h(u) = sin(1.5 W u + φ) less its mean, [Q_1 Q_2] is a random rotation of R^D, W a random
  (D - d, d) matrix of unit rows, φ uniform phases: one manifold per (d, D). `curvature` c is 0 for
  a plane. s makes the mean variance of the coordinates of x, before the noise, that of d = D: 1.
  Without noise there is no density in R^D for d < D, so that `log_prob` and `score` are None.
  """
  intrinsic: int
  ambient: int
  curvature: float = 0.
  noise: float = 0.
  log_prob = None
  score = None
  entropy = None

  @functools.cached_property
  def _arrays(self):
    rng = np.random.default_rng([self.intrinsic, self.ambient])
    rotation, r = np.linalg.qr(rng.standard_normal((self.ambient, self.ambient)))
    rotation = rotation * np.sign(np.diag(r))   # uniform over all rotations (Mezzadri 2007)
    waves = rng.standard_normal((self.ambient - self.intrinsic, self.intrinsic))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * math.pi, self.ambient - self.intrinsic)
    return rotation, WAVES * waves, phases

  @functools.cached_property
  def _moments(self):
    """(mean, variance) [D - d] of sin(1.5 W u + φ), from E exp(i w u), which is real."""
    _, waves, phases = self._arrays
    unit = math.hypot(1., SPREAD)
    mean = lambda w: (np.cos(w / unit) * np.exp(-.5 * (SPREAD * w / unit)**2)).prod(1)
    first = np.sin(phases) * mean(waves)
    return first, (1 - np.cos(2 * phases) * mean(2 * waves)) / 2 - first**2

  @property
  def _scale(self):
    curved = self.curvature**2 * self._moments[1].sum()
    return math.sqrt(self.ambient / (self.intrinsic + curved))

  def _height(self, u):
    """What the manifold has above its plane at u [B, d]: [B, D - d]."""
    _, waves, phases = self._arrays
    return self.curvature * (np.sin(u @ waves.T + phases) - self._moments[0])

  def sample(self, rng, n):
    """float32 [n, D] from a NumPy Generator."""
    modes = rng.choice((-1., 1.), size=(n, self.intrinsic))
    u = (modes + SPREAD * rng.standard_normal(modes.shape)) / math.hypot(1., SPREAD)
    x = self._scale * np.concatenate([u, self._height(u)], 1) @ self._arrays[0].T
    return (x + self.noise * rng.standard_normal(x.shape)).astype(np.float32)

  def distance(self, x):
    """How far each of x [B, D] lies above or below the manifold, [B]: 0 on it, and if d = D.

    Along the directions normal to its plane: the distance for a plane, an upper bound otherwise.
    """
    u, height = np.split(np.asarray(x, np.float64) @ self._arrays[0] / self._scale,
                         [self.intrinsic], axis=1)
    return self._scale * np.linalg.norm(height - self._height(u), axis=1)


def load(*, intrinsic=2, ambient=16, curvature=0., noise=0., num_train=10_000,
         num_validation=2_000, num_test=10_000, seed=0):
  """Samples of a `Manifold`, float32 [N, ambient]; every split has its own stream of the seed.

  Raises ValueError unless 1 <= intrinsic <= ambient, 2 <= ambient, curvature and noise are not
  negative, and no split is empty.
  """
  rules = {'ambient': (ambient, ambient >= 2, 'at least 2'),
           'intrinsic': (intrinsic, 1 <= intrinsic <= ambient, f'in [1, ambient {ambient}]'),
           'curvature': (curvature, curvature >= 0, 'non-negative'),
           'noise': (noise, noise >= 0, 'non-negative')}
  for name, (value, good, words) in rules.items():
    if not good:
      raise ValueError(f'{name} must be {words}, got {value}.')
  law = Manifold(intrinsic, ambient, curvature, noise)
  return dataset.drawn('manifold', law, seed, num_train=num_train, num_validation=num_validation,
                       num_test=num_test)
