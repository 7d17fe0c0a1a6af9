"""The page of all results: whole, from records, and in need of no network."""
import html
import json
import pathlib
import re
import types

import numpy as np
import pytest

from experiments import fig_method, page, page_text, report
from mollification.evaluation import sampling
from tests.experiments import recorded

PAGES = {path: path.read_text() for path in report.PAGES}
GALLERY = 'Samples and curves: digits, digits scale'


@pytest.fixture
def runs(tmp_path):
  for arm, end in (('vanilla', -5.), ('gaussian', -6.)):
    for seed in (0, 1):
      recorded.run(tmp_path / 'images/digits/digits/vae', arm=arm, seed=seed, end=end + seed,
                   nonfinite=5 * (arm == 'gaussian'))
  return tmp_path


def test_the_page_has_every_measured_section_and_needs_no_network(runs):
  text = page.build(PAGES, runs)
  titles = [(found, title) for found in PAGES.values()
            for title in re.findall(r'(?:\A#|^##) (.*)$', found, re.M)]
  measured = [title for found, title in titles if re.search(
    rf'(?:\A#|^##) {re.escape(title)}\n(?:(?!^## ).*\n)*?<!-- ', found, re.M)]
  assert len(measured) >= 13
  for title in (page.METHOD, page.READING, page.LIMITS, *measured, 'Failures on images', GALLERY):
    assert f'<h2>{html.escape(title)}</h2>' in text
    assert f'href="#{page_text.anchor(title)}"' in text
  assert {value[:5] for value in re.findall(r'(?:src|srcset|data|poster)="([^"]*)"', text)} == {
    'data:'}
  assert all(link.startswith(('#', 'https://')) for link in re.findall(r'href="([^"]*)"', text))
  assert not re.search(r'<(script|link|iframe)|url\((?!#)|@import', text)
  assert '<!-- ' not in text.replace('<!doctype', '')
  assert '| --- |' not in text
  assert '~~' not in text
  assert '<del>' not in text
  assert text == page.build(PAGES, runs)


def test_all_pictures_of_measured_sections_and_of_the_method_are_inside(runs):
  text = page.build(PAGES, runs)
  shown = {path.parent / target for path, found in PAGES.items()
           for target in re.findall(r'!\[.*?\]\((.*?)\)', found)}
  assert len([path for path in shown if 'method' in path.parts]) == 2
  assert text.count('data:image/png;base64,') == 2 + len(shown)   # and the samples of two arms


def test_a_gallery_says_what_it_shows(runs):
  """The last samples of the first seed, an arm at a time; where there are some, nearest images."""
  folder = runs / 'images/digits/digits/vae'
  gallery = page.build(PAGES, runs)
  gallery = gallery[gallery.index(f'{GALLERY}</h2>'):]
  for words in ('same key', 'band of one standard error', 'reaches 0'):
    assert words in gallery
  assert '2 seeds of vanilla, gaussian; 80 updates; level 0 from update 40 on.' in gallery
  mollified = 'VAE on digits, gaussian, seed 0, 80 updates; 5 of 20 samples are not finite'
  assert re.findall('<figcaption>(.*?)</figcaption>', gallery) == [
    'VAE on digits, vanilla, seed 0, 80 updates', mollified]
  assert 'Nearest to training images' not in gallery
  assert gallery.count('<svg') == 2
  sampling.save_png(folder / 'vanilla/0/samples/nearest-raw-00000080.png',
                    np.zeros((2, 2, 1), np.uint8))
  gallery = page.build(PAGES, runs)
  gallery = gallery[gallery.index(f'{GALLERY}</h2>'):]
  captions = re.findall('<figcaption>(.*?)</figcaption>', gallery)
  assert captions == ['VAE on digits, vanilla, seed 0, 80 updates', mollified,
                      'Nearest to training images: VAE on digits, vanilla, seed 0, 80 updates']
  assert gallery.index('Nearest to training images') > gallery.index(captions[1])


def test_verdicts_are_marks_and_not_lines_through_a_sign():
  text = page_text.as_html(
    '**better** and ~~worse~~ but **bold**\n\n| model | arm | a |\n| --- | --- | --- |\n'
    '| vae | blur, **+1** | **+56** |\n| | noise | ~~-56~~ |\n', pathlib.Path())
  assert '<span class="better">▲ better</span> and <span class="worse">▼ worse</span>' in text
  assert '<strong>bold</strong>' in text
  assert '<td>blur, <span class="better">▲ +1</span></td>' in text
  assert '<td><span class="better">▲ +56</span></td>' in text
  assert '<td><span class="worse">▼ -56</span></td>' in text
  assert '<div class="table arms-table"><table>' in text
  other = page_text.as_html('| a | b |\n| --- | --- |\n| 1 | 2 |\n', pathlib.Path())
  assert '<div class="table"><table>' in other


def test_links_to_other_files_and_sections_are_words():
  """Also where the words of a link stand on two lines."""
  text = page_text.as_html('see [the\nguide](../x.md) and [a](#b), [c](https://d)\n',
                           pathlib.Path())
  assert re.findall('href="(.*?)"', text) == ['https://d']
  assert 'the\nguide and a' in text


def test_sentences_in_cells_may_break_and_figures_may_not():
  assert page_text.cell('a ' * 20).startswith('<td class="long">')
  marked = '<span class="better">▲ +0.0177 ± 0.0027</span>'
  assert page_text.cell(marked) == f'<td>{marked}</td>'


def _report(monkeypatch, pages, results, **flags):
  """Run the command on `pages`, of which each has the block `bench`, of the text 'new'."""
  monkeypatch.setattr(report, 'ROOT', pages[0].parent)
  monkeypatch.setattr(report, 'PAGES', pages)
  monkeypatch.setattr(report, 'RESULTS', results)
  monkeypatch.setattr(report, 'BLOCKS', {'bench': lambda: 'new'})
  for flag in ('_CHECK', '_FIGURES', '_HTML', '_RUNS'):
    monkeypatch.setattr(report, flag, types.SimpleNamespace(value=flags.get(flag, '')))
  report.main([])


@pytest.mark.parametrize('html', [False, True])
def test_either_the_page_or_the_readmes_are_written(html, runs, tmp_path, monkeypatch):
  readme, target = tmp_path / 'README.md', tmp_path / 'pages' / 'page.html'
  readme.write_text('# A\n\n<!-- bench -->\nold\n<!-- /bench -->\n')
  _report(monkeypatch, [readme], runs, _HTML=html and str(target))
  assert ('new' in readme.read_text(), target.exists()) == (not html, html)
  assert not html or '<p>new</p>' in target.read_text()


@pytest.mark.parametrize('text, status', [('old', 'b.md: not what the records say; python -m '
                                                  'experiments.report'), ('new', 0)])
def test_a_check_names_the_page_that_differs_and_writes_none(text, status, tmp_path, monkeypatch):
  pages = [tmp_path / name for name in ('a.md', 'b.md')]
  for page_, inside in zip(pages, ('new', text)):
    page_.write_text(f'# A\n\n<!-- bench -->\n{inside}\n<!-- /bench -->\n')
  with pytest.raises(SystemExit) as left:
    _report(monkeypatch, pages, tmp_path, _CHECK=True)
  assert left.value.code == status
  assert text in pages[1].read_text()


def test_a_check_with_a_page_to_write_is_refused(tmp_path, monkeypatch, capsys):
  with pytest.raises(SystemExit) as left:
    _report(monkeypatch, [tmp_path / 'a.md'], tmp_path, _CHECK=True, _HTML='x.html')
  assert left.value.code == 2
  assert '--check writes nothing; leave --figures and --html out' in capsys.readouterr().err


def test_a_page_of_runs_of_ones_own(runs, tmp_path, monkeypatch):
  """A workdir has metrics.jsonl in place of curves, and more than runs of tables."""
  for path in runs.rglob('curve.jsonl'):
    path.rename(path.with_name('metrics.jsonl'))
  recorded.run(tmp_path / 'images/smoke/digits/digits/vae', arm='blur', seed=0)
  begun = runs / 'images/digits/digits/vae/gaussian/2'
  begun.mkdir()
  (begun / 'config.json').write_text(json.dumps(recorded.config('gaussian')))
  (begun / 'metrics.jsonl').write_text('{"step": 40, "valid/log_likelihood": -9}\n')
  target = tmp_path / 'page.html'
  readme = tmp_path / 'README.md'
  readme.write_text(f'# A\n\n<!-- bench -->\nold\n<!-- /bench -->\n\n## {page.READING}\n\nSo.\n')
  _report(monkeypatch, [readme], runs, _HTML=str(target), _RUNS=str(runs / 'images'))
  text = target.read_text()
  assert re.findall('<h2>(.*?)</h2>', text) == [
    page.READING, 'table1: digits, digits scale', 'Failures on images', GALLERY]
  assert '<p>So.</p>' in text
  assert text.count('<svg') == 2
  assert text.count('data:image/png;base64,') == 2
  assert 'old' in readme.read_text()
  # (The third mollified seed has only begun.)
  assert '2 seeds of vanilla, gaussian; 80 updates' in text
  table = text[text.index('<h2>table1'):text.index('<h2>Failures')]
  assert '<td>gaussian</td>' in table
  assert '>blur<' not in table


def test_a_page_of_vanilla_runs_alone_says_that_there_is_nothing_to_compare(tmp_path):
  for seed in (0, 1):
    recorded.run(tmp_path / 'digits/digits/vae', arm='vanilla', seed=seed)
  text = page.of_runs({}, tmp_path)
  assert 'No arm but vanilla training is measured yet' in text
  assert 'One seed an arm' not in text
  assert '<table' not in text
  assert text.count('<svg') == 2


def test_a_page_of_no_runs_says_what_makes_some(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'has no measured run .*table1 --workdir='):
    page.of_runs({}, tmp_path)


def test_runs_without_a_page_to_go_to_are_refused(tmp_path, monkeypatch, capsys):
  for others in ({}, {'_HTML': 'a.html', '_FIGURES': 'figures'}):
    with pytest.raises(SystemExit) as left:
      _report(monkeypatch, [tmp_path / 'a.md'], tmp_path, _RUNS='runs/images', **others)
    assert left.value.code == 2
    assert '--runs=runs/images becomes a page alone; give --html=FILE' in capsys.readouterr().err


def test_the_figure_of_the_mollifiers_ends_with_the_image_itself():
  image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
  for name, images in fig_method.smoothed(image).items():
    assert images.shape == (len(fig_method.SHARES), 8, 8, 3)
    np.testing.assert_array_equal(images[-1], np.asarray(image, np.float32) / 127.5 - 1)
    error = np.abs(images - images[-1]).mean((1, 2, 3))
    assert error[0] > error[3] > error[-2] > 0, name
