"""RealNVP on images, in both published forms (Dinh et al. 2017, section 4.1)."""
import math

from mollification.models.flows.batchnorm import BatchNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.flow import Flow
from mollification.models.flows.image_coupling import ImageCoupling, ResidualNet
from mollification.models.flows.multiscale import (
  ByPosition,
  GaussianBase,
  MultiScale,
  Squeeze,
  latent_shapes,
)
from mollification.models.flows.repeat import Repeat


def realnvp_image(event_shape, scales=2, features=64, blocks=8, doubling=False, gain_penalty=5e-5,
                  classes=0, memory='store', dtype='float32', inverse_error=0, skips=False,
                  double_at_squeeze=False, ordered_split=False, axis_name=None):
  """RealNVP: per scale 3 checkerboard couplings, squeeze, 3 by channels; 4 checkerboard at last.

  Each coupling is followed by a BatchNorm with its log-determinant; those in a row are one traced
  body. Sizes by default are those of the paper for CIFAR-10: 2 scales, residual nets of 8 blocks
  with 64 features; in its generic form 4 scales, 32 features, 4 blocks for 32 px, and 5 scales, 2
  blocks for 64 px. Both published forms take these four, which are off by default, as in the runs
  that are recorded of narrow nets:

    doubling           features double from scale to scale: "as the spatial resolution is reduced,
                       the number of hidden layer features in s and t is doubled" (section 3.6);
    double_at_squeeze  they do with the squeeze, so that couplings by channels are as wide as the
                       next scale: section 4.1 counts its features for "the first coupling layers
                       with checkerboard masking";
    skips              those of `ResidualNet` ("skip-connections", section 4.1);
    ordered_split      each scale gives the base two of a square's four positions, of every channel
                       (`ByPosition`), where else it gives half of the channels whole, of RGB at
                       first all of blue and half of green.

  So it is in the code of the paper's authors (tensorflow/models, research/real_nvp) and, for
  CIFAR-10, in a port to PyTorch (chrischute/real-nvp). The authors' code normalises the part alone
  that a coupling changed, without a learned scale and shift; here BatchNorm, which has them, is of
  "the whole coupling layer output" (section 3.7).

  `gain_penalty` times the sum of squared gains of the weight-normalised kernels is added to the
  loss. The base is N(0, I), with `classes` a learned Gaussian per level, channel and class.
  `memory` is that of `Repeat`; 'invertible' cannot be, since couplings have batch statistics.
  Raises ValueError for that, for `double_at_squeeze` without `doubling`, for events that `scales`
  do not fit, and for those of which a checkerboard has one square.
  """
  if double_at_squeeze and not doubling:
    raise ValueError('double_at_squeeze says where features double, which takes doubling=True.')
  shapes = latent_shapes(event_shape, scales, squeezes=scales - 1, name='scales')
  if math.prod(shapes[-1][:2]) < 2:
    raise ValueError(f'scales={scales} leaves 1×1 of {event_shape[0]}×{event_shape[1]}, of which '
                     'no part is conditioned on another; take '
                     + (f'scales={scales - 1} or less.' if scales > 1 else 'a tabular flow.'))
  bases = tuple(GaussianBase(classes) for _ in range(scales)) if classes else ()

  def couplings(mask, count, channels, width):
    net = ResidualNet(channels, width, blocks, axis_name, dtype, skips)
    return Repeat(ImageCoupling(net, mask, BatchNorm(axis_name)), count, memory, alternate=True)

  levels, channels = [], event_shape[-1]
  for scale in range(scales):
    width = features * 2**scale if doubling else features
    if scale == scales - 1:
      layers = [couplings('checkerboard', 4, channels, width)]
    else:
      squeezed = 2 * width if double_at_squeeze else width
      layers = [couplings('checkerboard', 3, channels, width), Squeeze(),
                couplings('half', 3, 2 * channels, squeezed)]
      layers += [ByPosition()] if ordered_split else []
      channels *= 2
    levels.append(Chain(tuple(layers)))
  return Flow(event_shape=tuple(event_shape), axis_name=axis_name, conditions=classes,
              gain_penalty=gain_penalty, inverse_error=inverse_error,
              bijector=MultiScale(tuple(levels), shapes, bases))
