"""Tables of images from their records: what each arm gains over vanilla training, by model."""
import collections
import dataclasses
import json
import pathlib

from experiments import (
  cell_records,
  comparison,
  image_cells,
  image_findings,
  image_runs,
  image_verdicts,
  names,
)

# Of all that is recorded, what a page shows, in the data set's own features and in another
# network's (METRIC@NET); the rest is in the records.
SHOWN = ('log_likelihood', 'bits_per_dim', 'fid', 'frechet', 'kid', 'kernel_distance',
         'precision', 'recall', 'density', 'coverage', 'far_share')
_UNITS = {'log_likelihood': ' (nats)'}


def read(root, table, scale):
  """{data set: [(Cell, Record)]} of the runs of a table that are measured."""
  found = {}
  for dataset, grid in image_cells.TABLES[table][scale].items():
    of_set = comparison.read(pathlib.Path(root) / scale / dataset)
    found[dataset] = _measured([
      (cell, record) for cell, record in of_set
      if image_runs.model_of(cell) in grid.models and cell.arm in grid.arms], grid)
  return {dataset: cells for dataset, cells in found.items() if cells}


def _measured(found, grid):
  """Of `found` [(Cell, Record)] those of runs that lack no figure of `grid` that any other has.

  A run that was killed while it was measured has some, and is no result. (None has those of a
  network that --smoke leaves out.)
  """
  wanted = [{f'{name}@{own.network}'.rstrip('@') for name in cell_records.called(metric)}
            for own in (cell_records.InFeatures(grid.metrics), *grid.more)
            for metric in own.metrics]
  of_run = collections.defaultdict(set)
  for cell, _ in found:
    of_run[cell.model, cell.arm, cell.seed].add(cell.metric)
  needed = [called for called in wanted if called & set().union(*of_run.values())]
  return [(cell, record) for cell, record in found
          if all(called & of_run[cell.model, cell.arm, cell.seed] for called in needed)]


def rows(cells, arms=image_cells.ARMS):
  """[comparison.Row] of each model, arm of `arms` but vanilla, and shown metric.

  Seeds that only one of the two arms has, so far, are left out.
  """
  cells = [cell for cell in cells if cell.metric.partition('@')[0] in SHOWN]
  there = {cell.arm for cell in cells} - {'vanilla'}
  found = [dataclasses.replace(row, arm=arm) for arm in arms if arm in there
           for row in comparison.compare(_paired(cells, arm))]
  return sorted(found, key=lambda row: row.model)   # arms stay in their order


def rows_of(root, table, scale):
  """{data set: `rows`} of a table."""
  return {dataset: rows([cell for cell, _ in found])
          for dataset, found in read(root, table, scale).items()}


def _paired(cells, arm):
  """Cells of vanilla training and of `arm`, called mollified, of seeds that both have."""
  seen = {(cell.model, cell.metric, cell.arm, cell.seed) for cell in cells}
  both = [cell for cell in cells if cell.arm in ('vanilla', arm) and all(
    (cell.model, cell.metric, other, cell.seed) in seen for other in ('vanilla', arm))]
  return [dataclasses.replace(cell, arm='vanilla' if cell.arm == 'vanilla' else 'mollified')
          for cell in both]


def text(root, table, scale):
  """The table for a terminal and what it says."""
  parts = []
  for dataset, found in read(root, table, scale).items():
    of_set = rows([cell for cell, _ in found])
    for network, own in _by_network(of_set):
      parts += [f'{dataset}, in the features of {network}:' if network else f'{dataset}:',
                comparison.text_table(own)]
    folder = _folder(root, scale, dataset)
    by_model = header, _, *lines = image_verdicts.lines(found, of_set, folder)
    parts += [*([comparison.as_text([header, *lines])] if lines else []),
              image_verdicts.sentence(by_model), *image_findings.sentences(found, of_set, folder)]
  return '\n\n'.join(parts) or 'no records yet'


def markdown(found, folder):
  """The table of a data set for a page: vanilla means, paired differences with 95 % intervals.

  Of `found` [(Cell, Record)], whose runs are MODEL/ARM/SEED in `folder`. A difference that exceeds
  its interval is bold where the arm is better, struck out where worse.
  """
  of_set = rows([cell for cell, _ in found])
  verdicts = image_verdicts.lines(found, of_set, folder)
  said = [image_verdicts.sentence(verdicts), *image_findings.sentences(found, of_set, folder)]
  tables = [as_markdown(of_set), 'By model:', comparison.as_markdown(verdicts)] if of_set else []
  return '\n\n'.join([*tables, '\n'.join(f'- {line}' for line in said)])


def hours(root, table, scale):
  """What the runs of a table took, all data sets together, and what else of the scale did."""
  root = pathlib.Path(root)
  places = {place for dataset, found in read(root, table, scale).items()
            for place in image_findings.places_of(found, _folder(root, scale, dataset))}
  times = {path.parent: time for path in sorted((root / scale).glob('*/*/*/*/seconds.json'))
           if (time := image_runs.time_of(path.parent))}
  taken = [time for place, time in times.items() if place in places]
  others = [time for place, time in times.items() if place not in places]
  cut = [time for time in taken if time.cut]
  of = lambda runs, seconds=lambda time: time.whole: sum(map(seconds, runs)) / 3600
  quiet = of(taken, lambda time: time.quiet_training + time.reference + time.measuring)
  said = (f'{len(taken) - len(cut)} of {len(places)} runs were timed from end to end, and took '
          f'{of(taken) - of(cut):.2f} hours of a core by the clock, which other work on the '
          'machine lengthened. ')
  if cut:
    said += (f'{len(cut)} were cut and gone on with; with what they must have taken (their updates '
             'at their mean pace, and besides as much as other runs of their model) it is '
             f'{of(taken):.2f}. ')
  return said + (
    f'Of two cores that is {of(taken) / 2:.2f} hours each; at the pace of the quietest updates of '
    f'those that were timed, {quiet / 2:.2f}.{_by_one_command(root / scale)} Not in it: '
    f'{len(others)} runs of other tables, {of(others):.2f} hours of a core, and looks at what runs '
    'of the first seed keep of their training, '
    f'{of(times.values(), lambda time: time.looking):.2f}.')


def _by_one_command(folder):
  """What one command took by its clock, '' where none did all of its runs in one go."""
  path = folder / 'clock.json'
  if not path.exists():
    return ''
  clock = json.loads(path.read_text())
  taken = (cell_records.seconds(folder / label).get('core_seconds') for label in clock['cells'])
  if round(sum(own or 0. for own in taken)) != clock['core_seconds']:   # some were made anew since
    return ''
  return (f' One command of {clock["workers"]} processes, {len(clock["cells"])} runs, took '
          f'{clock["seconds"] / 3600:.2f} hours by the clock and '
          f'{clock["core_seconds"] / 3600:.2f} of the processor.')


CSV = ('data', 'model', 'arm', 'metric', 'seeds', 'vanilla', 'vanilla_sem', 'difference',
       'difference_sem')


def write_csv(path, found):
  """Write {data set: [Row]} as `CSV`: differences of arms from vanilla training, by `rows`."""
  comparison.write_csv(path, CSV, (
    (dataset, image_runs.model_of(row), row.arm, row.metric, row.difference.count,
     row.vanilla.mean, row.vanilla.sem, row.difference.mean, row.difference.sem)
    for dataset, of_set in found.items() for row in of_set))


def _folder(root, scale, dataset):
  return pathlib.Path(root) / scale / dataset


def as_markdown(of_set):
  """A table for each network whose features are looked at, that of the data set's own first."""
  tables = [(f'In the features of {names.network(network)}:\n\n' if network else '')
            + comparison.as_markdown(table_lines(own)) for network, own in _by_network(of_set)]
  marked = any(names.model(row.model).endswith(names.MARK) for row in of_set)
  return '\n\n'.join([*tables, *([names.NOTE] if marked else [])])


def _by_network(of_set):
  """(network, its Rows), that of the data set's own, called '', first."""
  networks = sorted({row.metric.partition('@')[2] for row in of_set})
  return [(network, [row for row in of_set if row.metric.partition('@')[2] == network])
          for network in networks]


def table_lines(of_set):
  """Lines of the table of one network as tuples of text, header and rule first."""
  metrics = [metric for metric in sorted({row.metric for row in of_set}, key=_place)
             if not all(_constant(row) for row in of_set if row.metric == metric)]
  bare = [metric.partition('@')[0] for metric in metrics]
  header = [f'{names.metric(name)}{_UNITS.get(name, "")} {comparison.arrow(name)}'
            for name in bare]
  lines = [('model', 'arm', *header), ('---',) * (2 + len(metrics))]
  by_model = {}
  for row in of_set:
    by_model.setdefault(row.model, {}).setdefault(row.arm, {})[row.metric] = row
  for model, arms in by_model.items():
    first = {}   # all arms have the same vanilla runs, but for seeds that one still lacks
    for own in reversed(arms.values()):
      first.update(own)
    lines.append((names.model(model), 'vanilla', *(
      comparison.shown(first[m].vanilla) if m in first else '' for m in metrics)))
    lines += [('', arm, *(difference(of[m]) if m in of else '' for m in metrics))
              for arm, of in arms.items()]
  return lines


def _constant(row):
  """Whether nothing differs in a row, over seeds or arms, so that it says nothing."""
  return row.vanilla.sem == row.difference.sem == row.difference.mean == 0


def _place(metric):
  return SHOWN.index(metric.partition('@')[0])


def difference(row):
  """`mean ± interval` of the paired difference, marked where it is decided."""
  text = image_verdicts.signed(row)
  return {'better': f'**{text}**', 'worse': f'~~{text}~~'}.get(row.verdict, text)
