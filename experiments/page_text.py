"""Sections of Markdown as HTML: pictures inside, tables that scroll, verdicts that are marked."""
import base64
import html
import re

FIGURES_OF_THE_METHOD = 'results/method/'   # no block stands beside these
BLOCK = re.compile(r'<!-- /?[\w ]+ -->')
PICTURE = re.compile(r'!\[([^\]]*)\]\(([^)]*)\)')
# What Markdown can only make bold or strike out: a line through a figure runs through its sign.
_BETTER, _WORSE = '<span class="better">▲ {}</span>', '<span class="worse">▼ {}</span>'
LONG = 40   # characters of a sentence
ARMS = ('<th>model</th>', '<th>arm</th>')   # the columns that name the rows


def anchor(title):
  """What a heading is called in links to it, by GitHub's rule."""
  return re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')


def measured_sections(pages):
  """(title, HTML) of each section that has a measured block, of `pages` {path: Markdown}."""
  for path, text in pages.items():
    for title, inside in _sections(text):
      if BLOCK.search(inside):
        yield title, as_html(inside, path.parent)


def section(pages, title):
  """HTML of the section of that title, '' where there is none."""
  return ''.join(as_html(inside, path.parent) for path, text in pages.items()
                 for name, inside in _sections(text) if name == title)


def pictures_of_the_method(pages):
  """HTML of the pictures that say what is done, and not what was found."""
  return '\n'.join(figure(path.parent / target, caption) for path, text in pages.items()
                   for caption, target in PICTURE.findall(text) if FIGURES_OF_THE_METHOD in target)


def _sections(text):
  """(title, text), the first one of what stands under the title of the page."""
  for part in re.split(r'\A# |^## ', text, flags=re.M)[1:]:
    title, _, inside = part.partition('\n')
    yield title, inside


def as_html(text, folder):
  """HTML of Markdown: tables in boxes, pictures (paths from `folder`) inside, links to the web."""
  import markdown
  text = re.sub(r'~~(.+?)~~', r'<del>\1</del>', BLOCK.sub('', text))
  found = markdown.markdown(text, extensions=['tables', 'fenced_code', 'sane_lists'])
  found = _marked(found)
  found = re.sub(r'<td>(.*?)</td>', lambda match: cell(match[1]), found)
  found = re.sub(r'<table>.*?</table>', _boxed, found, flags=re.S)
  # What leads to other files, and to sections that may not be here, does not from there.
  found = re.sub(r'<a href="(?!https?://)[^"]*">(.*?)</a>', r'\1', found, flags=re.S)
  return re.sub(r'<p><img alt="([^"]*)" src="([^"]*)" ?/?></p>',
                lambda match: figure(folder / html.unescape(match[2]), html.unescape(match[1])),
                found)


def _marked(text):
  """Verdicts with a mark and a colour: what is bold in tables, and all that is struck out."""
  text = re.sub('<del>(.*?)</del>', lambda found: _WORSE.format(found[1]), text)
  text = text.replace('<strong>better</strong>', _BETTER.format('better'))   # of the words around
  better = lambda found: _BETTER.format(found[1])
  return re.sub('<td>.*?</td>',
                lambda found: re.sub('<strong>(.*?)</strong>', better, found[0]), text)


def cell(inside):
  """A cell of a table: sentences may break over lines, numbers may not."""
  plain = re.sub('<.*?>', '', inside.partition('<br>')[0])
  return f'<td class="long">{inside}</td>' if len(plain) >= LONG else f'<td>{inside}</td>'


def _boxed(table):
  kind = ' arms-table' if re.search(r'\s*'.join(ARMS), table[0]) else ''
  return f'<div class="table{kind}">{table[0]}</div>'


def figure(path, caption):
  """A picture, inside the page, and what it shows."""
  data = base64.b64encode(path.read_bytes()).decode()
  return (f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
          f'<figcaption>{html.escape(caption)}</figcaption></figure>')
