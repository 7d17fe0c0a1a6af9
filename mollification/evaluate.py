"""The evaluation binary: needs the workdir alone, writes records/*.json into it.

  python -m mollification.evaluate --workdir=DIR [--step=N|best] [--watch] \
      --metrics=nll,importance,latents,mmd,frechet,fid,is,kid,pr,sfid,copies

and, without --workdir, where A and B are folders, zip archives, npy or npz files of images, npz
files of statistics, names of data sets, or workdirs, of which samples are drawn:

  python -m mollification.evaluate score A B --metrics=fid,is,kid,pr,sfid [--out=FILE.json]
  python -m mollification.evaluate stats A --out=FILE.npz
  python -m mollification.evaluate convert-weights FILE --out=FILE.npz

With --distributed=auto, or --coordinator, --num_processes and --process_id, several processes that
are given the same command share `stats`, `score` and the measuring of a checkpoint; the figures are
the same bits, what stops one stops all, and the first writes. With --watch one measures alone.

Exit status: 0 measured, 2 a mistake in the command or the workdir, 1 anything else, 75 stopped by
SIGTERM, 130 by SIGINT: the same command goes on; of --watch, 4 where checkpoints could not be
measured.
"""
import atexit
import functools
import pathlib
import signal
import sys
import warnings

try:
  from absl import app, flags, logging

  from mollification import allocator, cli, deterministic, notices, processes
  from mollification.training import preemption
except ModuleNotFoundError as error:
  raise SystemExit(f"error: {error.name} is not installed; "
                   "pip install 'mollification[train]'.") from None

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of mollification.main.')
_METRICS = flags.DEFINE_list('metrics', ['nll'],
                             'Any of nll, importance, latents, mmd, frechet, fid, is, kid, pr, '
                             'sfid, copies; for score fid, is, kid, pr, sfid.')
_STEP = flags.DEFINE_string('step', '', 'Updates of the checkpoint, or best; the newest if empty.')
_SPLIT = flags.DEFINE_enum('split', 'test', ['train', 'full_train', 'validation', 'test'],
                           'Data; full_train: train with what was carved out for validation.')
_NUM_SAMPLES = flags.DEFINE_integer('num_samples', 0, 'Samples drawn; 0: as many as the split has.',
                                    lower_bound=0)
_PARAMS = flags.DEFINE_enum('params', '', ['', 'raw', 'ema'], 'Parameters; empty: as the config.')
_QUANTIZE = flags.DEFINE_enum('quantize', '', ['', 'floor', 'round'],
                              'How samples become uint8; empty: as the config (eval.quantize).')
_WATCH = flags.DEFINE_bool('watch', False, 'Measure every checkpoint as it appears, until the run '
                           'is over. One that was pre-empted or failed is waited for, until '
                           'SIGTERM.')
_NONFINITE = flags.DEFINE_bool('allow_nonfinite', False, 'Measure samples of which some are not '
                               'finite, and count them; else they are an error.')
_SMOKE = flags.DEFINE_bool('smoke', False, 'Of --workdir: at most 40 samples, no records.')
_DEBUG = flags.DEFINE_bool('debug', False, 'Show tracebacks of errors in one line.')
_FEATURES = flags.DEFINE_string('features', 'inception_pytorch',
                                'inception_{pytorch,tf1,clean}, '
                                'efficientnet_lite0_SIZE, or a classifier of the package; with '
                                '--workdir that of the data set unless given.')
_WEIGHTS = flags.DEFINE_string('weights', '', 'Inception weights; empty: where they usually are.')
_UNVERIFIED = flags.DEFINE_bool('allow_unverified_weights', False, 'Take any sha256.')
_PRECISION = flags.DEFINE_enum('precision', 'float32', ['float32', 'float64'], 'Of Inception '
                               'features; float64 takes twice the time on CPU.')
_DATA_DIR = flags.DEFINE_string('data_dir', '', 'Of data sets that score and stats name.')
_OUT = flags.DEFINE_string('out', '', 'File that score, stats or convert-weights writes.')

# Which options have an effect where; another one is refused, not ignored.
_OF_NETWORK = ('features', 'weights', 'allow_unverified_weights')
_OF_INCEPTION = ('weights', 'allow_unverified_weights', 'precision')
_OF_DRAWS = ('num_samples', 'quantize', 'allow_nonfinite')
_OF_SAMPLES = ('step', 'params', *_OF_DRAWS)
_OF_DATA = ('split', 'data_dir')
_TAKES = {
  '--workdir': ('workdir', 'metrics', 'split', 'watch', 'smoke', 'deterministic',
                *_OF_SAMPLES, *_OF_NETWORK),
  'score': ('metrics', 'out', 'precision', 'deterministic', *_OF_DATA, *_OF_SAMPLES, *_OF_NETWORK),
  'stats': ('out', 'precision', 'deterministic', *_OF_DATA, *_OF_SAMPLES, *_OF_NETWORK),
  'convert-weights': ('out', 'allow_unverified_weights')}


def run():
  """The binary. SIGTERM is heard from before its flags are read, and ends the process.

  What has been written stays. At once, but one of several waits until the others have heard theirs.
  """
  allocator.keep_freed()
  atexit.register(notices.let_go)
  with preemption.Preemption((signal.SIGTERM,), 'stopped; the same command goes on') as stop:
    app.run(functools.partial(main, stop=stop), flags_parser=cli.parse_flags)


def main(argv, stop):
  """Measure one checkpoint, or each as it appears, and print what was found.

  `stop` (a preemption.Stop) is told of other processes.
  """
  warnings.filterwarnings('ignore', module=r'PIL\.')   # of odd metadata, which is no matter here
  if len(argv) > 1 and argv[1] in _COMMANDS:
    logging.set_verbosity(logging.ERROR)
    with processes.not_waited_for(), cli.one_line_errors(_DEBUG.value):
      _check_options(argv[1], argv[2:])
      deterministic.apply()
      _COMMANDS[argv[1]](stop, *argv[2:])
    return
  if len(argv) > 1:
    cli.fail(f'unexpected argument {argv[1]!r}; flags read --name=value.')
  if _WORKDIR.value is None:
    cli.fail(f'--workdir=DIR is wanted, or one of {", ".join(_COMMANDS)}.')
  logging.set_verbosity(logging.ERROR)   # TFDS and Orbax log much that is no trouble
  with processes.not_waited_for(), cli.one_line_errors(_DEBUG.value):
    _check_options('--workdir')
    deterministic.apply()
    step = _STEP.value if _STEP.value in ('', 'best') else _number(_STEP.value)
    if _WATCH.value:
      if step:
        raise ValueError(f'--watch measures every checkpoint, --step={step} one; drop either.')
      processes.check_alone('checkpoints are watched for')   # each process finds them at its time
      _watch()
    else:
      processes.join(stop)
      _measure(step or None)


def _check_options(command, sides=()):
  """Raise ValueError for an option that is given and has no effect on `command` and its `sides`."""
  given = [name for name in dict.fromkeys(name for names in _TAKES.values() for name in names)
           if flags.FLAGS[name].present]
  network = _FEATURES.value if command != '--workdir' or flags.FLAGS['features'].present else ''
  for name in given:
    if name not in _TAKES[command]:
      takers = [other for other, names in _TAKES.items() if name in names]
      reason = f'it is of {" and ".join(takers)}'
    elif name in _OF_SAMPLES and sides and not any(map(_is_workdir, sides)):
      reason = 'it is for samples of a workdir, and none of them is one'
    elif name in (*_OF_DRAWS, *_OF_NETWORK) and command == '--workdir' and not _has_use(name):
      reason = f'none of --metrics={",".join(_METRICS.value)} needs it'
    elif name in _OF_DATA and sides and all(map(_exists, sides)):
      reason = 'it is for names of data sets, and none of them is one'
    elif (name in _OF_INCEPTION and command != 'convert-weights'
          and not network.startswith('inception_')):
      reason = 'it is for Inception features; name them with --features'
    else:
      continue
    raise ValueError(f'{flags.FLAGS[name].serialize()} has no effect on '
                     f'{" ".join([command, *sides])}: {reason}; leave it out.')


def _has_use(name):
  """Whether one of the metrics of a workdir needs the option: samples, or a network."""
  from mollification import measurements
  return set(_METRICS.value) & set(measurements.OF_SAMPLES if name in _OF_DRAWS
                                   else measurements.IN_FEATURES)


def _exists(side):
  return pathlib.Path(side).expanduser().exists()


def _is_workdir(side):
  from mollification import measure
  return measure.is_workdir(side)


def _watch():
  from mollification import measure, watch
  measure.check_names(_METRICS.value, _SPLIT.value)
  _named_extractor()
  status = watch.until_the_end(
    pathlib.Path(_WORKDIR.value).expanduser(), _measure_unless_measured,
    lambda: measure.checked(_run(), _METRICS.value, _SPLIT.value, _named_extractor()))
  if status:
    sys.exit(status)


def _measure_unless_measured(step):
  """A watch that was stopped goes on where it was."""
  from mollification import measure
  if _SMOKE.value:
    _measure(step)
    return
  missing = [metric for metric in _METRICS.value if not measure.measured(
    _run(), (metric,), step=step, split=_SPLIT.value, num_samples=_NUM_SAMPLES.value,
    extractor=_named_extractor())]
  if missing:
    _measure(step, missing)
  else:
    measure.draw_curves(_run())   # the last thing that `measure` does
    notices.say(f'step {step:,} is measured already', sys.stdout)


def _number(text):
  if not text.isdecimal():
    raise ValueError(f"step must be a number of updates or 'best', got {text!r}.")
  return int(text)


@functools.cache
def _run():
  from mollification import measure
  return measure.open_run(_WORKDIR.value, _PARAMS.value, _QUANTIZE.value)


def _measure(step, metrics=None):
  from mollification import measure, parallel
  num_samples = _NUM_SAMPLES.value
  if _SMOKE.value:
    num_samples = min(num_samples or 40, 40)
  with parallel.together():
    run, extractor = _run(), _named_extractor()
  found = measure.measure(run, metrics or _METRICS.value, step=step, split=_SPLIT.value,
                          num_samples=num_samples, write=not _SMOKE.value, extractor=extractor,
                          allow_nonfinite=_NONFINITE.value)
  for record in found if parallel.is_first() else ():
    bound = ' (a bound)' if record.exact is False else ''
    net = f" in {record.features['net']} features" if record.features else ''
    error = '' if record.standard_error is None else f' ± {record.standard_error:.2g}'
    notices.say(f'step {record.step:,}  {record.metric}{net}  {record.value:.5g}{error} '
                f'{record.unit}{bound}  n={record.n}  '
                f"{record.reference['dataset']}/{record.reference['split']}  {record.params}",
                sys.stdout)


def _positional(args, names):
  if len(args) != len(names):
    raise ValueError(f'{" ".join(names)} wanted after the command, got {" ".join(args) or "none"}.')
  return args


def _extractor():
  from mollification.evaluation import features
  return features.load(_FEATURES.value, path=_WEIGHTS.value, allow_unverified=_UNVERIFIED.value,
                       precision=_PRECISION.value)


def _named_extractor():
  return _extractor() if flags.FLAGS['features'].present else None


def _origin():
  """Options of what data sets and workdirs give."""
  step = _STEP.value if _STEP.value in ('', 'best') else _number(_STEP.value)
  return {'split': _SPLIT.value if flags.FLAGS['split'].present else '',
          'data_dir': _DATA_DIR.value, 'step': step or None, 'num_samples': _NUM_SAMPLES.value,
          'params': _PARAMS.value, 'quantize': _QUANTIZE.value,
          'allow_nonfinite': _NONFINITE.value}


def _convert_weights(stop, *args):
  del stop   # one process alone
  from mollification import score
  processes.check_alone('weights are converted')
  source, = _positional(args, ['FILE'])
  said = score.convert_weights(source, _wanted_out(), allow_unverified=_UNVERIFIED.value)
  print(said, flush=True)


def _wanted_out():
  if not _OUT.value:
    raise ValueError('--out=FILE.npz is wanted: the file to write.')
  return _OUT.value


def _stats(stop, *args):
  from mollification import parallel, score
  where, = _positional(args, ['A'])
  out = _wanted_out()   # before the weights are read
  processes.join(stop)
  said = score.stats(where, out, _extractor(), **_origin())
  if parallel.is_first():
    print(said, flush=True)


def _score(stop, *args):
  from mollification import files, parallel, score
  from mollification.evaluation import statistics_file
  a, b = _positional(args, ['A', 'B'])
  processes.join(stop)
  with parallel.together():
    out = _OUT.value and files.checked_output(_OUT.value, '.json', inputs=(a, b))
  names = _METRICS.value if flags.FLAGS['metrics'].present else ['fid']
  if (names == ['fid'] and not flags.FLAGS['features'].present
      and all(map(statistics_file.is_statistics, (a, b)))):
    result = score.score_statistics(a, b)
  else:
    result = score.score(a, b, names, _extractor(), **_origin())
  if out:   # whoever reads what is printed, or not
    parallel.by_first(score.write_json, result, out)
  if parallel.is_first():
    print('\n'.join(score.lines(result)), flush=True)


_COMMANDS = {'convert-weights': _convert_weights, 'stats': _stats, 'score': _score}


if __name__ == '__main__':
  run()
