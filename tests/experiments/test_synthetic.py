"""What `experiments.synthetic` says of its records."""
import numpy as np
import pytest

from experiments import figures, plane, synthetic, synthetic_figures
from tests.experiments import grid_records


@pytest.fixture
def root(tmp_path):
  """Two seeds: vanilla errors fall and rise, those of mollified training begin below 1."""
  for seed, by in enumerate((1., 100.)):
    for arm, curve in (('vanilla', [40., 5., 20.]), ('mollified', [.5, .9, 300.])):
      grid_records.write(
        tmp_path / 'eight_gaussians' / arm / str(seed), seed, test=[-3., -2., -1.],
        validation=[-3., -2., -1.], share_far=.1, mmd2=.1, score_error=.01,
        score_error_low=[v * (by if arm == 'vanilla' else 1.) for v in curve])
  return tmp_path


def test_errors_of_the_score_are_compared_by_their_log10(root):
  rows = {row.metric: row for row in synthetic.table(root)}
  assert set(rows) == {'log_likelihood', 'share_far', 'mmd2', 'log10_score_error',
                       'log10_score_error_low'}
  assert rows['log10_score_error'].mollified.mean == pytest.approx(-2.)
  assert rows['log10_score_error_low'].vanilla.mean == pytest.approx(2.3010, abs=1e-3)


def test_sentences_follow_the_error_over_training(root):
  said, = synthetic.sentences(root)
  every = 4   # of the config of tests.training.tiny
  assert said.startswith('eight_gaussians: squared error of the score where data are rare, median')
  assert 'Vanilla training has 2.02e+03 at the first look (from 40 to 4e+03 by seed)' in said
  assert f'252 at its lowest, after {2 * every:,} updates, and 1.01e+03 at the end' in said
  assert (f'stays below 1 for {2 * every:,} updates, with 0.5 at the first look, and ends at 300'
          in said)


def test_what_float16_cannot_hold_is_drawn_as_the_lowest_density():
  """White is the highest: what is infinite would be left out, and show the white behind it."""
  field = np.zeros(plane.FIELD ** 2, np.float16)
  field[0], field[1], field[2] = -np.inf, np.nan, 3.
  arrows = np.full((plane.ARROWS ** 2, 2), np.inf, np.float32)
  axis = figures.pyplot().figure().add_subplot()
  synthetic_figures._draw(axis, field, arrows)
  shown = np.ma.filled(axis.images[0].get_array().astype(np.float64), np.inf).ravel()
  assert shown[:3].tolist() == [-synthetic_figures.LOW, -synthetic_figures.LOW, 3.]
  assert np.isfinite(shown).all()
