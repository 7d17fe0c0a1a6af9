"""The paper's Table 1: seven models, vanilla training against noise and blur, from equal seeds.

  python -m experiments.table1 --scale=digits [--cells=digits/vae,...] [--shard=1/4] [--dry-run]

--scale=paper is the table as published, for accelerators: CIFAR-10 and CelebA, full size, FID
(Inception weights and data are looked for before anything is trained). --scale=digits is the same
at the size of a laptop, with NVAE besides: minutes a run, on the digits of scikit-learn, in the
features of a small classifier. Runs that are finished are not trained again, so that machines that
share a folder may each take a --shard. --dry-run lists the runs, how far each is, and what it will
take on --accelerator; --record copies the records to experiments/results/table1.
"""
import json
import pathlib

from absl import flags

from experiments import cells, command, estimate, image_cells

FLAGS = command.FLAGS
RESULTS = pathlib.Path(__file__).parent / 'results' / 'table1'


def define_flags():
  """Those of the command."""
  command.define_flags('table1', cells='Runs, or DATASET[/MODEL[/ARM]] of several')
  flags.DEFINE_enum('scale', 'digits', list(image_cells.SCALES), 'Size of the table.')
  flags.DEFINE_string('shard', '1/1', 'i/n: every n-th run from the i-th on.')
  flags.DEFINE_string('data_dir', '', 'Folder of the data sets of TFDS.')
  flags.DEFINE_bool('dry_run', False, 'List the runs, their state, and what they will take.')
  flags.DEFINE_enum('accelerator', 'a100', list(estimate.ACCELERATORS), 'Of --dry_run.')
  flags.DEFINE_float('utilisation', .3, 'Share of its peak, of --dry_run.', lower_bound=1e-3,
                     upper_bound=1.)


def run(root):
  """Train what is missing, measure, print the table; or say what that would take."""
  names = image_cells.chosen(FLAGS.scale, FLAGS.cells, FLAGS.shard)
  todo = [image_cells.cell(FLAGS.scale, name, root, data_dir=FLAGS.data_dir, smoke=FLAGS.smoke)
          for name in names]
  if FLAGS.dry_run:
    print('\n'.join(listing(todo)))
    return
  command.run_cells(todo, root)
  if FLAGS.record:
    for cell in todo:
      record(cell, RESULTS / cell.folder.relative_to(root))
  from experiments import table1_table
  print(table1_table.text(RESULTS if FLAGS.record else root, FLAGS.scale))


def listing(todo):
  """Lines: each run with its state and its estimate, and the sum of what is left."""
  accelerator, costs, left = estimate.ACCELERATORS[FLAGS.accelerator], {}, 0.
  for cell in todo:
    program = cell.label.rsplit('/', 2)[0]   # arms and seeds share it
    if program not in costs:
      costs[program] = estimate.of_config(cell.config)
    cost, state = costs[program], cells.state(cell)
    hours = cost.hours(accelerator, FLAGS.utilisation)
    left += hours * (1 - cells.updates_done(cell) / cost.updates)
    fits = '' if cost.memory < accelerator.memory else ', does not fit'
    yield (f'{cell.label}: {state}; {cost.parameters / 1e6:.1f} M parameters, '
           f'{cost.flops / 1e9:,.3g} GFLOP an update, {cost.memory / 1e9:.2g} GB{fits}, '
           f'{hours:.2g} h')
  yield (f'{len(todo)} runs, {left:,.2g} h left on one {FLAGS.accelerator} '
         f'({accelerator.flops / 1e12:g} TFLOP/s at {FLAGS.utilisation:.0%}); evaluation and '
         'compilation are not counted')


def record(cell, place):
  """Copy the records and the config of a run, and the seconds of its updates."""
  cells.record(cell, place)
  (place / 'seconds.json').write_text(json.dumps({'training': seconds(cell.folder)}) + '\n')


def seconds(folder):
  """Of the updates of a finished run, by its own rows."""
  from mollification import metrics
  rows = metrics.read_rows(folder / 'metrics.jsonl')
  rates = [row['time/seconds_per_step'] for row in rows if 'time/seconds_per_step' in row]
  return round(rows[-1]['step'] * sum(rates) / len(rates), 1)


if __name__ == '__main__':
  define_flags()
  command.run(run)
