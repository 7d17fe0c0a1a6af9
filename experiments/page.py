"""One self-contained page of all that was measured: no network, for light and dark windows.

Pictures of the method, the sections of all pages that hold measured blocks, and then what is too
much for these: how training on images fails, model by model, samples and curves. From committed
records alone.
"""
import html
import pathlib

from experiments import names, page_failures, page_gallery, page_style, page_text

METHOD, READING, LIMITS = 'The method', 'How to read the tables', 'Limits'


def build(pages, results):
  """The page, as text, of `pages` {path: Markdown} and the folder of the committed records."""
  sections = [(METHOD, page_text.pictures_of_the_method(pages)),
              (READING, page_text.section(pages, READING)),
              *page_text.measured_sections(pages), *_of_images(pathlib.Path(results) / 'images'),
              (LIMITS, page_text.section(pages, LIMITS))]
  sections = [(title, inside) for title, inside in sections if inside]
  links = '\n'.join(f'<li><a href="#{page_text.anchor(title)}">{html.escape(title)}</a></li>'
                    for title, _ in sections)
  body = '\n'.join(f'<section id="{page_text.anchor(title)}">\n<h2>{html.escape(title)}</h2>\n'
                   f'{inside}\n</section>' for title, inside in sections)
  return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
          f'<title>mollification: results</title>\n<style>{page_style.CSS}</style>\n</head>\n'
          '<body>\n<h1>Data mollification: what was measured</h1>\n'
          '<p>Likelihood-based generative models, trained with and without noise that is annealed '
          'to zero. Tables and charts are rendered from committed records. Differences '
          'marked ▲ are decidedly better than vanilla training, those marked ▼ worse.</p>\n'
          f'<nav><ul>\n{links}\n</ul></nav>\n{body}\n</body>\n</html>\n')


def _of_images(root):
  """(title, HTML) of how training fails, and of each data set of each scale."""
  yield 'Failures on images', page_failures.of_images(root)
  for folder in sorted(path for path in root.glob('*/*') if path.is_dir()):
    scale, dataset = folder.parts[-2:]
    yield (f'Samples and curves: {names.DATASETS.get(dataset, dataset)}, {scale} '
           'scale'), page_gallery.of_dataset(folder)
