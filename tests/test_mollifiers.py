"""Promises 1 and 2: level 0 is the identity bit for bit, levels mean what they say."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import mollifiers, mollify

MOLLIFIERS = {
  'identity': mollifiers.identity,
  'gaussian': mollifiers.gaussian,
  'gaussian_ve': functools.partial(mollifiers.gaussian_ve, sigma_max=.5),
  'heat_blur': mollifiers.heat_blur,
  'heat_blur_log': functools.partial(mollifiers.heat_blur, spacing='log'),
  'blur_noise': mollifiers.blur_noise,
}


def _key():
  """A fresh key each time: tests fail where one is used twice."""
  return jax.random.key(1)


def _images(n=4, size=16):
  return jax.random.uniform(jax.random.key(0), (n, size, size, 3), minval=-1., maxval=1.)


@pytest.mark.parametrize('name', MOLLIFIERS)
@pytest.mark.parametrize('jit', [False, True])
def test_level_0_is_the_identity(name, jit):
  x = _images().at[0, 0, 0].set(jnp.array([-0., jnp.inf, 1e-40]))
  fn = jax.jit(MOLLIFIERS[name]) if jit else MOLLIFIERS[name]
  np.testing.assert_array_equal(np.asarray(fn(x, 0., _key())).view(np.uint32),
                                np.asarray(x).view(np.uint32))


@pytest.mark.parametrize('name', MOLLIFIERS)
@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_what_it_is(name, dtype):
  x = _images().astype(dtype)
  assert MOLLIFIERS[name](x, .5, _key()).dtype == dtype
  unchanged = MOLLIFIERS[name](x, 0., _key())
  np.testing.assert_array_equal(unchanged.view(jnp.uint16), x.view(jnp.uint16))


def test_options_of_numpy_leave_the_type():
  x = _images().astype(jnp.bfloat16)
  assert mollifiers.gaussian_ve(x, .5, _key(), sigma_max=np.float32(.5)).dtype == x.dtype


@pytest.mark.parametrize('name', [n for n in MOLLIFIERS if n != 'heat_blur_log'])
def test_tends_to_the_identity(name):
  x = _images()
  distance = [float(jnp.abs(MOLLIFIERS[name](x, v, _key()) - x).mean()) for v in (1e-2, 1e-4, 1e-6)]
  assert distance == sorted(distance, reverse=True)
  assert distance[-1] < 2e-3


@pytest.mark.parametrize('level', [.05, .5, 1.])
def test_gaussian_variance(level):
  x = _images(64)
  noise = np.asarray(mollify(x, level, _key()), np.float64) - np.sqrt(1 - level) * np.asarray(x)
  error = level * np.sqrt(2 / noise.size)
  assert abs(noise.var() - level) < 5 * error
  assert abs(noise.mean()) < 5 * np.sqrt(level / noise.size)


def test_gaussian_ve_keeps_the_signal():
  x = _images(64)
  noisy = mollifiers.gaussian_ve(x, .25, _key(), sigma_max=.4)
  noise = np.asarray(noisy, np.float64) - np.asarray(x)
  variance = .4 ** 2 * .25
  assert abs(noise.var() - variance) < 5 * variance * np.sqrt(2 / noise.size)


@pytest.mark.parametrize('level', [.01, .3, 1.])
def test_heat_blur_keeps_the_mean(level):
  x = _images()
  blurred = mollifiers.heat_blur(x, level, _key(), noise_std=0.)
  np.testing.assert_allclose(blurred.mean((1, 2)), x.mean((1, 2)), atol=2e-6)
  assert float(blurred.var()) < float(x.var())


def test_heat_blur_is_the_dct_formula():
  from scipy import fft
  x, sigma_max, level = _images(2, 12)[:, :, :8], 6., .6   # not square
  sigma = sigma_max * ((sigma_max / .5) ** level - 1) / (sigma_max / .5 - 1)
  f, g = np.pi * np.arange(12) / 12, np.pi * np.arange(8) / 8
  decay = np.exp(-(f[:, None] ** 2 + g[None] ** 2) * sigma ** 2 / 2)[None, :, :, None]
  dct = fft.dctn(np.asarray(x, np.float64), type=2, norm='ortho', axes=(1, 2))
  expected = fft.idctn(decay * dct, type=2, norm='ortho', axes=(1, 2))
  blurred = mollifiers.heat_blur(x, level, _key(), sigma_max=sigma_max, noise_std=0.)
  np.testing.assert_allclose(blurred, expected, atol=2e-6)


@pytest.mark.parametrize('sigma, value', [(4., .9258), (24., .0623)])
def test_heat_blur_check_values(sigma, value):
  """A[0, 1] at N = 32: what is left of the slowest cosine along one axis."""
  wave = np.cos(np.pi * (2 * np.arange(32) + 1) / 64).astype(np.float32)
  x = jnp.asarray(np.broadcast_to(wave[None, None, :, None], (1, 32, 32, 1)))
  blurred = mollifiers.heat_blur(x, 1., _key(), sigma_max=sigma, noise_std=0.)
  assert float((blurred * x).sum() / (x * x).sum()) == pytest.approx(value, abs=5e-5)


def test_heat_blur_noise_fades_only_below_sigma_min():
  x = jnp.zeros((8, 32, 32, 1))
  std = lambda level: float(mollifiers.heat_blur(x, level, _key()).std())
  assert std(1.) == pytest.approx(.01, rel=.05)
  assert std(.3) == pytest.approx(.01, rel=.05)
  assert std(.02) < .002


def test_blur_noise_is_the_published_process():
  """At level t and their noise_min: a² + σ² = 1 and logsnr = -2 log tan(l_min t + l_max)."""
  t, noise_min = .4, np.sin(np.arctan(np.exp(-5)))
  low = np.arctan(np.exp(-5))
  logsnr = -2 * np.log(np.tan((np.arctan(np.exp(5)) - low) * t + low))
  a, sigma = np.sqrt(1 / (1 + np.exp(-logsnr))), np.sqrt(1 / (1 + np.exp(logsnr)))
  flat = jnp.ones((64, 16, 16, 1))   # a constant image is not blurred
  out = np.asarray(mollifiers.blur_noise(flat, t, _key(), noise_min=noise_min), np.float64)
  assert out.mean() == pytest.approx(a, abs=5 * sigma / 128)
  assert out.std() == pytest.approx(sigma, rel=.03)
  strong = mollifiers.blur_noise(_images(2), .9, _key()) - mollifiers.blur_noise(0 * _images(2), .9,
                                                                           _key())
  assert float(strong.std()) > 0   # full rank: something of every frequency is left
  np.testing.assert_array_less(0, np.abs(np.fft.fft2(strong[..., 0])).min())


@pytest.mark.parametrize('name', MOLLIFIERS)
def test_one_level_per_example(name):
  x, levels = _images(), jnp.array([0., .1, .6, 1.])
  together = MOLLIFIERS[name](x, levels, jax.random.split(_key(), 4))
  for i, level in enumerate(levels):
    alone = MOLLIFIERS[name](x[i:i + 1], level, jax.random.split(_key(), 4)[i:i + 1])
    np.testing.assert_allclose(together[i], alone[0], atol=2e-6)


def test_keys_one_or_many_typed_or_raw():
  x = _images()
  one = mollify(x, .5, jax.random.key(3))
  np.testing.assert_array_equal(one, mollify(x, .5, jax.random.split(jax.random.key(3), 4)))
  np.testing.assert_array_equal(one, mollify(x, .5, jax.random.PRNGKey(3)))
  many = jax.random.split(jax.random.PRNGKey(3), 4)
  np.testing.assert_array_equal(one, mollify(x, .5, many))
  assert len(np.unique(one[:, 0, 0, 0])) == 4


@pytest.mark.parametrize('shape', [(5, 2), (5, 8, 8, 1), (5,), (5, 3, 4)])
def test_gaussian_takes_any_event(shape):
  assert mollify(jnp.ones(shape), .5, _key()).shape == shape


@pytest.mark.parametrize('call, message', [
  (lambda: mollify(jnp.ones((2, 3), jnp.uint8), .5, _key()), 'dtype uint8; convert first'),
  (lambda: mollifiers.identity(jnp.ones((2, 3), jnp.uint8), .5, _key()), 'identity .*uint8'),
  (lambda: mollify(jnp.ones((2, 3)), 1.5, _key()), r'level must lie in \[0, 1\], got 1.5'),
  (lambda: mollify(jnp.ones((2, 3)), jnp.ones(3), _key()), r'batch of 2, got shape \(3,\)'),
  (lambda: mollify(jnp.ones((2, 3)), .5, jax.random.split(_key(), 3)), 'batch of 2, got keys'),
  (lambda: mollifiers.heat_blur(jnp.ones((2, 3)), .5, _key()), r'shape \(2, 3\); use'),
  (lambda: mollifiers.blur_noise(jnp.ones((2, 3, 3)), .5, _key()), 'blur_noise smooths images'),
  (lambda: mollifiers.heat_blur(jnp.ones((2, 4, 4, 1)), .5, _key(), spacing='x'), "got 'x'"),
  (lambda: mollifiers.heat_blur(jnp.ones((2, 4, 4, 1)), .5, _key(), sigma_max=.1), 'below'),
])
def test_bad_input(call, message):
  with pytest.raises(ValueError, match=message):
    call()
