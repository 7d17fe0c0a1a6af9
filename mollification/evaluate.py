"""The evaluation binary: needs the workdir alone, writes records/*.json into it.

  python -m mollification.evaluate --workdir=DIR [--step=N|best] [--watch] \
      --metrics=nll,importance,mmd,frechet

Exit status: 0 measured, 2 a mistake in the command or the workdir.
"""
import functools

try:
  from absl import app, flags, logging

  from mollification import cli
except ModuleNotFoundError as error:
  raise SystemExit(f"error: {error.name} is not installed; "
                   "pip install 'mollification[train]'.") from None

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of mollification.main.')
_METRICS = flags.DEFINE_list('metrics', ['nll'], 'Any of nll, importance, mmd, frechet.')
_STEP = flags.DEFINE_string('step', '', 'Updates of the checkpoint, or best; the newest if empty.')
_SPLIT = flags.DEFINE_enum('split', 'test', ['train', 'validation', 'test'], 'Held-out data.')
_NUM_SAMPLES = flags.DEFINE_integer('num_samples', 0, 'Samples drawn; 0: as many as the split has.',
                                    lower_bound=0)
_PARAMS = flags.DEFINE_enum('params', '', ['', 'raw', 'ema'], 'Parameters; empty: as the config.')
_WATCH = flags.DEFINE_bool('watch', False, 'Measure every checkpoint as it appears, until the end.')
_SMOKE = flags.DEFINE_bool('smoke', False, 'At most 40 samples and no records: does it run?')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')
flags.mark_flag_as_required('workdir')


def main(argv):
  """Measure one checkpoint, or each as it appears, and print what was found."""
  if len(argv) > 1:
    cli.fail(f'unexpected argument {argv[1]!r}; flags read --name=value.')
  logging.set_verbosity(logging.ERROR)   # TFDS and Orbax log much that is no trouble
  with cli.one_line_errors(_DEBUG.value):
    step = _STEP.value if _STEP.value in ('', 'best') else _number(_STEP.value)
    if _WATCH.value:
      from mollification import measure
      if step:
        raise ValueError(f'--watch measures every checkpoint, --step={step} one; drop either.')
      measure.watch(_WORKDIR.value, _measure)
    else:
      _measure(step or None)


def _number(text):
  if not text.isdecimal():
    raise ValueError(f"step must be a number of updates or 'best', got {text!r}.")
  return int(text)


@functools.cache
def _run():
  from mollification import measure
  return measure.open_run(_WORKDIR.value, _PARAMS.value)


def _measure(step):
  from mollification import measure
  num_samples = _NUM_SAMPLES.value
  if _SMOKE.value:
    num_samples = min(num_samples or 40, 40)
  for record in measure.measure(_run(), _METRICS.value, step=step, split=_SPLIT.value,
                                num_samples=num_samples, write=not _SMOKE.value):
    bound = ' (a bound)' if record.exact is False else ''
    net = f" in {record.features['net']} features" if record.features else ''
    print(f'step {record.step:,}  {record.metric}{net}  {record.value:.5g} ± '
          f'{record.standard_error:.2g} {record.unit}{bound}  n={record.n}  '
          f"{record.reference['dataset']}/{record.reference['split']}  {record.params}", flush=True)


if __name__ == '__main__':
  app.run(main, flags_parser=cli.parse_flags)
