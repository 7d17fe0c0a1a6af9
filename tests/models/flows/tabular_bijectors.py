"""Bijectors and assembled flows of tables, for the contract tests."""
from mollification.models.flows.glow_tabular import glow_tabular
from mollification.models.flows.maf import MaskedAutoregressive, maf
from mollification.models.flows.multiscale import GaussianBase
from mollification.models.flows.permutation import RandomPermutation, Reverse

# As in test_bijectors: name -> (constructor, event, size of the condition or None).
BIJECTORS = {
    'reverse': (Reverse, (5,), None),
    'random_permutation': (lambda: RandomPermutation(1), (5,), None),
    'autoregressive': (lambda: MaskedAutoregressive((9, 7)), (5,), None),
    'autoregressive_2': (lambda: MaskedAutoregressive((6, 6)), (2,), None),
    'autoregressive_conditioned': (lambda: MaskedAutoregressive((8,)), (4,), 2),
    'base_of_a_table': (GaussianBase, (4,), None),
    'base_of_a_row_of_a_class': (lambda: GaussianBase(3), (4,), 3),
    'maf': (lambda: maf((4,), 2, 8).bijector, (4,), None),
    'maf_of_classes': (lambda: maf((3,), 2, 8, classes=2).bijector, (3,), 2),
    'glow_tabular': (lambda: glow_tabular((4,), 2, 8, learned_base=True).bijector, (4,), None),
}
