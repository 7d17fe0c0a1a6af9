"""What the commands of the experiments share: flags, one-line errors, what cannot be recorded."""
import pathlib

from absl import app, flags

from mollification import cli

FLAGS = flags.FLAGS


def define_flags(name, *, seeds):
  """Those of every experiment, defined by its command alone: importers have flags of their own."""
  flags.DEFINE_string('workdir', f'runs/{name}', 'Folder of all that is written.')
  flags.DEFINE_integer('seeds', seeds, 'Seeds per arm.', lower_bound=2)
  flags.DEFINE_integer('workers', 2, 'Processes at a time, each on its share of the cores.',
                       lower_bound=1)
  flags.DEFINE_bool('smoke', False, 'Small and short: does it run at all?')
  flags.DEFINE_bool('record', False, f'Copy what is found to experiments/results/{name}.')
  flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')


def run(experiment):
  """Parse the flags and call `experiment(workdir)`."""

  def main(argv):
    del argv
    with cli.one_line_errors(FLAGS.debug):
      if FLAGS.record and FLAGS.smoke:
        raise ValueError('--record is for whole runs; leave --smoke out.')
      experiment(pathlib.Path(FLAGS.workdir))

  app.run(main, flags_parser=cli.parse_flags)
