"""Pictures of reconstructions and walks: what stands in which cell."""
import jax
import numpy as np
import pytest

from mollification import models, parallel, preprocess, rng
from mollification.evaluation import pictures, sampling

PREPARE = preprocess.Prepare(levels=17, dequantize='none')


def _make(name, event, images, **options):
  net = models.create(name, event, **options)
  x = PREPARE(images[:2], jax.random.key(0))
  variables = net.init(jax.random.key(1), x, jax.random.key(2), train=True, method='loss')
  draw = pictures.make_pictures(net, PREPARE, images, levels=17, batch_size=4)
  return net, parallel.place(variables), draw


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 17, (16, 8, 8, 1), dtype=np.uint8)


def test_reconstructions_stand_beside_their_images_and_walks_start_and_end_with_them(images):
  net, variables, draw = _make('vae', (8, 8, 1), images, latent_dim=3, widths=(8,))
  found = draw(variables, rng.purpose_key(0, 'sample'))
  assert set(found) == {'reconstructions', 'interpolations'}
  made = PREPARE.invert(net.apply(variables, PREPARE(images, jax.random.key(0)),
                                  method='reconstruct'))
  beside = np.stack([images, made], axis=1).reshape(32, 8, 8, 1)
  np.testing.assert_array_equal(found['reconstructions'],
                                sampling.grid(beside, 4, levels=17, gap=1))
  walks = found['interpolations'].reshape(8, 9, pictures.STEPS, 9, 1).swapaxes(1, 2)[:, :, :8, :8]
  cells = sampling.grid(made, 1, levels=17).reshape(made.shape)
  np.testing.assert_array_equal(walks[:, 0], cells[::2])
  np.testing.assert_array_equal(walks[:, -1], np.roll(cells, -8, axis=0)[::2])


def test_rows_are_spread_over_a_split_that_may_be_sorted():
  np.testing.assert_array_equal(pictures.spread(np.arange(23), 5), [0, 4, 8, 12, 16])
  np.testing.assert_array_equal(pictures.spread(np.arange(3), 5), [0, 1, 2])


def test_an_exact_likelihood_has_no_latents_to_look_at(images):
  net = models.create('realnvp_tabular', (3,))
  assert pictures.make_pictures(net, PREPARE, images, levels=17, batch_size=4)(None, None) == {}
