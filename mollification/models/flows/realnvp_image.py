"""RealNVP on images, in both published forms (Dinh et al. 2017, section 4.1)."""
import math

from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.flow import Flow
from mollification.models.flows.image_coupling import ImageCoupling, ResidualNet
from mollification.models.flows.multiscale import GaussianBase, MultiScale, Squeeze, latent_shapes
from mollification.models.flows.repeat import Repeat


def realnvp_image(event_shape, scales=2, features=64, blocks=8, doubling=False, gain_penalty=5e-5,
                  classes=0, memory='store', dtype='float32', inverse_error=0, axis_name=None):
  """RealNVP: per scale 3 checkerboard couplings, squeeze, 3 by channels; 4 checkerboard at last.

  Each coupling is followed by a BatchNorm with its log-determinant; those in a row are one traced
  body. The defaults are the paper's CIFAR-10 form: 2 scales, residual nets of 8 blocks with 64
  features. The generic form has `doubling`, features that double from scale to scale: 4 scales, 32
  features, 4 blocks for 32 px; 5 scales, 2 blocks for 64 px. (Within a scale all couplings are
  equally wide. In the code of the paper's authors those by channels are twice as wide as those
  before the squeeze, as if the squeeze began the next scale; the paper does not say so.)
  `gain_penalty` times the sum of squared gains of the weight-normalised kernels is added to the
  loss. The base is N(0, I), with `classes` a learned Gaussian per level, channel and class.
  `memory` is that of `Repeat`; 'invertible' cannot be, since couplings have batch statistics.
  Raises ValueError for that, for events that `scales` do not fit, and for those of which a
  checkerboard has one square.
  """
  shapes = latent_shapes(event_shape, scales, squeezes=scales - 1, name='scales')
  if math.prod(shapes[-1][:2]) < 2:
    raise ValueError(f'scales={scales} leaves 1×1 of {event_shape[0]}×{event_shape[1]}, of which '
                     'no part is conditioned on another; take '
                     + (f'scales={scales - 1} or less.' if scales > 1 else 'a tabular flow.'))
  bases = tuple(GaussianBase(classes) for _ in range(scales)) if classes else ()

  def couplings(mask, count, channels, width):
    net = ResidualNet(channels, width, blocks, axis_name, dtype)
    return Repeat(ImageCoupling(net, mask, BatchNorm(axis_name)), count, memory, alternate=True)

  levels, channels = [], event_shape[-1]
  for scale in range(scales):
    width = features * 2**scale if doubling else features
    if scale == scales - 1:
      layers = [couplings('checkerboard', 4, channels, width)]
    else:
      layers = [couplings('checkerboard', 3, channels, width), Squeeze(),
                couplings('half', 3, 2 * channels, width)]
      channels *= 2
    levels.append(Chain(tuple(layers)))
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name, conditions=classes,
              gain_penalty=gain_penalty, inverse_error=inverse_error,
              bijector=MultiScale(tuple(levels), shapes, bases))
