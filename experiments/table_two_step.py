"""Two steps, an autoencoder and then a flow on its latents, against one mollified step.

  python -m experiments.table_two_step --scale=digits|cpu|paper [--data_dir=DIR] [--record]

The autoencoders are the vanilla VAEs of `experiments.table1`, which are trained where they are
missing; the flow is trained as it is and mollified. Everything is held against the vanilla VAE that
samples from its prior. --record copies the records to experiments/results/images.
"""
import dataclasses
import itertools
import pathlib

from absl import flags

from experiments import (
  cell_records,
  command,
  comparison,
  image_cells,
  image_command,
  image_table,
  page_charts,
  two_step,
)
from mollification import build

FLAGS = command.FLAGS
SCALES = tuple(image_cells.TABLES['table1'])
MODEL, ARMS = page_charts.TWO_STEP, ('vanilla', 'gaussian')
# What an arm of a row of the table is: (model, arm) of the runs.
ROWS = {'vanilla': ('vae', 'vanilla'), 'mollified': ('vae', 'gaussian'),
        'two steps': (MODEL, 'vanilla'), 'two steps, mollified flow': (MODEL, 'gaussian')}


def run(root):
  """Train what is missing, measure, print the table."""
  root = image_command.settle(root)
  todo = [cell(FLAGS.scale, dataset, arm, seed, root)
          for dataset, grid in _grids(FLAGS.scale).items()
          for seed, arm in itertools.product(range(grid.seeds), ARMS)]
  first = {own.autoencoder.label: own.autoencoder for own in todo}   # one serves both arms
  failed = command.run_all(list(first.values()), root)
  failed |= command.run_all([own for own in todo if own.autoencoder.label not in failed], root)
  for own in todo if FLAGS.record else ():
    if own.is_done():
      for done in (own.autoencoder, own):
        image_command.record(done, image_command.RESULTS / done.folder.relative_to(root))
  print(text(image_command.RESULTS if FLAGS.record else root, FLAGS.scale))
  if failed:
    raise SystemExit(1)


def datasets(scale):
  """Names of the data sets of a scale."""
  return list(_grids(scale))


def _grids(scale):
  return {dataset: grid for dataset, grid in image_cells.TABLES['table1'][scale].items()
          if dataset != 'photo_patches'}   # of two photographs; left to one step


def cell(scale, dataset, arm, seed, root):
  """The `two_step.Cell` of one run under the folder `root`."""
  first = image_cells.cell('table1', scale, f'{dataset}/vae/vanilla/{seed}', root,
                           data_dir=FLAGS.data_dir, smoke=FLAGS.smoke)
  config = two_step.density_config(seed, image_cells.ARMS[arm])
  in_own = tuple(m for m in first.metrics if m in ('frechet', 'kid', 'pr'))
  return two_step.Cell(
    first, build.smoke(config, image_cells.SMOKE_BATCH) if FLAGS.smoke else config,
    pathlib.Path(root) / scale / dataset / MODEL / arm / str(seed),
    f'{dataset}/{MODEL}/{arm}/{seed}',
    (*first.more, *([cell_records.InFeatures(in_own)] if in_own else ())))


def rows(root, scale, dataset):
  """[comparison.Row] of each way to get samples but vanilla, against vanilla."""
  found = {(own.model, own.arm, own.metric, own.seed): own
           for own, _ in comparison.read(pathlib.Path(root) / scale / dataset)}
  metrics = {key[2] for key in found if key[0] == MODEL}
  return image_table.rows([
    dataclasses.replace(own, model='vae', arm=name)
    for name, of_run in ROWS.items() for key, own in found.items()
    if key[:2] == of_run and key[2] in metrics], arms=ROWS)


def markdown(root, scale):
  """The table for a page, a data set at a time."""
  return '\n\n'.join(
    f'**{dataset}**\n\n{image_table.as_markdown(found)}'
    for dataset in _grids(scale) if (found := rows(root, scale, dataset)))


def text(root, scale):
  """The table for a terminal."""
  return '\n\n'.join(f'{dataset}:\n{comparison.text_table(rows(root, scale, dataset))}'
                     for dataset in _grids(scale))


if __name__ == '__main__':
  command.define_flags('images')
  image_command.define_scale('digits', SCALES)
  flags.DEFINE_string('data_dir', '', 'Folder of the data sets of TFDS.')
  command.run(run)
