"""GLOW on images (Kingma & Dhariwal 2018), as the paper's released code has it."""
from mollification.models.flows.actnorm import ActNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.flow import Flow
from mollification.models.flows.image_coupling import GlowNet, ImageCoupling
from mollification.models.flows.linear import LULinear
from mollification.models.flows.multiscale import GaussianBase, MultiScale, Squeeze, latent_shapes
from mollification.models.flows.repeat import Repeat


def glow(event_shape, levels=3, steps=20, hidden=512, classes=0, memory='store', dtype='float32',
         inverse_error=0, min_scale=0., axis_name=None):
  """GLOW: `levels` × [squeeze, `steps` × [ActNorm, 1×1 convolution, coupling], half to the base].

  The defaults are the paper's CIFAR-10 model of 27.5 M parameters. The base of each level is a
  learned diagonal Gaussian per channel; `classes` makes it class-conditional. `memory` is that of
  `Repeat`, `dtype` the type of the activations in coupling nets ('float32' or 'bfloat16'),
  `inverse_error` that of `Flow`; `min_scale` bounds the scales of couplings from below, see
  `GlowNet`. Densities and their gradients agree with those of normflows' GLOW, layer by layer the
  same (tests/models/flows/test_golden_glow.py). Raises ValueError for events that `levels` do not
  fit, and for less than one step.
  """
  if steps < 1:
    raise ValueError(f'steps must be at least 1, got {steps}.')
  shapes = latent_shapes(event_shape, levels, squeezes=levels)
  scales, bases = [], []
  for level, (_, _, channels) in enumerate(shapes):
    width = channels if level == levels - 1 else 2 * channels
    step = Chain((ActNorm(axis_name), LULinear(),
                  ImageCoupling(GlowNet(width // 2, hidden, dtype, min_scale))))
    scales.append(Chain((Squeeze(), Repeat(step, steps, memory))))
    bases.append(GaussianBase(classes))
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name, conditions=classes,
              inverse_error=inverse_error, starts_from_data=True,
              bijector=MultiScale(tuple(scales), shapes, tuple(bases)))
