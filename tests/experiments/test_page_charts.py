"""Charts of runs: what they say they show, that it can be seen, and that nothing is cut off."""
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib import text

from experiments import figures, image_cells, page_charts
from mollification.evaluation import features
from tests.experiments import recorded


@pytest.fixture
def model(tmp_path):
  for arm, end in (('vanilla', -5.), ('gaussian', -4.)):
    for seed in (0, 1):
      recorded.run(tmp_path / 'vae', arm=arm, seed=seed, end=end + seed,
                   steps=(80,) if seed else (40, 80))
  return tmp_path / 'vae'


ARMS = ['vanilla', 'gaussian']


def test_charts_take_the_colours_of_the_text(model):
  charts = list(page_charts.of_model(model, ARMS))
  assert len(charts) == 2
  for chart in charts:
    xml.etree.ElementTree.fromstring(chart)
    assert 'currentColor' in chart
    assert page_charts.INK not in chart
    assert figures.COLORS['gaussian'] in chart
  ids = [re.findall(r'\bid="([^"]+)"', chart) for chart in charts]
  assert not set(ids[0]) & set(ids[1])
  for chart, own in zip(charts, ids, strict=True):
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', chart)) <= set(own)
  assert charts == list(page_charts.of_model(model, ARMS))   # no ids or dates that change


def test_charts_say_what_they_are_of(model):
  """Nobody's features are Inception's but its own; a seed that was measured once is no curve."""
  scores, distances = page_charts.panels(model, ARMS)
  assert (scores.title, scores.note) == (
    'Clean validation log-likelihood, nats', 'mean of seeds 0, 1; band: one standard error')
  assert (distances.title, distances.note) == (
    'Fréchet distance, digits_cnn_8x8 features', 'seed 0; n = 20 samples')
  assert distances.curves == {arm: {'0': [(40, 25.), (80, 12.5)]} for arm in ARMS}
  assert scores.ends == distances.ends == (40,)
  folder = model.rename(model.with_name(image_cells.TWO_STEP))
  assert page_charts.panels(folder, ARMS)[0].title == (
    'Clean validation log-likelihood of latents, nats')
  assert page_charts.panels(folder, ['vanilla'])[0].ends == ()


def test_distances_in_other_features_have_a_chart_of_their_own(tmp_path):
  """Patches have no network of their own; without several updates there is nothing to show."""
  recorded.run(tmp_path / 'one', arm='vanilla', seed=0, steps=(80,))
  assert [panel.title for panel in page_charts.panels(tmp_path / 'one', ARMS)] == [
    'Clean validation log-likelihood, nats']
  recorded.run(tmp_path / 'two', arm='vanilla', seed=0, net=image_cells.EFFICIENTNET)
  assert [panel.title for panel in page_charts.panels(tmp_path / 'two', ARMS)][1:] == [
    'Fréchet distance, efficientnet_lite0_96 features']


def test_a_chart_is_of_the_updates_that_all_seeds_have(model):
  curve = model / 'vanilla' / '1' / 'curve.jsonl'
  curve.write_text(curve.read_text().splitlines()[1] + '\n')   # of update 80 alone
  (model / 'gaussian' / '1' / 'curve.jsonl').write_text('')
  panel = page_charts.panels(model, ARMS)[0]
  assert panel.curves == {'vanilla': {'0': [(40, -8.), (80, -5.)], '1': [(80, -4.)]},
                          'gaussian': {'0': [(40, -7.), (80, -4.)]}}
  [ax] = page_charts.draw(panel).axes
  drawn = {line.get_label(): line.get_xdata() for line in ax.lines}
  np.testing.assert_array_equal(drawn['vanilla'], [80])
  np.testing.assert_array_equal(drawn['gaussian'], [40, 80])
  np.testing.assert_array_equal(drawn['level 0 from here'], [40, 40])


@pytest.mark.parametrize('values', [(-4600., -4354., -4328., -4323., -4320.),
                                    (-9e5, -4001., -4000.5, np.nan, -4000.)])
def test_curves_fill_the_axis_wherever_they_lie(values):
  """A margin in shares of -4,000 nats would be 400 nats of nothing."""
  curve = list(zip(range(1, 6), values))
  better = [(x, y + 2) for x, y in curve]
  panel = page_charts.Panel('a', {'vanilla': {'0': curve}, 'gaussian': {'0': better}}, (),
                            clip=True)
  [ax] = page_charts.draw(panel).axes
  low, high = ax.get_ylim()
  shown = np.array([y for _, y in curve + better if low <= y <= high])
  assert len(shown) >= 6
  assert shown.max() - shown.min() > .5 * (high - low)
  assert low < shown.min() < shown.max() < high


def test_a_flat_curve_has_an_axis():
  panel = page_charts.Panel('a', {'vanilla': {'0': [(1, 2.), (2, 2.)]}}, (), clip=True)
  low, high = page_charts.draw(panel).axes[0].get_ylim()
  assert low < 2. < high


LONGEST = max((*features.DATASETS.values(), image_cells.EFFICIENTNET), key=len)


@pytest.mark.parametrize('title', [
  f'Fréchet distance, {LONGEST} features', 'Clean validation log-likelihood of latents, nats'])
def test_no_words_leave_the_chart(title):
  """At the width of the letters of DejaVu Sans, which few fonts exceed."""
  arms = {arm: {str(seed): [(1_000, -16_000.123), (8_000, -15_000.)] for seed in range(3)}
          for arm in image_cells.ARMS}
  figure = page_charts.draw(page_charts.Panel(title, arms, (4_000,), 10_000))
  figure.draw_without_rendering()
  box, [ax] = figure.bbox, figure.axes
  ticks = {label for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()}
  words = [word for word in figure.findobj(text.Text) if word.get_text() and word not in ticks]
  words += [*ax.get_xticklabels()[1:-1], *ax.get_yticklabels()[1:-1]]   # those inside the axes
  assert title in {word.get_text() for word in words}
  for word in words:
    extent = word.get_window_extent()
    assert box.x0 <= extent.x0 < extent.x1 <= box.x1, word.get_text()
    assert box.y0 <= extent.y0 < extent.y1 <= box.y1, word.get_text()
