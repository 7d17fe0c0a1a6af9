"""Sections of README.md as HTML: pictures inside, tables that scroll, verdicts that are marked."""
import base64
import html
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r'<!-- /?[\w ]+ -->')
PICTURE = re.compile(r'!\[([^\]]*)\]\(([^)]*)\)')
# What Markdown can only make bold or strike out: a line through a figure runs through its sign.
_BETTER, _WORSE = '<span class="better">▲ {}</span>', '<span class="worse">▼ {}</span>'
LONG = 40   # characters of a sentence
ARMS = ('<th>model</th>', '<th>arm</th>')   # the columns that name the rows


def measured_sections(readme):
  """(title, HTML) of each section of the README that has a measured block."""
  for title, text in _sections(readme):
    if BLOCK.search(text):
      yield title, as_html(BLOCK.sub('', text))


def section(readme, title):
  """HTML of the section of that title, '' where there is none."""
  return as_html(BLOCK.sub('', dict(_sections(readme)).get(title, '')))


def pictures_of_the_method(readme):
  """HTML of the pictures in the other sections, which say what is done and not what was found."""
  return '\n'.join(figure(ROOT / path, caption) for _, text in _sections(readme)
                   if not BLOCK.search(text) for caption, path in PICTURE.findall(text))


def _sections(readme):
  """(title, text); that before the first heading is called ''."""
  first, *others = re.split(r'^## ', readme, flags=re.M)
  yield '', first
  for part in others:
    title, _, text = part.partition('\n')
    yield title, text


def as_html(text):
  """HTML of Markdown: tables in boxes of their own, pictures inside, links to pages alone."""
  import markdown
  text = re.sub(r'~~(.+?)~~', r'<del>\1</del>', text)
  found = markdown.markdown(text, extensions=['tables', 'fenced_code', 'sane_lists'])
  found = _marked(found)
  found = re.sub(r'<td>(.*?)</td>', lambda match: cell(match[1]), found)
  found = re.sub(r'<table>.*?</table>', _boxed, found, flags=re.S)
  found = re.sub(r'<a href="#[^"]*">(.*?)</a>', r'\1', found)   # to sections that may not be here
  return re.sub(r'<p><img alt="([^"]*)" src="([^"]*)" ?/?></p>', _embedded, found)


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


def _embedded(match):
  return figure(ROOT / html.unescape(match[2]), html.unescape(match[1]))


def figure(path, caption):
  """A picture, inside the page, and what it shows."""
  data = base64.b64encode(path.read_bytes()).decode()
  return (f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
          f'<figcaption>{html.escape(caption)}</figcaption></figure>')
