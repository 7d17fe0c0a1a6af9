"""Render the measured blocks of the pages from the committed records, and nothing else.

  python -m experiments.report [--check] [--html=FILE [--runs=WORKDIR]] [--figures=FOLDER]

A block stands between `<!-- NAME -->` and `<!-- /NAME -->`; its text is what `BLOCKS[NAME]` makes
of experiments/results/. `PAGES` are README.md, what the experiments found, speed, and reliability.
With --check nothing is written: exit status 1 if one of them differs. With --html the blocks, and
of image models the samples and curves too, become one page, `FILE`, and they stay as they are; with
--runs that page is of one's own runs, the workdir of tables of images, in place of the records.
With --figures the figures are drawn of the records, too, into FOLDER/EXPERIMENT;
experiments/results is where the pages have them.
"""
import functools
import json
import pathlib
import re
import sys

import numpy as np
from absl import app, flags

from experiments import (
  alternatives_table,
  comparison,
  dry_run,
  fig_fid_over_training,
  fig_intermediate_samples,
  fig_method,
  findings,
  first_steps,
  grid,
  image_command,
  image_table,
  intrinsic_dimension_table,
  mechanism_table,
  page,
  paper_rows,
  reliability,
  scaling,
  sensitivity_table,
  synthetic,
  table_two_step,
  uci,
  uci_table,
)
from mollification import cli, files

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / folder / 'README.md'
         for folder in ('', 'experiments', 'experiments/bench', 'tests')]
RESULTS = ROOT / 'experiments' / 'results'

_CHECK = flags.DEFINE_bool('check', False, 'Only say whether the pages are up to date.')
_FIGURES = flags.DEFINE_string('figures', '', 'Folder in which to draw all figures.')
_HTML = flags.DEFINE_string('html', '', 'Page to write, for a browser; it needs no network.')
_RUNS = flags.DEFINE_string('runs', '', 'Workdir of tables of images that --html is to be of.')


def render(text, page_name='a page'):
  """`text` with every block rendered anew; raises ValueError on a block that nobody renders."""

  def fill(match):
    name = match[1]
    if name not in BLOCKS:
      raise ValueError(f'{page_name} has a block {name!r} that is not rendered; known: '
                       f'{", ".join(BLOCKS)}.')
    return f'<!-- {name} -->\n{BLOCKS[name]()}\n<!-- /{name} -->'

  opened, closed = (re.findall(rf'<!-- {mark}([\w ]+) -->', text) for mark in ('', '/'))
  if opened != closed:
    lost = next(name for name in [*opened, *closed] if opened.count(name) != closed.count(name))
    raise ValueError(f'{page_name} opens and closes the block {lost!r} unlike often; its tags are '
                     f'<!-- {lost} --> and <!-- /{lost} -->.')
  return re.sub(r'<!-- ([\w ]+) -->\n.*?<!-- /\1 -->', fill, text, flags=re.S)


def _quickstart():
  found = comparison.read(RESULTS / 'quickstart')
  rows = comparison.compare([cell for cell, _ in found])
  record = found[0][1]
  time = json.loads((RESULTS / 'quickstart' / 'time.json').read_text())
  versions = ', '.join(f'{name} {record.versions[name]}' for name in ('jax', 'flax', 'numpy'))
  return (f'{comparison.markdown_table(rows)}\n\n{comparison.sentence(rows)} Measured on '
          f'{record.reference["n"]} held-out digits and as many samples per run, in '
          f'{time["seconds"]} s for everything (limit {time["limit"]} s); {versions}, '
          f'{record.device}.')


def _bench(name):
  path = RESULTS / 'bench' / f'{name}.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  lines = ['| row | value | reference | ratio | bar |', '| --- | --- | --- | --- | --- |']
  for row in rows:
    show = lambda v: '' if v is None else f'{v:,.4g}'
    lines.append(f'| {row["name"]} | {show(row["value"])} {row["unit"]} | '
                 f'{row["reference"]} {show(row["reference_value"])} | {show(row["ratio"])} | '
                 f'{show(row["bar"])} |')
  runs = {}
  for row in rows:
    runs.setdefault(row.get('run', 'before the run of a row was recorded'), []).append(row['name'])
  if len(runs) == 1:
    return '\n'.join([*lines, '', f'Measured: {next(iter(runs))}.'])
  said = '; '.join(f'{run} ({", ".join(names)})' for run, names in runs.items())
  return '\n'.join([*lines, '', f'Measured: {said}.'])


def _uci():
  found = uci_table.read(RESULTS / 'uci', uci.known())
  said = [*uci_table.sentences(found), *_uci_clock(found)]
  return '\n'.join([uci_table.markdown(found), '', uci_table.peaks(found), '',
                    *(f'- {line[0].upper()}{line[1:]}' for line in said)])


def _uci_clock(found):
  """What the cells took, and the command that trained all of the paper's last, if one did."""
  taken = [grid.core_seconds(path.parent) for path in (RESULTS / 'uci').glob('*/time.json')]
  seconds = sum(taken)
  clock = json.loads((RESULTS / 'uci' / 'clock.json').read_text())
  whole = clock['cells'] == sorted(uci.names())
  if not whole or clock['core_seconds'] != seconds:
    yield f'{len(taken)} of {len(found)} cells were trained in one go, in {seconds:,} core-seconds.'
  if whole:
    yield (f'one command of {clock["workers"]} processes, for the {len(clock["cells"])} cells of '
           f'the paper, took {clock["seconds"] / 60:.0f} minutes by the clock, of '
           f'{uci.MINUTES:.0f} that it may take, and {clock["core_seconds"]:,} core-seconds.')


def _synthetic():
  rows = synthetic.table(RESULTS / 'synthetic')
  taken = np.nansum([record.seconds for cell, record in comparison.read(RESULTS / 'synthetic')
                     if cell.metric == 'log_likelihood'])   # of one that was cut nobody knows
  said = ''.join(f'\n- {sentence}' for sentence in synthetic.sentences(RESULTS / 'synthetic'))
  return (f'{comparison.markdown_table(rows)}\n\n{comparison.sentence(rows)} Its sweeps took '
          f'{taken / 60:.0f} minutes of the clock, added up.\n{said}')


def _grid(name, table):
  """Table and sentences of an experiment whose cells are recorded under results/`name`."""
  folder = RESULTS / name
  return _rendered(table, folder, grid.recorded(folder, table.CELLS))


def _alternatives():
  folder = RESULTS / 'alternatives'
  return _rendered(alternatives_table, folder, alternatives_table.recorded(folder))


def _rendered(table, folder, cells):
  lines = [f'- {sentence}' for sentence in table.sentences(folder, cells)]
  return '\n'.join([table.markdown(folder, cells), '', *lines])


def _images(table, scale, dataset):
  root = RESULTS / 'images'
  found = image_table.read(root, table, scale)[dataset]
  return image_table.markdown(found, root / scale / dataset)


def _hours():
  return image_table.hours(RESULTS / 'images', 'table1', 'cpu')


def _estimates():
  return dry_run.markdown(image_command.estimates('paper'))


def _two_step(scale):
  return table_two_step.markdown(RESULTS / 'images', scale)


BLOCKS = {'findings': findings.markdown, 'quickstart': _quickstart, 'paper': paper_rows.markdown,
          'first steps': first_steps.markdown, 'estimates': _estimates,
          'digits': functools.partial(_images, 'table1', 'digits', 'digits'),
          'fashion': functools.partial(_images, 'table1', 'cpu', 'fashion_mnist'),
          'patches': functools.partial(_images, 'table1', 'cpu', 'photo_patches'),
          'schedules': functools.partial(_images, 'table_schedules', 'cpu', 'fashion_mnist'),
          'hours': _hours,
          'over training': lambda: fig_fid_over_training.sentence(
            RESULTS / 'images' / 'cpu' / 'fashion_mnist'),
          'two step cpu': functools.partial(_two_step, 'cpu'),
          'synthetic': _synthetic, 'uci': _uci,
          'mechanism': functools.partial(_grid, 'mechanism', mechanism_table),
          'sensitivity': functools.partial(_grid, 'sensitivity', sensitivity_table),
          'intrinsic dimension': functools.partial(_grid, 'intrinsic_dimension',
                                                   intrinsic_dimension_table),
          'alternatives': _alternatives,
          'scaling': scaling.markdown, 'reliability': reliability.markdown,
          'bench': functools.partial(_bench, 'step'),
          'bench allocator': functools.partial(_bench, 'allocator'),
          'bench fid': functools.partial(_bench, 'fid'),
          'bench flows': functools.partial(_bench, 'flows'),
          'bench scale': functools.partial(_bench, 'scale'),
          'bench small': functools.partial(_bench, 'small'),
          'bench uci': functools.partial(_bench, 'uci'),
          'bench vae': functools.partial(_bench, 'vae')}


def _samples(model, folder, path):
  return fig_intermediate_samples.draw(folder / 'fashion_mnist' / model, path)


# {file: function (folder of the records, path)}; of synthetic they are many, the method has none.
FIGURES = {
  'method/mollifiers.png': lambda folder, path: fig_method.draw_mollifiers(path),
  'method/schedules.png': lambda folder, path: fig_method.draw_schedules(path),
  'uci/curves.png': lambda folder, path: uci_table.draw(uci_table.read(folder, uci.known()), path),
  'mechanism/mechanism.png': lambda folder, path: mechanism_table.draw(
    folder, grid.recorded(folder, mechanism_table.CELLS), path),
  'sensitivity/heatmaps.png': lambda folder, path: sensitivity_table.draw(
    folder, grid.recorded(folder, sensitivity_table.CELLS), path),
  'intrinsic_dimension/gain.png': lambda folder, path: intrinsic_dimension_table.draw(
    folder, grid.recorded(folder, intrinsic_dimension_table.CELLS), path),
  'alternatives/alternatives.png': lambda folder, path: alternatives_table.draw(
    folder, alternatives_table.recorded(folder), path),
  'images/cpu/fashion_mnist-over_training.png': lambda folder, path: fig_fid_over_training.draw(
    folder / 'fashion_mnist', path),
  **{f'images/cpu/fashion_mnist-{model}-samples.png': functools.partial(_samples, model)
     for model in ('realnvp', 'vae')},
  'synthetic/curves.png': lambda folder, path: synthetic.draw(folder, path.parent)}


def draw(place):
  """Draw `FIGURES` of the committed records below `place`; yields their paths."""
  for name, draw_one in FIGURES.items():
    path = pathlib.Path(place) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_one(RESULTS / pathlib.Path(name).parent, path)
    yield path


def main(argv):
  """Render the pages, or check them."""
  del argv
  with cli.one_line_errors():
    _report()


def _report():
  if _CHECK.value and (_FIGURES.value or _HTML.value):
    raise ValueError('--check writes nothing; leave --figures and --html out.')
  if _RUNS.value and (_FIGURES.value or not _HTML.value):
    raise ValueError(f'--runs={_RUNS.value} becomes a page alone; give --html=FILE, and no '
                     '--figures.')
  old = {path: path.read_text() for path in PAGES}
  if _RUNS.value:
    return _write(pathlib.Path(_HTML.value), page.of_runs(old, _RUNS.value))
  new = {path: render(text, path.relative_to(ROOT)) for path, text in old.items()}
  if _CHECK.value:
    stale = [str(path.relative_to(ROOT)) for path in PAGES if new[path] != old[path]]
    sys.exit(f'{", ".join(stale)}: not what the records say; python -m experiments.report'
             if stale else 0)
  if _FIGURES.value:
    print('\n'.join(str(path) for path in draw(_FIGURES.value)))
  if _HTML.value:
    new = {pathlib.Path(_HTML.value): page.build(new, RESULTS)}
  for path, text in new.items():
    _write(path, text)


def _write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    part.write_text(text)
  print(path)


if __name__ == '__main__':
  app.run(main)
