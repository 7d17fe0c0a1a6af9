"""Two steps, an autoencoder and then a flow on its latents, against one mollified step.

  python -m experiments.table_two_step --scale=digits|cpu|paper [--cells=...] [--shard=1/4]
    [--data_dir=DIR] [--dry_run] [--record]

The autoencoders are the vanilla VAEs of `experiments.table1`, which are trained where they are
missing; the flow is trained as it is and mollified. Everything is held against the vanilla VAE that
samples from its prior. What the flags do: experiments/image_command.py.
"""
import dataclasses
import itertools
import pathlib

import numpy as np

from experiments import (
  cell_records,
  cells,
  command,
  comparison,
  dry_run,
  estimate,
  image_cells,
  image_command,
  image_runs,
  image_table,
  names,
  two_step,
)
from mollification import build

FLAGS = command.FLAGS
MODEL, ARMS = image_cells.TWO_STEP, ('vanilla', 'gaussian')
# What an arm of a row of the table is: (model, arm) of the runs.
ROWS = {'vanilla': ('vae', 'vanilla'), 'mollified': ('vae', 'gaussian'),
        'two steps': (MODEL, 'vanilla'), 'two steps, mollified flow': (MODEL, 'gaussian')}


def run(root):
  """Train what is missing, measure, print the table; or say what that would take."""
  root = image_command.settle(root)
  found = [f'{dataset}/{MODEL}/{arm}/{seed}' for dataset, grid in _grids(FLAGS.scale).items()
           for seed, arm in itertools.product(range(FLAGS.seeds or grid.seeds), ARMS)]
  todo = [cell(FLAGS.scale, name, root)
          for name in image_cells.chosen(found, FLAGS.cells, FLAGS.shard)]
  # One serves both arms.
  first = list({own.autoencoder.label: own.autoencoder for own in todo}.values())
  if FLAGS.dry_run:
    image_command.list_runs(first, root)
    image_command.print_listing(listing, todo)
    return
  image_command.check_recorded([*first, *todo], root)
  image_command.find_networks([own for own in (*first, *todo) if not cells.is_done(own)])
  ended = _train(first, todo, root)
  for own in todo if FLAGS.record else ():
    if cells.is_done(own):
      for done in (own.autoencoder, own):
        image_command.record(done, image_command.RESULTS / done.folder.relative_to(root))
  source = image_command.RESULTS if FLAGS.record else root
  print(text(source, FLAGS.scale))
  if found := rows_of(source, FLAGS.scale):
    image_table.write_csv(source / FLAGS.scale / 'table_two_step.csv', found)
  command.leave(ended)


def listing(todo, device, programs):
  """Lines: each second step of `todo` with its state and its estimate, given the first is done.

  Of its samples the decoder counts and not the flow, which is small beside it. What is found of a
  program, which arms share, goes into the dict `programs`, for `dry_run.write`.
  """
  passes, costs = device.accelerator.passes, {}
  for own in todo:
    name, config = image_cells.program_of(own.label), own.autoencoder.config
    if name not in costs:
      measuring = sum(n * estimate.of_sample(config, network, passes)
                      for network, n in dry_run.samples_of(own).items())
      spec = (config.model.latent_dim,), np.float32, None
      costs[name] = estimate.of_config(own.config, passes, spec), device.hours(measuring)
      cost, measured = costs[name]
      programs[name] = dry_run.program(cost, own.config.batch_size, device.hours(cost.training),
                                       measured)
    yield dry_run.line(own.label, cells.state(own), *costs[name], device)


def _train(first, todo, root):
  """Both steps, the second where the first is done: the `command.Ended` of both."""
  ended = command.run_all(first, root)
  waiting = [own for own in todo if not cells.is_done(own.autoencoder)]
  wait = [own for own in waiting if own.autoencoder.label not in ended.failed]
  for own in wait:
    print(f'{own.label} waits for {own.autoencoder.label}, which another process is at; give the '
          'same command once that is done')
  then = command.run_all([own for own in todo if own not in waiting], root)
  return command.Ended(ended.failed | then.failed,
                       [*ended.left, *(own.label for own in wait), *then.left])


def datasets(scale):
  """Names of the data sets of a scale."""
  return list(_grids(scale))


def _grids(scale):
  return {dataset: grid for dataset, grid in image_cells.TABLES['table1'][scale].items()
          if dataset != 'photo_patches'}   # of two photographs; left to one step


def cell(scale, name, root):
  """The `two_step.Cell` of DATASET/two_step/ARM/SEED under the folder `root`."""
  dataset, _, arm, seed = name.split('/')
  first = image_cells.cell('table1', scale, f'{dataset}/vae/vanilla/{seed}', root,
                           data_dir=FLAGS.data_dir, smoke=FLAGS.smoke)
  config = two_step.density_config(int(seed), image_cells.ARMS[arm])
  in_own = tuple(m for m in first.metrics if m in ('frechet', 'kid', 'pr'))
  return two_step.Cell(
    first, build.smoke(config, image_cells.SMOKE_BATCH) if FLAGS.smoke else config,
    pathlib.Path(root) / scale / name, name,
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


def rows_of(root, scale):
  """{data set: `rows`} of those that have any."""
  return {dataset: found for dataset in _grids(scale) if (found := rows(root, scale, dataset))}


def markdown(root, scale):
  """The table for a page, a data set at a time."""
  return '\n\n'.join(
    f'**{names.DATASETS[dataset]}**\n\n{image_table.as_markdown(found)}'
    + _taken(pathlib.Path(root) / scale / dataset)
    for dataset, found in rows_of(root, scale).items())


def _taken(folder):
  """A line on what measuring takes beside the training of a data set's runs, '' if nobody knows."""
  shares = []
  for place in sorted((folder / MODEL).glob('*/*')):
    first, own = (image_runs.time_of(of) for of in (folder / 'vae' / 'vanilla' / place.name, place))
    if first and own:
      shares.append((own.measuring / (first.training + own.training), own.measuring / own.training))
  if not shares:
    return ''
  both, second = ([f'{edge(column):.0%}' for edge in (min, max)] for column in zip(*shares))
  return (f'\n\n- time: measuring takes {both[0]} to {both[1]} of the training of both steps '
          f'({second[0]} to {second[1]} of the second alone), in {len(shares)} runs.')


def text(root, scale):
  """The table for a terminal, and the command for a line that it lacks."""
  parts = []
  for dataset in _grids(scale):
    found = rows(root, scale, dataset)
    parts.append(f'{dataset}:\n{comparison.text_table(found)}')
    if found and 'mollified' not in {row.arm for row in found}:
      parts.append(f'The line of one mollified step is missing: python -m experiments.table1 '
                   f'--scale={scale} --cells={dataset}/vae/gaussian, with the other flags of this '
                   'command, trains its runs.')
  return '\n\n'.join(parts)


if __name__ == '__main__':
  image_command.define_flags('table1', 'digits')
  command.run(run)
