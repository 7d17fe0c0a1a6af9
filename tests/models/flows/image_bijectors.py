"""Bijectors and assembled flows on images, for the contract tests: tiny, and odd where they may."""
from mollification.models.flows.actnorm import ActNorm
from mollification.models.flows.bijector import Chain
from mollification.models.flows.glow import glow
from mollification.models.flows.image_coupling import GlowNet, ImageCoupling, ResidualNet
from mollification.models.flows.linear import LULinear
from mollification.models.flows.multiscale import ByPosition, GaussianBase, MultiScale, Squeeze
from mollification.models.flows.realnvp_image import realnvp_image
from mollification.models.flows.repeat import Repeat


def _coupling(mask, channels):
  return lambda: ImageCoupling(GlowNet(channels, 4), mask)


def _step():
  return Chain((ActNorm(), LULinear(), ImageCoupling(GlowNet(2, 4))))


# As in test_bijectors: name -> (constructor, event, size of the condition or None).
BIJECTORS = {
    'actnorm_vector': (ActNorm, (4,), None),
    'actnorm_image': (ActNorm, (2, 3, 2), None),
    'lu_vector': (LULinear, (5,), None),
    'lu_image': (LULinear, (2, 3, 3), None),
    'coupling_half': (_coupling('half', 2), (3, 2, 4), None),
    'coupling_alternating': (_coupling('alternating', 1), (3, 2, 2), None),
    'coupling_checkerboard': (_coupling('checkerboard', 1), (3, 3, 1), None),
    'coupling_bounded': (
        lambda: ImageCoupling(GlowNet(2, 4, min_scale=.2)), (3, 2, 4), None),
    'coupling_residual': (
        lambda: ImageCoupling(ResidualNet(2, 4, 2), 'checkerboard'), (2, 2, 2), None),
    'coupling_residual_skips': (
        lambda: ImageCoupling(ResidualNet(1, 4, 2, skips=True)), (2, 2, 2), None),
    'squeeze': (Squeeze, (4, 2, 2), None),
    'by_position': (ByPosition, (1, 2, 8), None),
    'base': (GaussianBase, (2, 2, 3), None),
    'base_of_a_class': (lambda: GaussianBase(3), (2, 2, 3), 3),
    'repeat': (lambda: Repeat(_step(), 3), (2, 2, 4), None),
    'repeat_alternating': (
        lambda: Repeat(ImageCoupling(GlowNet(1, 4)), 3, alternate=True), (2, 2, 2), None),
    'repeat_remat': (lambda: Repeat(_step(), 2, 'remat'), (2, 2, 4), None),
    'repeat_invertible': (lambda: Repeat(_step(), 2, 'invertible'), (2, 2, 4), None),
    'multiscale_without_bases': (
        lambda: MultiScale((Squeeze(), Squeeze()), ((2, 2, 2), (1, 1, 8))), (4, 4, 1), None),
    'glow': (lambda: glow((4, 4, 1), 2, 2, 4).bijector, (4, 4, 1), None),
    'glow_of_classes': (lambda: glow((2, 2, 1), 1, 2, 4, classes=2).bijector, (2, 2, 1), 2),
    'realnvp_image': (lambda: realnvp_image((4, 2, 1), 2, 2, 1).bijector, (4, 2, 1), None),
    'realnvp_image_as_published': (
        lambda: realnvp_image((4, 2, 1), 2, 2, 1, doubling=True, double_at_squeeze=True,
                              skips=True, ordered_split=True).bijector, (4, 2, 1), None),
    'realnvp_image_of_classes': (
        lambda: realnvp_image((4, 2, 1), 2, 2, 1, classes=2, memory='remat').bijector,
        (4, 2, 1), 2),
}
