"""Row of the paper -> config -> command -> ours, for README.md; ours from committed records."""
import functools
import pathlib

from experiments import comparison, image_cells, image_command, image_table, uci, uci_table

HEADER = ('row of the paper', 'config', 'command', 'ours (vanilla → mollified)')
RESULTS = pathlib.Path(__file__).parent / 'results'
NAMES = {'realnvp': 'RealNVP', 'glow': 'GLOW', 'vae': 'VAE', 'vae_iaf': 'VAE-IAF', 'iwae': 'IWAE',
         'beta_vae': 'β-VAE', 'hvae': 'HVAE', 'nvae': 'NVAE', 'maf': 'MAF'}
NOT_RUN = 'needs an accelerator'


def markdown():
  """The table for a page."""
  lines = [HEADER, ('---',) * len(HEADER), *_table1(), *_others(), *_uci()]
  return comparison.as_markdown(lines)


def _table1():
  for model in image_cells.MODELS:
    yield (f'Table 1, {NAMES[model]}', f'cifar10_{model}, celeba64_{model}',
           f'`experiments.table1 --scale=paper --cells=cifar10/{model},celeba64/{model}`',
           _small(model))


def _small(model):
  """What was measured of a model of Table 1 on smaller data, the largest of them."""
  for scale, name in (('cpu', 'Fashion-MNIST, narrow nets'), ('digits', 'digits')):
    for rows in _rows(scale).values():
      for row in rows:
        kind, arm = row.model.split(', ')
        if (kind.split(' (')[0], arm, row.metric) == (model, 'gaussian', 'frechet'):
          return (f'{NOT_RUN}; {name}: Fréchet distance {comparison.shown(row.vanilla)} → '
                  f'{comparison.shown(row.mollified)}')
  return NOT_RUN


@functools.cache
def _rows(scale):
  found = image_table.read(image_command.RESULTS, 'table1', scale)
  return {dataset: image_table.rows([cell for cell, _ in cells])
          for dataset, cells in found.items()}


def _others():
  yield ('schedules (sigmoid, cosine, linear)', 'cifar10_{realnvp,glow,vae,beta_vae,iwae}',
         '`experiments.table_schedules --scale=paper`', NOT_RUN)
  yield ('NVAE', 'cifar10_nvae, celeba64_nvae', '`experiments.table_nvae --scale=paper`',
         _small('nvae'))
  yield ('two-step models', 'cifar10_vae, celeba64_vae',
         '`experiments.table_two_step --scale=paper`', NOT_RUN)
  yield ('FID over training', 'cifar10_*', '`experiments.fig_fid_over_training --scale=paper`',
         NOT_RUN)
  yield ('intermediate samples', 'cifar10_*',
         '`experiments.fig_intermediate_samples --scale=paper`', NOT_RUN)
  yield ('densities and scores in the plane', 'synthetic_realnvp', '`experiments.synthetic`',
         'below, in full')


def _uci():
  found = uci_table.read(RESULTS / 'uci', uci.names())
  for (table, flow), runs in found.items():
    values = [uci_table.shown(runs, arm, 'last') for arm in uci_table.ARMS]
    yield (f'UCI {table}, {NAMES[flow]}', f'uci_{table}_{flow}',
           f'`experiments.uci --cells={table}_{flow}`',
           f'last epoch, nats: {values[0]} → {values[1]}')
