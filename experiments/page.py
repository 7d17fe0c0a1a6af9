"""One self-contained page of all that was measured: no network, for light and dark windows.

The sections of README.md that hold measured blocks, with their pictures inside, and then what is
too much for a README: of every model on images the samples of the arms side by side, drawn from the
same keys, and its curves. From committed records alone.
"""
import base64
import html
import pathlib
import re

from experiments import image_cells, page_charts

BLOCK = re.compile(r'<!-- /?[\w ]+ -->')

STYLE = """
:root { color-scheme: light dark; --back: #fcfcfa; --ink: #1d1d1b; --soft: #6b6b66;
  --line: #deded8; --card: #ffffff; --link: #2c5d8f; }
@media (prefers-color-scheme: dark) {
  :root { --back: #161715; --ink: #e6e5e0; --soft: #9d9c95; --line: #34352f; --card: #1e1f1c;
    --link: #8db8e2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 5rem; max-width: 76rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h2 { margin-top: 3.2rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { columns: 3 14rem; padding: 0; list-style: none; }
code { font-size: .88em; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
.table { overflow-x: auto; width: fit-content; max-width: 100%; margin: 1rem 0;
  border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .7rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td.long { white-space: normal; min-width: 16rem; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; }
del { color: var(--soft); }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; border-radius: 6px; }
figcaption { color: var(--soft); font-size: .85rem; }
.arms { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.arms figure { margin: 0; }
.arms img { width: 100%; max-width: 22rem; image-rendering: pixelated; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; margin: 1rem 0; }
.charts svg { max-width: 100%; height: auto; }
"""


def build(readme, results):
  """The page, as text, of README.md and the folder of the committed records."""
  root = pathlib.Path(results)
  sections = [*_measured_sections(readme), *_galleries(root / 'images')]
  links = '\n'.join(f'<li><a href="#{_anchor(title)}">{html.escape(title)}</a></li>'
                    for title, _ in sections)
  body = '\n'.join(f'<section id="{_anchor(title)}">\n<h2>{html.escape(title)}</h2>\n{inside}\n'
                   '</section>' for title, inside in sections)
  return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
          f'<title>mollification: results</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
          '<h1>Data mollification: what was measured</h1>\n'
          '<p>Likelihood-based generative models, trained with and without noise that is annealed '
          'to zero. Every figure here is rendered from a committed record.</p>\n'
          f'<nav><ul>\n{links}\n</ul></nav>\n{body}\n</body>\n</html>\n')


def _anchor(title):
  return re.sub(r'\W+', '-', title.lower()).strip('-')


def _measured_sections(readme):
  """(title, HTML) of each section of the README that has a measured block."""
  for part in re.split(r'^## ', readme, flags=re.M)[1:]:
    title, _, text = part.partition('\n')
    if BLOCK.search(text):
      yield title, _as_html(BLOCK.sub('', text))


def _as_html(text):
  import markdown
  text = re.sub(r'~~(.+?)~~', r'<del>\1</del>', text)
  found = markdown.markdown(text, extensions=['tables', 'fenced_code', 'sane_lists'])
  # Sentences may break over lines, numbers may not.
  found = re.sub(r'<td>(?=(?:(?!</td>).){40})', '<td class="long">', found)
  found = found.replace('<table>', '<div class="table"><table>').replace(
    '</table>', '</table></div>')
  found = re.sub(r'<a href="#[^"]*">(.*?)</a>', r'\1', found)   # to sections that may not be here
  return re.sub(r'<p><img alt="([^"]*)" src="([^"]*)" ?/?></p>', _embedded, found)


def _embedded(match):
  root = pathlib.Path(__file__).parents[1]
  return _figure(root / html.unescape(match[2]), html.unescape(match[1]))


def _figure(path, caption):
  data = base64.b64encode(path.read_bytes()).decode()
  return (f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
          f'<figcaption>{html.escape(caption)}</figcaption></figure>')


def _galleries(root):
  """(title, HTML) of each data set of each scale: samples and curves, model by model."""
  for folder in sorted(path for path in root.glob('*/*') if path.is_dir()):
    scale, dataset = folder.parts[-2:]
    models = [(model.name, inside) for model in sorted(folder.glob('*'))
              if (inside := _of_model(model))]
    if models:
      yield f'Samples and curves: {dataset}, {scale} scale', '\n'.join(
        f'<h3>{html.escape(name)}</h3>\n{inside}' for name, inside in models)


def _of_model(folder):
  """Samples of each arm from the first seed, and curves of all seeds; '' where there are none."""
  arms = [arm for arm in image_cells.ARMS if (folder / arm).is_dir()]
  last = {arm: sorted((folder / arm / '0' / 'samples').glob('*.png'))[-1:] for arm in arms}
  grids = ''.join(_figure(path, arm) for arm, paths in last.items() for path in paths)
  charts = ''.join(page_charts.of_model(folder, arms))
  return (f'<div class="arms">{grids}</div>\n' if grids else '') + (
    f'<div class="charts">{charts}</div>' if charts else '')
