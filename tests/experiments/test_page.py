"""The page of all results: whole, from records, and in need of no network."""
import html
import json
import re
import types
import xml.etree.ElementTree

import numpy as np
import pytest

from experiments import (
  fig_fid_over_training,
  fig_intermediate_samples,
  fig_method,
  figures,
  page,
  page_charts,
  report,
)
from mollification.evaluation import records, sampling

README = report.README.read_text()


def _run(place, *, arm, seed, end):
  """The committed files of a run with two evaluations."""
  folder = place / 'vae' / arm / str(seed)
  (folder / 'records').mkdir(parents=True)
  (folder / 'curve.jsonl').write_text(''.join(json.dumps(
    {'step': step, 'train/level': 0., 'valid/log_likelihood': score}) + '\n'
    for step, score in ((40, end - 3), (80, end))))
  for step in (40, 80):
    records.write(records.Record(
      metric='frechet', value=1000. / step, standard_error=None, n=20, unit='1', params='raw',
      reference={'dataset': 'digits', 'split': 'test', 'n': 360, 'sha256': 'a'}, step=step,
      features={'net': 'digits_cnn_8x8', 'sha256': 'b', 'input_mode': 'uint8',
                'quantisation': 'floor'}, seed=seed, config_sha256='c', seconds=1.),
      folder / 'records')
    image = np.full((72, 72, 1), step, np.uint8)
    sampling.save_png(folder / 'samples' / f'measured-raw-{step:08d}.png', image)


@pytest.fixture
def runs(tmp_path):
  for arm, end in (('vanilla', -5.), ('gaussian', -4.)):
    for seed in (0, 1):
      _run(tmp_path / 'images' / 'digits' / 'digits', arm=arm, seed=seed, end=end + seed)
  return tmp_path


def test_the_page_has_every_measured_section_and_needs_no_network(runs):
  text = page.build(README, runs)
  titles = re.findall(r'^## (.*)$', README, re.M)
  measured = [title for title in titles if report.BLOCKS and re.search(
    rf'^## {re.escape(title)}\n(?:(?!^## ).*\n)*?<!-- ', README, re.M)]
  assert len(measured) >= 8
  for title in (*measured, 'Samples and curves: digits, digits scale'):
    assert f'<h2>{html.escape(title)}</h2>' in text
    assert f'href="#{page._anchor(title)}"' in text
  assert {value[:5] for value in re.findall(r'(?:src|srcset|data|poster)="([^"]*)"', text)} == {
    'data:'}
  assert all(link.startswith(('#', 'https://')) for link in re.findall(r'href="([^"]*)"', text))
  assert not re.search(r'<(script|link|iframe)|url\((?!#)|@import', text)
  assert '<!-- ' not in text.replace('<!doctype', '')
  assert '| --- |' not in text
  assert '~~' not in text


def test_pictures_are_inside_and_the_last_samples_of_each_arm_side_by_side(runs):
  text = page.build(README, runs)
  shown = re.findall(r'!\[(.*?)\]\((.*?)\)', README)
  gallery = text[text.index('Samples and curves: digits, digits scale</h2>'):]
  assert gallery.count('<figure><img alt="vanilla"') == gallery.count('alt="gaussian"') == 1
  of_sections = sum('results/' in path and 'method' not in path for _, path in shown)
  assert text.count('data:image/png;base64,') == 2 + of_sections


def test_charts_take_the_colours_of_the_text(runs):
  charts = list(page_charts.of_model(runs / 'images/digits/digits/vae', ['vanilla', 'gaussian']))
  assert len(charts) == 2
  for chart in charts:
    xml.etree.ElementTree.fromstring(chart)
    assert 'currentColor' in chart
    assert page_charts.INK not in chart
    assert figures.COLORS['gaussian'] in chart
  assert page.build(README, runs) == page.build(README, runs)   # no ids or dates that change


def test_charts_are_of_the_updates_that_all_seeds_have(runs):
  folder = runs / 'images/digits/digits/vae'
  curve = folder / 'vanilla' / '1' / 'curve.jsonl'
  curve.write_text(curve.read_text().splitlines()[1] + '\n')   # of update 80 alone
  (folder / 'gaussian' / '1' / 'curve.jsonl').write_text('')
  seen = []
  chart = page_charts._chart
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(page_charts, '_chart', lambda found, label, clip: (
      seen.append((found, label)), chart(found, label, clip))[1])
    folder = folder.rename(folder.with_name(page_charts.TWO_STEP))
    list(page_charts.of_model(folder, ['vanilla', 'gaussian']))
  assert seen[0] == ({'vanilla': [[(40, -8.), (80, -5.)], [(80, -4.)]],
                      'gaussian': [[(40, -7.), (80, -4.)]]},
                     'clean validation log-likelihood of latents (nats)')


@pytest.mark.parametrize('html', [False, True])
def test_either_the_page_or_the_readme_is_written(html, runs, tmp_path, monkeypatch):
  readme, target = tmp_path / 'README.md', tmp_path / 'pages' / 'page.html'
  readme.write_text('## A\n\n<!-- bench -->\nold\n<!-- /bench -->\n')
  monkeypatch.setattr(report, 'README', readme)
  monkeypatch.setattr(report, 'RESULTS', runs)
  monkeypatch.setattr(report, 'BLOCKS', {'bench': lambda: 'new'})
  for flag, value in (('_CHECK', False), ('_FIGURES', ''), ('_HTML', html and str(target))):
    monkeypatch.setattr(report, flag, types.SimpleNamespace(value=value))
  report.main([])
  assert ('new' in readme.read_text(), target.exists()) == (not html, html)
  assert not html or '<p>new</p>' in target.read_text()


def test_figures_over_training(runs, tmp_path):
  folder = runs / 'images' / 'digits' / 'digits'
  assert fig_fid_over_training.of_model(folder / 'vae') == {
    arm: [(40, 25.), (80, 12.5)] for arm in ('vanilla', 'gaussian')}
  assert fig_fid_over_training.draw(folder, tmp_path / 'a.png').stat().st_size > 1_000
  assert list(fig_intermediate_samples.pictures(folder / 'vae/vanilla/0/samples')) == [40, 80]
  assert fig_intermediate_samples.draw(folder / 'vae', tmp_path / 'b.png').stat().st_size > 1_000
  for draw in (fig_fid_over_training.draw, fig_intermediate_samples.draw):
    assert draw(tmp_path / 'none', tmp_path / 'c.png') is None
  assert not (tmp_path / 'c.png').exists()


def test_the_figure_of_the_mollifiers_ends_with_the_image_itself():
  image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
  for name, images in fig_method.smoothed(image).items():
    assert images.shape == (len(fig_method.SHARES), 8, 8, 3)
    np.testing.assert_array_equal(images[-1], np.asarray(image, np.float32) / 127.5 - 1)
    error = np.abs(images - images[-1]).mean((1, 2, 3))
    assert error[0] > error[3] > error[-2] > 0, name
