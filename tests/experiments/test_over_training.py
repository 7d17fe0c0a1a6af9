"""Figures over the updates of recorded runs: what they say, and that their axes can be read."""
import numpy as np
import pytest

from experiments import (
  fig_fid_over_training,
  fig_intermediate_samples,
  figures,
  image_cells,
  over_training,
)
from mollification.evaluation import records
from tests.experiments import recorded


@pytest.fixture
def folder(tmp_path):
  for arm in ('vanilla', 'gaussian'):
    recorded.run(tmp_path / 'digits' / 'vae', arm=arm, seed=0)
  return tmp_path / 'digits'


def test_distances_are_told_apart_by_features_and_samples(folder):
  place = folder / 'vae' / 'gaussian' / '0'
  for step in (40, 80):
    records.write(recorded.record(image_cells.EFFICIENTNET, step, 0), place / 'records')
  records.write(recorded.record('another', 80, 0), place / 'records')   # of one update: no curve
  own, other = over_training.distances(place)
  assert (own.title, own.n) == ('Fréchet distance, digits_cnn_8x8 features', 20)
  assert other.title == 'Fréchet distance, efficientnet_lite0_96 features'
  assert over_training.distances(place)[own] == [(40, 25.), (80, 12.5)]
  assert over_training.Distance(False, 'fid', 'inception_pytorch', 9).title == (
    'FID, inception_pytorch features')


def test_noise_ends_where_the_config_says(folder):
  assert [over_training.end_of_noise(folder / 'vae' / arm / '0')
          for arm in ('vanilla', 'gaussian', 'none')] == [0, 40, 0]


def test_figures_say_of_what_and_where_noise_ends(folder, tmp_path, monkeypatch):
  drawn = []
  plt = figures.pyplot()
  monkeypatch.setattr(plt, 'close', drawn.append)
  distance, curves = fig_fid_over_training.of_dataset(folder)
  assert distance.net == recorded.NET
  assert curves == {'vae': {arm: [(40, 25.), (80, 12.5)] for arm in ('vanilla', 'gaussian')}}
  assert fig_fid_over_training.draw(folder, tmp_path / 'a.png').stat().st_size > 1_000
  assert list(fig_intermediate_samples.pictures(folder / 'vae/vanilla/0/samples')) == [40, 80]
  assert fig_intermediate_samples.draw(folder / 'vae', tmp_path / 'b.png').stat().st_size > 1_000
  over, samples = drawn
  assert over._suptitle.get_text() == (
    'digits: Fréchet distance, digits_cnn_8x8 features (log scale)\nseed 0, n = 20 samples')
  assert [text.get_text() for text in over.legends[0].get_texts()] == [
    'vanilla', 'gaussian', 'level 0 from here']
  np.testing.assert_array_equal(over.axes[0].lines[-1].get_xdata(), [40, 40])
  assert samples._suptitle.get_text() == 'digits, VAE: seed 0, from the same keys throughout'
  assert [ax.get_title() for ax in samples.axes] == ['40 updates', '80 updates'] * 2


def test_there_is_no_figure_of_nothing(tmp_path):
  for draw in (fig_fid_over_training.draw, fig_intermediate_samples.draw):
    assert draw(tmp_path / 'none', tmp_path / 'c.png') is None
  assert not (tmp_path / 'c.png').exists()


@pytest.mark.parametrize('low, high', [(3.6, 10), (6.3, 16), (7.2, 12.2), (11, 19), (5, 400),
                                       (.0031, .0088)])
def test_a_logarithmic_axis_has_ticks_below_and_above_a_power_of_ten(low, high):
  _, ax = figures.pyplot().subplots()
  ax.set(yscale='log', ylim=(low, high))
  figures.log_ticks(ax)
  ticks = ax.get_yticks()
  assert 3 <= len(ticks) <= 8
  assert ax.get_ylim() == (low, high)
  assert low <= ticks[0] < low * (high / low) ** .4
  assert high >= ticks[-1] > high / (high / low) ** .4
  assert [float(label.get_text()) for label in ax.get_yticklabels()] == pytest.approx(list(ticks))


def test_looks_are_counted_by_whether_the_level_was_above_0(folder, monkeypatch):
  """Of the run whose noise ends at 40, and of a model without vanilla training nothing."""
  vanilla = [(20, 3.), (40, 2.), (60, 2.), (80, 1.)]
  gaussian = [(20, 2.), (30, 0.), (40, 3.), (60, 1.), (80, .5)]
  monkeypatch.setattr(fig_fid_over_training, 'of_dataset', lambda folder: (None, {
    'vae': {'vanilla': vanilla, 'gaussian': gaussian}, 'glow': {'gaussian': gaussian}}))
  said = fig_fid_over_training.sentence(folder)
  assert said.endswith('in 1 of 1 looks, and once it is 0 in 2 of 3.')
