"""Units: every change of units has its inverse, and its log-det is autodiff's."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import preprocess
from mollification.preprocess import Prepare

PREPARES = {
  'uniform': Prepare(levels=256),
  'digits': Prepare(levels=17, low=0., high=1.),
  'none': Prepare(levels=256, dequantize='none'),
  'logit': Prepare(levels=256, low=0., high=1., logit_alpha=.05),
  'logit_symmetric': Prepare(levels=256, logit_alpha=.05),
}


def _batch(levels, n=6):
  return jnp.asarray(np.random.default_rng(0).integers(0, levels, (n, 4, 4, 3)), jnp.uint8)


def _keys(n=6):
  return jax.random.split(jax.random.key(2), n)


@pytest.mark.parametrize('quantize', preprocess.QUANTIZE)
@pytest.mark.parametrize('name', PREPARES)
def test_invert_undoes_prepare(name, quantize):
  prepare = PREPARES[name]
  batch = _batch(prepare.levels)
  x = prepare(batch, _keys())
  back = prepare.invert(x, quantize)
  assert back.dtype == jnp.uint8
  if prepare.dequantize == 'none' and quantize == 'floor':   # the paper's truncation, as it is
    expected = np.clip(np.float32(127.5) * np.asarray(x) + np.float32(127.5), 0, 255)
    np.testing.assert_array_equal(back, expected.astype(np.uint8))
  else:
    np.testing.assert_array_equal(back, batch)


@pytest.mark.parametrize('name', PREPARES)
def test_log_det_is_autodiffs(name):
  """Of the smooth part: grey level plus fixed noise -> model space."""
  prepare = PREPARES[name]
  batch = _batch(prepare.levels, 1)[:, :2, :2, :1]
  _, log_det = prepare.with_log_det(batch, _keys(1))

  def smooth(levels):
    y, _ = preprocess.scale(levels, prepare._width, prepare.low, prepare.high)
    if prepare.logit_alpha:
      y, _ = preprocess.logit(y, prepare.logit_alpha, prepare.low, prepare.high)
    return y.ravel()

  keys = jax.vmap(lambda key: jax.random.split(key, 2))(_keys(1))
  levels = batch.astype(jnp.float32)
  if prepare.dequantize == 'uniform':
    levels = preprocess.dequantize(batch, keys[:, 1])
  jacobian = jax.jacfwd(smooth)(levels).reshape(4, 4)
  np.testing.assert_allclose(log_det[0], np.linalg.slogdet(jacobian)[1], rtol=1e-5)


def test_range_and_noise():
  prepare = Prepare(levels=17)
  x = prepare(jnp.full((64, 8, 8, 1), 16, jnp.uint8), jax.random.split(jax.random.key(0), 64))
  assert float(x.min()) >= -1 + 2 * 16 / 17 - 1e-6
  assert float(x.max()) <= 1 + 1e-6
  width = 2 / 17
  assert float(x.std()) == pytest.approx(width / np.sqrt(12), rel=.03)


def test_tables_pass_unchanged():
  rows = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  x, log_det = Prepare(levels=None).with_log_det(jnp.asarray(rows), _keys())
  np.testing.assert_array_equal(x, rows)
  np.testing.assert_array_equal(log_det, np.zeros(6))
  np.testing.assert_array_equal(Prepare(levels=None).invert(x), rows)


def test_flip_mirrors_half_of_the_images_and_only_left_to_right():
  images = _batch(256, 200)
  flipped = np.asarray(preprocess.flip(images, jax.random.key(0)))
  same = (flipped == np.asarray(images)).all((1, 2, 3))
  mirrored = (flipped == np.asarray(images)[:, :, ::-1]).all((1, 2, 3))
  assert (same | mirrored).all()
  assert 60 < mirrored.sum() < 140


def test_flip_does_not_change_the_noise():
  batch = _batch(256)
  plain, flipped = (Prepare(levels=256, flip=f)(batch, _keys()) for f in (False, True))
  changed = (np.asarray(plain) != np.asarray(flipped)).any((1, 2, 3))
  assert changed.any()
  assert not changed.all()


def test_dequantised_pixels_stay_below_the_next_level():
  """Near 40,000 float32 has steps of 1/256: half a step below the next level rounds to it."""
  x = jnp.full((8, 64, 64, 1), 40_000)
  found = np.asarray(preprocess.dequantize(x, jax.random.key(0)))
  np.testing.assert_array_equal(np.floor(found), 40_000)
  assert len(np.unique(found)) == 256


@pytest.mark.parametrize('make, message', [
  (lambda: Prepare(levels=256, dequantize='yes'), "dequantize must be one of .*got 'yes'"),
  (lambda: Prepare(levels=256, low=1., high=1.), 'low must be below high'),
  (lambda: Prepare(levels=256, logit_alpha=.5), 'got 0.5; 0 for no logit'),
  (lambda: Prepare(levels=None, flip=True), 'this data has none'),
  (lambda: Prepare(levels=256, logit_alpha=.05)(_batch(256) + .5, _keys()),
   'must be of integers, got float32; noise comes after prepare, in model space'),
  (lambda: Prepare(levels=256).invert(jnp.zeros((1, 2, 2, 1)), 'ceil'), "got 'ceil'"),
])
def test_bad_values(make, message):
  with pytest.raises(ValueError, match=message):
    make()
