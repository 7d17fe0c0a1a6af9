"""K copies as one traced body: variables of their own, swaps in turn, what backward passes keep."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollification import models
from mollification.models.flows.actnorm import ActNorm
from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.coupling import MaskedAffineCoupling
from mollification.models.flows.image_coupling import GlowNet, ImageCoupling
from mollification.models.flows.linear import LULinear
from mollification.models.flows.repeat import Repeat
from tests.models.support import draw, forward_of, jit, random_variables


def test_every_copy_starts_from_draws_of_its_own():
  x = draw(2, 4)
  repeat = Repeat(Chain((LULinear(), MaskedAffineCoupling(0, 8))), 3)
  params = jit(lambda: repeat.init(jax.random.key(0), x, **forward_of()))()['params']['bijector']
  drawn = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
           if path[-1].key in ('kernel', 'lower', 'upper')]
  assert len(drawn) == 2 + 2 * 3   # two triangles, three layers of either net
  for leaf in drawn:
    assert not any((leaf[a] == leaf[b]).all() for a, b in ((0, 1), (0, 2), (1, 2)))


def test_couplings_in_a_row_keep_the_two_parts_in_turn():
  """Three by channels: the first half is kept, then the second, then the first again."""
  x = draw(1, 2, 2, 2)
  repeat = Repeat(ImageCoupling(GlowNet(1, 4)), 3, alternate=True)
  variables = random_variables(lambda: repeat.init(jax.random.key(0), x, **forward_of()))
  layer = ImageCoupling(GlowNet(1, 4))
  by_hand = x
  for copy, swap in enumerate((False, True, False)):
    params = jax.tree.map(lambda a, copy=copy: a[copy], variables['params']['bijector'])
    by_hand, _ = layer.apply({'params': params}, by_hand, swap=swap, **forward_of())
  z, _ = jit(lambda x: repeat.apply(variables, x, **forward_of()))(x)
  np.testing.assert_allclose(z, by_hand, atol=1e-6)


def _loss_and_gradients(coupling, x, cond, memory):
  """Of twenty steps with random parameters: by parameters, input and condition."""
  repeat = Repeat(Chain((ActNorm(), LULinear(), coupling)), 20, memory)
  variables = random_variables(
      lambda: repeat.init(jax.random.key(0), x, cond=cond, **forward_of()), scale=.1)
  weights = draw(*x.shape, seed=2)

  def loss(params, x, cond):
    z, log_det = repeat.apply({**variables, 'params': params}, x, train=True, cond=cond,
                              **forward_of())
    return (weights * z).sum() + jnp.sin(log_det).sum()
  return jit(jax.value_and_grad(loss, (0, 1, 2)))(variables['params'], x, cond)


@pytest.mark.parametrize('kind', ['table', pytest.param('image', marks=pytest.mark.slow)])
def test_gradients_of_all_memory_modes_are_those_of_plain_autodiff(kind):
  """At the depth of the paper's levels; tables have a condition too."""
  given = {'table': (MaskedAffineCoupling(0, 8), draw(2, 4), draw(2, 3, seed=3)),
           'image': (ImageCoupling(GlowNet(2, 8)), draw(2, 4, 4, 4), None)}[kind]
  value, gradients = _loss_and_gradients(*given, 'store')
  assert all((g != 0.).any() for g in jax.tree.leaves(gradients))
  for memory in ('remat', 'invertible'):
    other, found = _loss_and_gradients(*given, memory)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(gradients), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))


@pytest.mark.slow
def test_inversion_moves_gradients_of_bfloat16_nets_by_less_than_their_rounding_does():
  """The inverse's float32 error flips roundings of the nets' inputs, so they are not the same."""
  def gradients(dtype, memory):
    coupling = ImageCoupling(GlowNet(2, 8, dtype))
    _, found = _loss_and_gradients(coupling, draw(2, 4, 4, 4), None, memory)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])
  stored, inverted = (gradients('bfloat16', memory) for memory in ('store', 'invertible'))
  rounding = jnp.linalg.norm(stored - gradients('float32', 'store'))
  assert 0. < jnp.linalg.norm(inverted - stored) < .5 * rounding


def test_the_invertible_mode_has_no_forward_derivatives():
  repeat, x = Repeat(ActNorm(), 2, 'invertible'), draw(2, 3)
  variables = repeat.init(jax.random.key(0), x, **forward_of())
  run = lambda x: repeat.apply(variables, x, **forward_of())[0]
  with pytest.raises(TypeError, match='forward-mode'):
    jax.jvp(run, (x,), (x,))


@pytest.mark.slow
@pytest.mark.parametrize('name, options, memory', [
  ('realnvp_image', {'scales': 1, 'features': 2, 'blocks': 1}, 'remat'),
  ('glow', {'levels': 2, 'steps': 3, 'hidden': 8}, 'remat'),
  ('glow', {'levels': 2, 'steps': 3, 'hidden': 8}, 'invertible')])
def test_gradients_and_statistics_of_an_assembled_flow_are_those_of_a_stored_one(name, options,
                                                                                 memory):
  def update(memory):
    flow = models.create(name, (4, 4, 1), **options, memory=memory)
    x = draw(3, 4, 4, 1)
    variables = random_variables(lambda: flow.init(
        jax.random.key(0), x, None, train=True, method='loss'))

    def loss(params):
      (loss, _), state = flow.apply({**variables, 'params': params}, x, None, train=True,
                                    method='loss', mutable=['batch_stats'])
      return loss.sum(), state
    return jit(jax.grad(loss, has_aux=True))(variables['params'])
  for a, b in zip(jax.tree.leaves(update(memory)), jax.tree.leaves(update('store')), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))


def test_memory_of_the_invertible_mode_does_not_grow_with_depth():
  def kept(memory, count):
    step = Chain((ActNorm(), LULinear(), ImageCoupling(GlowNet(2, 32))))
    repeat, x = Repeat(step, count, memory), draw(4, 8, 8, 4)
    variables = random_variables(lambda: repeat.init(jax.random.key(0), x, **forward_of()))
    loss = lambda p, x: repeat.apply({**variables, 'params': p}, x, **forward_of())[0].sum()
    residuals = jax.eval_shape(lambda p, x: jax.vjp(loss, p, x)[1], variables['params'], x)
    own = sum(a.size for a in jax.tree.leaves(variables))
    return sum(a.size for a in jax.tree.leaves(residuals)) - own
  events = 4 * 8 * 8 * 4
  assert kept('store', 6) > kept('remat', 6) >= 6 * events
  assert kept('invertible', 2) == kept('invertible', 6) <= events


def test_the_invertible_mode_refuses_batch_statistics():
  repeat, x = Repeat(BatchNorm(), 2, 'invertible'), jnp.zeros((2, 3))
  variables = repeat.init(jax.random.key(0), x, **forward_of())
  with pytest.raises(ValueError, match='copies without batch statistics, got BatchNorm'):
    repeat.apply(variables, x, **forward_of())


@pytest.mark.parametrize(('options', 'message'), [
    ({'count': 0}, 'once or more, got 0'), ({'count': 1, 'memory': 'disk'}, "got 'disk'")])
def test_bad_repeats_are_errors(options, message):
  with pytest.raises(ValueError, match=message):
    Repeat(ActNorm(), **options)


