"""Row of the paper -> config -> command -> ours, for README.md; ours from committed records."""
import functools
import pathlib

from experiments import (
  comparison,
  image_cells,
  image_command,
  image_runs,
  image_table,
  names,
  table_two_step,
  uci,
  uci_table,
)

HEADER = ('row of the paper', 'config', 'command', 'ours')
RESULTS = pathlib.Path(__file__).parent / 'results'
_SELECTIONS = {'last': 'last epoch', 'validation': 'selected on validation'}
NOT_RUN = 'needs an accelerator'
_FASHION = f'narrow nets, [Fashion-MNIST]({names.RESULTS_PAGE}#fashion-mnist)'


def markdown():
  """The table for a page."""
  lines = [HEADER, ('---',) * len(HEADER), *_table1(), *_others(), *_uci()]
  return comparison.as_markdown(lines)


def _table1():
  for model in image_cells.MODELS:
    yield (f'Table 1, {names.MODELS[model]}', f'cifar10_{model}, celeba64_{model}',
           f'`experiments.table1 --scale=paper --cells=cifar10/{model},celeba64/{model}`',
           _measured('table1', model))


# At the size of the paper, or else on the largest data that were at hand.
SIZES = (('paper', '', 'fid', 'FID'), ('cpu', f'{NOT_RUN}; narrow nets, ', 'frechet', 'distance'),
         ('digits', f'{NOT_RUN}; ', 'frechet', 'distance'))


def _measured(table, *models):
  """What was measured of the models of a table: vanilla training, and differences of its arms."""
  def found(scale, metric):
    for dataset, rows in _rows(table, scale).items():
      for model in models:
        own = [row for row in _of(rows, metric) if image_runs.model_of(row) == model]
        # Noise, the schedule of Table 1, is in all of them: it alone is not what this one is about.
        if table != 'table_schedules' or len(own) > 1:
          yield dataset, own
  return _largest(found, named=len(models) > 1)


def _two_step():
  return _largest(lambda scale, metric: (
    (dataset, _of(table_two_step.rows(image_command.RESULTS, scale, dataset), metric))
    for dataset in table_two_step.datasets(scale)), named=True)


def _largest(found, named):
  """Of the first of `SIZES` that has any, what `found(scale, metric)` gives: (data set, rows).

  With the model of the rows where the line does not name one.
  """
  for scale, said, metric, name in SIZES:
    lines = [f'{names.model(rows[0].model) + ", " if named else ""}{names.DATASETS[dataset]} '
             f'{name} {_changes(rows)}'
             for dataset, rows in found(scale, metric) if rows]
    if lines:
      return said + '; '.join(lines)
  return NOT_RUN


def _of(rows, metric):
  """Rows of FID, whatever network it is of, or of a metric in the data set's own features."""
  return [row for row in rows
          if metric == (row.metric.partition('@')[0] if metric == 'fid' else row.metric)]


def _changes(rows):
  """Of rows of one metric, vanilla training and the differences from it by arm."""
  seeds = '/'.join(dict.fromkeys(str(row.difference.count) for row in rows))
  return (f'{comparison.shown(rows[0].vanilla)}, '
          + ', '.join(f'{row.arm} {image_table.difference(row)}' for row in rows)
          + f' (seeds: {seeds})')


@functools.cache
def _rows(table, scale):
  if scale not in image_cells.TABLES[table]:
    return {}
  return image_table.rows_of(image_command.RESULTS, table, scale)


def _others():
  yield ('schedules (sigmoid, cosine, linear)', 'cifar10_{realnvp,glow,vae,beta_vae,iwae}',
         '`experiments.table_schedules --scale=paper`',
         _measured('table_schedules', 'realnvp', 'glow', 'vae', 'beta_vae', 'iwae'))
  yield ('NVAE', 'cifar10_nvae, celeba64_nvae', '`experiments.table_nvae --scale=paper`',
         _measured('table_nvae', 'nvae'))
  yield ('two-step models', 'cifar10_vae, celeba64_vae',
         '`experiments.table_two_step --scale=paper`', _two_step())
  yield ('FID over training', 'cifar10_*, celeba64_*',
         '`experiments.fig_fid_over_training --scale=paper`', f'{NOT_RUN}; {_FASHION}')
  yield ('intermediate samples', 'cifar10_*, celeba64_*',
         '`experiments.fig_intermediate_samples --scale=paper`', f'{NOT_RUN}; {_FASHION}')
  yield ('densities and scores in the plane', 'synthetic_realnvp', '`experiments.synthetic`',
         f'[in full]({names.RESULTS_PAGE}#densities-in-the-plane)')


def _uci():
  found = uci_table.read(RESULTS / 'uci', uci.names())
  for (table, flow), runs in found.items():
    said = [f'{words} {" → ".join(uci_table.shown(runs, arm, selection) for arm in uci_table.ARMS)}'
            for selection, words in _SELECTIONS.items()]
    yield (f'UCI {table}, {names.MODELS[flow]}', f'uci_{table}_{flow}',
           f'`experiments.uci --data_dir=DIR --cells={table}_{flow}`', f'nats, {"; ".join(said)}')
