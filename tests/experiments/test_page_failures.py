"""The table of failures on images: each sign where it shows, and nowhere else."""
import types

from experiments import comparison, page_failures
from tests.experiments import recorded


def _found(values, *, model='vae', metric='frechet', nonfinite=()):
  """[(Cell, Record)] of {arm: values by seed}; `nonfinite` {arm: count} of 10 samples a seed."""
  return [(comparison.Cell(model, arm, seed, metric, value),
           types.SimpleNamespace(n=10, extra={'nonfinite_samples': dict(nonfinite).get(arm, 0)}))
          for arm, own in values.items() for seed, value in enumerate(own)]


def test_each_sign_shows_where_it_is(tmp_path):
  found = [*_found({'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)},
                   nonfinite={'vanilla': 1, 'blur': 3}),
           *_found({'vanilla': (.5, .6, .7), 'gaussian': (.4, .51, .59), 'blur': (.5, .6, .7)},
                   metric='recall'),
           *_found({'vanilla': (5., 6., 7.), 'gaussian': (9., 2., 7.), 'blur': (9., 2., 7.)},
                   metric='frechet@net')]
  for arm, end in (('vanilla', -5.), ('gaussian', -1.9), ('blur', -9.)):
    recorded.run(tmp_path / 'vae', arm=arm, seed=0, end=end)
  assert page_failures.rows(found, tmp_path) == [
    ('model', 'arm', 'verdict', 'signs'),
    ('VAE', 'gaussian', 'better', 'fewer modes (recall -0.100 ± 0.025)'),
    ('VAE', 'blur', 'worse', 'no gain; late; 30 % of the samples not finite (vanilla 10 %, '
                             '+20.000 ± 0.000 points)')]


def test_nothing_recorded_is_no_table(tmp_path):
  assert page_failures.of_images(tmp_path) == ''
