"""Promise 3: formulae at listed values, 1 at 0, non-increasing, 0 from the end on."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import schedules

ANNEALED = {
  'sigmoid': schedules.sigmoid,
  'linear': schedules.linear,
  'cosine': schedules.cosine,
  'jetformer': schedules.jetformer,
  'polynomial': schedules.polynomial,
}
# t -> level, computed in float64 from the published formulae.
SIGMOID = {0: 1., .1: .7830, .25: .4966, .5: .1880, .75: .0515, .9: .0146, .95: .0066, .99: .0012}


def _sigmoid64(t, start, end, temperature):
  s = lambda u: 1 / (1 + np.exp(-u / temperature))
  return (s(end) - s(t * (end - start) + start)) / (s(end) - s(start))


def _cosine64(t, start, end, temperature):
  c = lambda u: np.cos(u * np.pi / 2) ** (2 * temperature)
  return (c(end) - c(t * (end - start) + start)) / (c(end) - c(start))


@pytest.mark.parametrize('t, value', SIGMOID.items())
def test_sigmoid_listed_values(t, value):
  assert float(schedules.sigmoid(1000)(round(1000 * t))) == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize('options', [
  {'start': 0., 'end': 3., 'temperature': .7}, {'start': -3., 'end': 3., 'temperature': .3},
  {'start': 1., 'end': 2., 'temperature': 5.}])
def test_sigmoid_formula(options):
  t = np.arange(997) / 1000
  level = schedules.sigmoid(1000, **options)(jnp.arange(997))
  np.testing.assert_allclose(level, _sigmoid64(t, **options), rtol=2e-5)


@pytest.mark.parametrize('options', [
  {'start': 0., 'end': 1., 'temperature': 1.}, {'start': .2, 'end': .9, 'temperature': 2.}])
def test_cosine_formula(options):
  t = np.arange(990) / 1000
  level = schedules.cosine(1000, **options)(jnp.arange(990))
  np.testing.assert_allclose(level, _cosine64(t, **options), rtol=1e-4, atol=1e-9)


def test_other_formulae():
  step, t = jnp.arange(990), np.arange(990) / 1000
  np.testing.assert_allclose(schedules.linear(1000)(step), 1 - t, rtol=1e-5)
  np.testing.assert_allclose(schedules.polynomial(1000, power=3.)(step), (1 - t) ** 3, rtol=1e-5)
  np.testing.assert_allclose(schedules.jetformer(1000)(step),
                             ((1 + np.cos(np.pi * t)) / 2) ** 2, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize('steps', [1, 7, 1000, 50_000])
@pytest.mark.parametrize('name', ANNEALED)
def test_ends_and_order(name, steps):
  level = np.asarray(jax.jit(jax.vmap(ANNEALED[name](steps)))(jnp.arange(steps + 3)))
  assert level[0] == 1
  assert (np.diff(level) <= 0).all()
  assert (level[:steps] > 0).all()
  assert (level[steps:] == 0).all()
  assert level.dtype == np.float32


def test_sigmoid_sharp_temperature_stays_finite():
  level = np.asarray(schedules.sigmoid(100, temperature=1e-3)(jnp.arange(101)))
  assert np.isfinite(level).all()
  assert level[0] == 1
  assert level[50] < 1e-8


def test_parameters_may_be_traced():
  taus, steps = jnp.array([.3, .7, 1.5]), jnp.array([50, 100, 200])
  sweep = jax.jit(jax.vmap(lambda tau, n: schedules.sigmoid(n, temperature=tau)(25)))
  alone = [float(schedules.sigmoid(int(n), temperature=float(tau))(25))
           for tau, n in zip(taus, steps)]
  np.testing.assert_allclose(sweep(taus, steps), alone, rtol=1e-6)
  swept = jax.vmap(lambda s: schedules.sigmoid(100, start=s)(25))(jnp.array([0., 1.]))
  assert float(swept[1]) == pytest.approx(float(schedules.sigmoid(100, start=1.)(25)), rel=1e-6)


@pytest.mark.parametrize('make, values', [
  (lambda n, v: schedules.cosine(n, temperature=v), [.5, 1., 2.]),
  (lambda n, v: schedules.cosine(n, start=v), [0., .2, .4]),
  (lambda n, v: schedules.polynomial(n, power=v), [.5, 1., 3.]),
  (lambda n, v: schedules.constant(v, n), [0., .3, 1.]),
  (lambda n, v: schedules.linear(n), [0.] * 3), (lambda n, v: schedules.jetformer(n), [0.] * 3),
  (lambda n, v: schedules.by_epoch(schedules.linear(n), v), [3, 10, 20])],
  ids=['cosine', 'cosine_start', 'polynomial', 'constant', 'linear', 'jetformer', 'by_epoch'])
def test_every_family_may_be_swept(make, values):
  lengths = jnp.array([50, 100, 200])
  swept = jax.jit(jax.vmap(lambda n, v: make(n, v)(25)))(lengths, jnp.array(values))
  alone = [float(make(int(n), v)(25)) for n, v in zip(lengths, values)]
  np.testing.assert_allclose(swept, alone, rtol=1e-6)


def test_by_epoch_holds_the_level_of_the_first_update():
  level = schedules.by_epoch(schedules.linear(100), 10)
  np.testing.assert_array_equal(level(jnp.arange(30, 40)), np.full(10, level(30)))
  assert float(level(39)) == pytest.approx(.7)
  assert float(level(40)) == pytest.approx(.6)
  assert float(level(100)) == 0


def test_reordered_has_the_same_levels_in_another_order_and_the_same_end():
  falling = schedules.sigmoid(50)
  before = np.asarray(falling(jnp.arange(60)))
  at = lambda order, seed=0: np.asarray(jax.jit(jax.vmap(
    schedules.reordered(falling, 50, order, seed=seed)))(jnp.arange(60)))
  np.testing.assert_allclose(at('falling'), before, rtol=1e-6)
  np.testing.assert_allclose(at('rising')[:50], before[49::-1], rtol=1e-6)
  shuffled = at('shuffled')
  np.testing.assert_allclose(np.sort(shuffled[:50]), np.sort(before[:50]), rtol=1e-6)
  assert (np.diff(shuffled[:50]) > 0).sum() > 10 < (np.diff(shuffled[:50]) < 0).sum()
  assert (shuffled[:50] != at('shuffled', seed=1)[:50]).any()
  for levels in (at('rising'), shuffled):
    assert (levels[50:] == 0).all()


def test_constant_and_none():
  level = schedules.constant(.3, 10)(jnp.arange(12))
  np.testing.assert_allclose(level, [.3] * 10 + [0, 0], rtol=1e-6)
  assert float(schedules.none()(0)) == 0
  assert schedules.none()(jnp.arange(4)).shape == (4,)


@pytest.mark.parametrize('make, message', [
  (lambda: schedules.sigmoid(0), 'steps must be positive.*none'),
  (lambda: schedules.linear(-3), 'got -3'),
  (lambda: schedules.sigmoid(10, temperature=0.), 'temperature must be positive'),
  (lambda: schedules.sigmoid(10, start=3., end=0.), r'end - start must be positive, got -3'),
  (lambda: schedules.cosine(10, end=1.5), r'end must be in \(0, 1\], got 1.5'),
  (lambda: schedules.cosine(10, start=-.5), 'start must be in'),
  (lambda: schedules.polynomial(10, power=0.), 'power must be positive'),
  (lambda: schedules.constant(1.5, 10), r'value must be in \[0, 1\], got 1.5'),
  (lambda: schedules.by_epoch(schedules.none(), 0), 'steps_per_epoch must be positive'),
  (lambda: schedules.reordered(schedules.none(), 9, 'random'), "order must be one of .*'falling'"),
])
def test_bad_parameters(make, message):
  with pytest.raises(ValueError, match=message):
    make()
