"""One self-contained page of what was measured: no network, for light and dark windows.

Of all that is committed (`build`): pictures of the method, the sections of all pages that hold
measured blocks, and then what is too much for these: how training on images fails, model by model,
samples and curves. Of runs of one's own (`of_runs`): the tables of images, and these same.
"""
import html
import pathlib

from experiments import (
  image_cells,
  image_table,
  names,
  page_failures,
  page_gallery,
  page_style,
  page_text,
  table_two_step,
)

METHOD, READING, LIMITS = 'The method', 'How to read the tables', 'Limits'


def build(pages, results):
  """The page, as text, of `pages` {path: Markdown} and the folder of the committed records."""
  return _document(
    'Data mollification: what was measured',
    'Likelihood-based generative models, trained with and without noise that is annealed to zero. '
    'Tables and charts are rendered from committed records.',
    [(METHOD, page_text.pictures_of_the_method(pages)),
     (READING, page_text.section(pages, READING)),
     *page_text.measured_sections(pages), *_of_images(pathlib.Path(results) / 'images'),
     (LIMITS, page_text.section(pages, LIMITS))])


def of_runs(pages, root):
  """The page, as text, of one's own runs: what tables of images have in the workdir `root`.

  `pages` {path: Markdown} say how tables are read. Raises FileNotFoundError where nothing in `root`
  was measured.
  """
  root = pathlib.Path(root)
  tables = list(_tables(root))
  if not tables:
    raise FileNotFoundError(
      f'{root} has no measured run of a table of images; python -m experiments.table1 '
      f'--workdir={root} trains and measures some.')
  return _document(
    f'Data mollification: the runs in {root.resolve().name}',
    'Likelihood-based generative models, trained with and without noise that is annealed to zero. '
    'Tables and charts are of runs that are finished, by what is measured of them so far.',
    [(READING, page_text.section(pages, READING)), *tables, *_of_images(root)])


def _tables(root):
  """(title, HTML) of each table of each data set that has a run no table before has shown."""
  shown = set()
  for table, scales in image_cells.TABLES.items():
    for scale in scales:
      for dataset, found in image_table.read(root, table, scale).items():
        runs = {(scale, dataset, cell.model, cell.arm) for cell, _ in found}
        if not runs <= shown:
          yield (f'{table}: {names.DATASETS[dataset]}, {scale} scale', page_text.as_html(
            image_table.markdown(found, root / scale / dataset), root))
        shown |= runs
  for scale in image_cells.TABLES['table1']:
    if text := table_two_step.markdown(root, scale):
      yield f'table_two_step: {scale} scale', page_text.as_html(text, root)


def _document(title, words, sections):
  """The page, as text, of its title, what it says under it, and its sections (title, HTML)."""
  sections = [(name, inside) for name, inside in sections if inside]
  links = '\n'.join(f'<li><a href="#{page_text.anchor(name)}">{html.escape(name)}</a></li>'
                    for name, _ in sections)
  body = '\n'.join(f'<section id="{page_text.anchor(name)}">\n<h2>{html.escape(name)}</h2>\n'
                   f'{inside}\n</section>' for name, inside in sections)
  return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
          f'<title>{html.escape(title)}</title>\n<style>{page_style.CSS}</style>\n</head>\n'
          f'<body>\n<h1>{html.escape(title)}</h1>\n<p>{html.escape(words)} Differences '
          'marked ▲ are decidedly better than vanilla training, those marked ▼ worse.</p>\n'
          f'<nav><ul>\n{links}\n</ul></nav>\n{body}\n</body>\n</html>\n')


def _of_images(root):
  """(title, HTML) of how training fails, and of each data set of each scale."""
  yield 'Failures on images', page_failures.of_images(root)
  for folder in sorted(path for scale in image_cells.TABLES['table1']
                       for path in (root / scale).glob('*') if path.is_dir()):
    scale, dataset = folder.parts[-2:]
    yield (f'Samples and curves: {names.DATASETS.get(dataset, dataset)}, {scale} '
           'scale'), page_gallery.of_dataset(folder)
