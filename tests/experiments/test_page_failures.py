"""The table of failures on images: each sign where it shows, and nowhere else."""
import types

import pytest

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
  gaussian, blur = page_failures.rows(found, tmp_path)
  assert gaussian == ('vae', 'gaussian', 'frechet +0.0 ± 9.9 in net',
                      '<span class="worse">▼ recall -0.100 ± 0.025</span>', '', '')
  assert blur == ('vae', 'blur', '<span class="worse">▼ frechet +1.00 ± 0.25</span><br>'
                  'frechet +0.0 ± 9.9 in net', '', 'never', '30.00% (10.00%)')


def test_what_was_not_looked_at_is_said(tmp_path):
  [row] = page_failures.rows(_found({'vanilla': (5., 6.), 'gaussian': (4., 5.)}), tmp_path)
  assert row[4] == 'no curves recorded'
  assert page_failures.of_images(tmp_path) == ''


@pytest.mark.parametrize('ends, said', [
  ((-1.9,), ''), ((-5.,), '100%'), ((-1.9, -9.), '50%, never')])
def test_a_run_is_slow_that_is_late_or_never_there(tmp_path, ends, said):
  """Vanilla training ends with -5; an arm that ends with -1.9 is there at half of the updates."""
  for seed, end in enumerate(ends):
    recorded.run(tmp_path / 'vae', arm='vanilla', seed=seed, end=-5.)
    recorded.run(tmp_path / 'vae', arm='gaussian', seed=seed, end=end)
  assert page_failures._slow(tmp_path / 'vae', 'gaussian') == said
