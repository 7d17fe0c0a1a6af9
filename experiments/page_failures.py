"""Where mollified training fails on images, a line per model and arm, from the records alone."""
import html

from experiments import image_cells, image_table, image_verdicts, names, page_text

WORDS = ('Signs of failure, by model and arm; how to read the tables, above, says what each means. '
         'The curves below have a mark for each look at clean validation data.')
SHOWN = ('model', 'arm', 'verdict', 'signs')


def of_images(root):
  """HTML of a table per data set of Table 1 that has records in `root`/SCALE; '' for none."""
  tables = [f'<h3>{html.escape(names.DATASETS.get(dataset, dataset))}</h3>\n'
            f'{_table(found, root / scale / dataset)}'
            for scale in image_cells.TABLES['table1']
            for dataset, found in image_table.read(root, 'table1', scale).items()
            if any(cell.arm != 'vanilla' for cell, _ in found)]
  return f'<p>{html.escape(WORDS)}</p>\n' + '\n'.join(tables) if tables else ''


def _table(found, folder):
  header, *body = rows(found, folder)
  head = ''.join(f'<th>{name}</th>' for name in header)
  lines = '\n'.join(f'<tr>{"".join(page_text.cell(html.escape(text)) for text in line)}</tr>'
                    for line in body)
  return (f'<div class="table arms-table"><table>\n<thead><tr>{head}</tr></thead>\n'
          f'<tbody>\n{lines}\n</tbody></table></div>')


def rows(found, folder):
  """Of the verdicts on `found` [(Cell, Record)] the columns `SHOWN`, the header first."""
  header, _, *lines = image_verdicts.lines(
    found, image_table.rows([cell for cell, _ in found]), folder)
  shown = [header.index(name) for name in SHOWN]
  return [tuple(line[i] for i in shown) for line in (header, *lines)]
