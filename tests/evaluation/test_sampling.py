"""Sample i is a function of (key, i); grids and PNG files show what was sampled."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification.evaluation import sampling
from mollification.preprocess import Prepare

KEY = jax.random.key(5)
VARIABLES = {'mean': jnp.float32(.25)}


def elementwise(variables, keys, *, temperature=1., cond=None):
  draws = jax.vmap(lambda key: jax.random.uniform(key, (4, 3, 1), minval=-2, maxval=2))(keys)
  x = jnp.tanh(variables['mean'] + temperature * draws)
  return x if cond is None else x + cond[:, None, None, None]


make_sampler = functools.cache(sampling.make_sampler)  # compiling is what takes the time


def draw(n=75, batch_size=64, invert=None, sample_fn=elementwise, first=0, cond=None, **options):
  sampler = make_sampler(sample_fn, invert, batch_size=batch_size, **options)
  return sampler(VARIABLES, KEY, n, first=first, cond=cond)


def test_samples_do_not_depend_on_batches_or_devices(devices):
  devices(4)
  whole = draw().x
  keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(75))
  np.testing.assert_allclose(whole, elementwise(VARIABLES, keys), atol=1e-6)
  for n, batch_size in ((4, 7), (1, 7), (2, 64)):
    devices(n)
    np.testing.assert_array_equal(draw(batch_size=batch_size).x, whole)


def test_blocks_of_a_stream_are_one_long_run():
  parts = [draw(30).x, draw(45, first=30).x]
  np.testing.assert_array_equal(np.concatenate(parts), draw(75).x)


@pytest.mark.parametrize('quantize', ['floor', 'round'])
def test_samples_in_stored_units_are_prepares_inverse(quantize):
  invert = functools.partial(Prepare(levels=17).invert, quantize=quantize)
  stored = draw(invert=invert)
  assert stored.x.dtype == np.uint8
  assert stored.n == 75
  np.testing.assert_array_equal(stored.x, invert(draw().x))


def test_temperature_and_cond_reach_the_model():
  np.testing.assert_allclose(draw(5, temperature=0.).x, np.tanh(.25), rtol=1e-6)
  shifted = draw(5, cond=np.arange(5, dtype=np.float32)).x
  np.testing.assert_allclose(shifted - draw(5).x, np.broadcast_to(
    np.arange(5)[:, None, None, None], shifted.shape), atol=1e-6)
  with pytest.raises(ValueError, match='one row per sample: 5, got 4'):
    draw(5, cond=np.zeros(4))


def test_nonfinite_samples_are_counted_before_they_are_quantised():
  def broken(variables, keys):
    x = elementwise(variables, keys)
    return jnp.where(x > .9, jnp.inf, x)

  bad = int((draw().x > .9).any((1, 2, 3)).sum())
  assert 0 < bad < 75
  invert = Prepare(levels=256).invert
  with pytest.raises(FloatingPointError, match=f'{bad} of 75 samples are not finite'):
    draw(sample_fn=broken, invert=invert)
  result = draw(sample_fn=broken, invert=invert, allow_nonfinite=True)
  assert (result.nonfinite, result.n) == (bad, 75)
  assert draw().nonfinite == 0


@pytest.mark.parametrize('n, processes', [(75, 2), (2, 3), (9, 4)])
def test_processes_that_share_get_all_samples(monkeypatch, n, processes):
  """Each draws its part; what the last ones draw beyond n is neither returned nor counted."""
  def broken(variables, keys, cond):
    x = elementwise(variables, keys, cond=cond)
    return jnp.where(x > .9, jnp.inf, x)

  cond = np.linspace(0., .1, n, dtype=np.float32)
  options = {'sample_fn': broken, 'cond': cond, 'batch_size': 8, 'allow_nonfinite': True}
  drawn, wanted = [[] for _ in range(processes)], draw(n, **options)
  monkeypatch.setattr(sampling.jax, 'process_count', lambda: processes)

  def shared(index, gather):
    monkeypatch.setattr(sampling.jax, 'process_index', lambda: index)
    monkeypatch.setattr(sampling.parallel, 'all_processes', gather)
    return draw(n, shared=True, **options)

  for index, own in enumerate(drawn):
    shared(index, lambda tree, own=own: own.append(tree) or [tree] * processes)
  assert {sum(len(finite) for _, finite in own) for own in drawn} == {-(-n // processes)}
  for index in range(processes):
    rounds = zip(*drawn)
    found = shared(index, lambda tree, rounds=rounds: next(rounds))
    np.testing.assert_array_equal(found.x, wanted.x)
    assert found.nonfinite == wanted.nonfinite


def test_one_program_serves_all_calls():
  traces = []

  def counted(variables, keys):
    traces.append(keys.shape)
    return elementwise(variables, keys)

  sampler = sampling.make_sampler(counted, batch_size=8)
  for n in (3, 8, 21):
    sampler(VARIABLES, KEY, n)
  assert len(traces) == 1


def test_refuses_what_is_no_sample():
  with pytest.raises(ValueError, match='n must be at least 1'):
    draw(0)
  with pytest.raises(ValueError, match='one sample per key'):
    draw(sample_fn=lambda v, keys: elementwise(v, keys)[:1])


def test_grid_places_images_row_by_row():
  images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
  picture = sampling.grid(images, 2, levels=5)
  assert picture.shape == (6, 6, 1)
  cells = picture[::2, ::3, 0]
  np.testing.assert_array_equal(cells, [[0, 64], [128, 191], [255, 0]])
  np.testing.assert_array_equal(picture[4:, 3:], 0)
  np.testing.assert_array_equal(sampling.grid(images, 1).ravel(), images.ravel())


def test_grid_refuses_what_it_would_distort():
  images = np.full((2, 2, 2, 1), 17, np.uint8)
  with pytest.raises(ValueError, match='below levels=17 <= 256, got 17'):
    sampling.grid(images, 2, levels=17)
  with pytest.raises(ValueError, match='images uint8'):
    sampling.grid(images.astype(np.float32), 2)
  with pytest.raises(ValueError, match='columns must be at least 1'):
    sampling.grid(images, 0)


@pytest.mark.parametrize('channels', [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
  from PIL import Image
  image = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)
  path = tmp_path / 'samples' / 'grid.png'
  sampling.save_png(path, image, scale=3)
  with Image.open(path) as file:
    read = np.asarray(file).reshape(15, 12, channels)
  np.testing.assert_array_equal(read[1::3, 1::3], image)
  np.testing.assert_array_equal(read[::3, ::3], read[2::3, 2::3])


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  image = np.zeros((2, 2, 1), np.uint8)
  path = tmp_path / 'a.png'
  sampling.save_png(path, image)
  before = path.read_bytes()

  def fail(self, file, **options):
    file.write_bytes(b'half')
    raise OSError('disk full')

  monkeypatch.setattr('PIL.Image.Image.save', fail)
  with pytest.raises(OSError, match='disk full'):
    sampling.save_png(path, image)
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == ['a.png']
  with pytest.raises(ValueError, match='uint8'):
    sampling.save_png(path, image.astype(float))


def test_grid_gap_separates_the_images():
  images = np.full((3, 2, 2, 1), 255, np.uint8)
  picture = sampling.grid(images, 2, gap=1)
  assert picture.shape == (6, 6, 1)
  assert (picture[:2, :2] == 255).all()
  assert (picture[2] == sampling.GAP_GREY).all()
  assert (picture[:, 2] == sampling.GAP_GREY).all()
  assert (picture[3:5, 3:5] == 0).all()   # the empty cell
