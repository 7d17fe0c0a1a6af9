"""The FID network against pytorch-fid's own, on seeded random weights; and its three inputs."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.bench import inception_golden as golden
from mollification.evaluation import features, inception, resize, weights

GOLDEN = dict(np.load(golden.GOLDEN))


@pytest.fixture(scope='module')
def params():
  return weights.nest(golden.random_weights())


@pytest.fixture(scope='module')
def images():
  """The golden images as the network takes them, [4, 299, 299, 3]."""
  return jnp.concatenate(
    [resize.prepare(jnp.asarray(golden.image(size)), 'pytorch', inception.SIZE)
     for size in golden.SIZES])


@pytest.fixture(scope='module')
def plain(params, images):
  return jax.jit(lambda p, x: inception.Inception().apply({'params': p}, x))(params, images)


@pytest.fixture(scope='module')
def fused(params, images):
  return jax.jit(inception.forward)(inception.fuse(params), images)


def distance(found, expected):
  """Relative, in the Euclidean norm."""
  return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize('form', ['plain', 'fused'])
@pytest.mark.parametrize('size', golden.SIZES)
def test_equals_pytorch_fid(request, form, size):
  taps = request.getfixturevalue(form)
  row = golden.SIZES.index(size)
  names = ['64', '192', '768', '2048', *(['logits', 'spatial'] if size == 64 else [])]
  for name in names:
    assert distance(taps[name][row], GOLDEN[f'{size}/{name}']) < 1e-5, name


def _padding_counts(x, op):
  if op.kind == 'max':
    return inception_pool(x, op)
  pads = ((0, 0), (op.pad, op.pad), (op.pad, op.pad), (0, 0))
  return jax.lax.reduce_window(x, 0., jax.lax.add, (1, 3, 3, 1), (1, op.stride, op.stride, 1),
                               pads) / 9


inception_pool = inception.pool


def _replaced_last(stages):
  return (*stages[:-1], ('Mixed_7c', inception._mixed_e('avg')))


def _swapped(stages):
  """1x7 and 7x1 in each other's place in one block, with kernels transposed."""
  block, branches = stages[12]
  turned = tuple(tuple(
    op._replace(kernel=op.kernel[::-1], pad=op.pad[::-1]) if isinstance(op, inception.Conv) else op
    for op in branch) for branch in branches)
  return (*stages[:12], (block, turned), *stages[13:])


@pytest.mark.slow
@pytest.mark.parametrize('name, change', [
  ('pool', lambda old: _padding_counts), ('STAGES', _replaced_last), ('EPS', lambda old: 1e-5),
  ('STAGES', _swapped), ('scale', None), ('none', None)],
  ids=['padding counts', 'mean in the last block', 'epsilon', '1x7 for 7x1', 'scale', 'none'])
def test_each_mutation_breaks_the_golden(params, monkeypatch, name, change):
  """What other ports got wrong, each far beyond the tolerance of 1e-5."""
  x = resize.prepare(jnp.asarray(golden.image(64)), 'pytorch', inception.SIZE)
  if name == 'scale':
    x = x * (127.5 / 128)
  elif name != 'none':
    monkeypatch.setattr(inception, name, change(getattr(inception, name)))
  if change is _swapped:
    params = params | {'Mixed_6c': {
      branch: leaf | {'conv': {'kernel': leaf['conv']['kernel'].swapaxes(0, 1)}}
      for branch, leaf in params['Mixed_6c'].items()}}
  # A function of its own: jit would take the trace of another mutation for one of this.
  found = jax.jit(lambda *args: inception.forward(*args))(inception.fuse(params), x)['2048'][0]
  error = distance(found, GOLDEN['64/2048'])
  assert error < 1e-5 if name == 'none' else error > 1e-3


def test_logits_without_bias(plain, params):
  bias = np.broadcast_to(params['fc']['bias'], plain['logits'].shape)
  np.testing.assert_allclose(plain['logits'] - plain['logits_unbiased'], bias, atol=1e-4)


def test_fused_is_the_plain_function(plain, fused):
  assert set(plain) == set(fused)
  for name in plain:
    assert fused[name].shape == plain[name].shape
    assert distance(fused[name], plain[name]) < 1e-5, name


def test_float64_equals_pytorch_fid_in_float64(params):
  with jax.enable_x64(True):
    x = resize.prepare(jnp.asarray(golden.image(64)), 'pytorch', inception.SIZE, jnp.float64)
    double = jax.tree.map(lambda a: a.astype(np.float64), params)
    taps = jax.jit(inception.forward)(inception.fuse(double), x)
    for name in ('192', '768', '2048'):
      assert taps[name].dtype == np.float64
      assert distance(taps[name][0], GOLDEN[f'64/{name}/float64']) < 1e-10


def test_features_in_float64_of_images_as_they_come(params, tmp_path):
  """Weights, resizing and network, without a switch for all of JAX."""
  weights.save(weights.Weights(params, 'made here', ''), tmp_path / 'w.npz')
  extractor = features.load('inception_pytorch', path=tmp_path / 'w.npz', allow_unverified=True,
                            precision='float64')
  found = features.extract(extractor, np.asarray(golden.image(64)), device_batch=1)
  assert found.dtype == np.float64
  assert distance(found[0], GOLDEN['64/2048/float64']) < 1e-10
  assert jnp.ones(1).dtype == jnp.float32   # of others nothing has changed
  for name, precision in (('digits_cnn_8x8', 'float64'), ('inception_tf1', 'float16')):
    with pytest.raises(ValueError, match=f"must be float32 or, .* got '{precision}' of {name}"):
      features.load(name, precision=precision)


@pytest.mark.parametrize('platform', ['tpu', 'cuda'])
def test_lowers_for_accelerators(params, platform):
  shapes = jax.eval_shape(lambda: inception.fuse(params))

  def run(fused, x):
    return inception.forward(fused, resize.prepare(x, 'pytorch', inception.SIZE))

  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
  text = jax.jit(run).trace(shapes, x).lower(lowering_platforms=(platform,)).as_text()
  assert text.count('stablehlo.convolution') == 94 - sum(
    len(list(inception._openings(stage[1]))) - 1 for stage in inception.STAGES
    if not isinstance(stage, (inception.Conv, inception.Pool))
    and list(inception._openings(stage[1])))
  products = [line for line in text.splitlines()
              if 'stablehlo.convolution' in line or 'stablehlo.dot_general' in line]
  assert len(products) > 50
  assert all('HIGHEST' in line for line in products)   # the default is TF32 or bfloat16


def test_refuses_other_inputs(params):
  with pytest.raises(ValueError, match=r'\[B, 299, 299, 3\], got \(1, 300, 299, 3\)'):
    jax.eval_shape(inception.forward, inception.fuse(params), jnp.zeros((1, 300, 299, 3)))


# --- Inputs -------------------------------------------------------------------------------------

def resized(image, mode):
  return np.asarray(resize.resize(jnp.asarray(image, jnp.float32), mode, inception.SIZE))[0]


@pytest.mark.parametrize('size', golden.RESIZED)
def test_pytorch_mode_is_interpolate(size):
  found = resized(golden.image(size), 'pytorch')[golden.SAMPLED]
  np.testing.assert_allclose(found, GOLDEN[f'resized/{size}'], atol=1e-4)


@pytest.mark.parametrize('size', [28, 32, 299, 512])
def test_tf1_mode_is_the_graphs_resize(size):
  """Source coordinate i n / 299, its floor and the next pixel, clamped; pixel by pixel."""
  image = golden.image(size)[0].astype(np.float64)
  found = resized(golden.image(size), 'tf1')
  for i, j in [*np.random.default_rng(0).integers(0, 299, (40, 2)).tolist(), [298, 298], [0, 0]]:
    (y, v), (x, u) = (divmod(k * size / 299, 1) for k in (i, j))
    y, x = int(y), int(x)
    down, right = min(y + 1, size - 1), min(x + 1, size - 1)
    top, bottom = ((1 - u) * image[k, x] + u * image[k, right] for k in (y, down))
    np.testing.assert_allclose(found[i, j], (1 - v) * top + v * bottom, atol=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize('size', golden.RESIZED)
def test_tf1_mode_is_tensorflows(size):
  tensorflow = pytest.importorskip('tensorflow')
  expected = tensorflow.raw_ops.ResizeBilinear(
    images=golden.image(size), size=(299, 299), align_corners=False, half_pixel_centers=False)
  np.testing.assert_allclose(resized(golden.image(size), 'tf1'), expected[0], atol=1e-4)


@pytest.mark.parametrize('shape', [(28, 28), (32, 50), (300, 298), (1024, 400)])
def test_clean_mode_is_pillows_bicubic(shape):
  x = golden.image(max(shape))[:, :shape[0], :shape[1]]
  expected = np.stack([
    np.asarray(Image.fromarray(x[0, ..., c].astype(np.float32)).resize((299, 299), Image.BICUBIC))
    for c in range(3)], -1)
  assert expected.dtype == np.float32
  np.testing.assert_allclose(resized(x, 'clean'), expected, atol=1e-2)


def test_scales():
  x = jnp.asarray([0, 1, 128, 255], jnp.uint8).reshape(4, 1, 1, 1) + jnp.zeros(
    (4, 299, 299, 1), jnp.uint8)
  for mode, expected in (('pytorch', [-1, 1 / 127.5 - 1, 128 / 127.5 - 1, 1]),
                         ('tf1', [-1, -127 / 128, 0, 127 / 128]),
                         ('clean', [-1, -127 / 128, 0, 127 / 128])):
    found = resize.prepare(x, mode, 299)
    assert found.shape == (4, 299, 299, 3)
    np.testing.assert_allclose(found[:, 7, 9, 2], expected, atol=1e-7)
  edge = np.zeros((1, 8, 8, 3), np.uint8)
  edge[:, :, 4:] = 255   # a bicubic overshoots here
  assert abs(np.asarray(resize.prepare(jnp.asarray(edge), 'clean', 299))).max() <= 1
  assert resized(edge, 'clean').max() > 255


@pytest.mark.parametrize('mode', resize.MODES)
@pytest.mark.parametrize('n', [1, 2, 31, 299, 700])
def test_rows_of_a_resize_sum_to_one(mode, n):
  matrix = resize.matrix(mode, n, 299, 'float64')
  np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
  assert n != 299 or np.array_equal(matrix, np.eye(299)) or mode == 'clean'


def test_refusals():
  x = jnp.zeros((1, 8, 8, 3), jnp.uint8)
  with pytest.raises(ValueError, match=r"one of \('pytorch', 'tf1', 'clean'\), got 'legacy'"):
    resize.prepare(x, 'legacy', 299)
  with pytest.raises(ValueError, match='got float32'):
    resize.prepare(x.astype(jnp.float32), 'tf1', 299)
  with pytest.raises(ValueError, match=r'got uint8 \(1, 8, 8, 4\)'):
    resize.prepare(jnp.zeros((1, 8, 8, 4), jnp.uint8), 'tf1', 299)
