"""The evaluation binary without a workdir: convert-weights, stats and score."""
import dataclasses
import json
import pathlib
import tempfile
import time
import warnings

from mollification import files, measure, parallel
from mollification.evaluation import (
  features,
  frechet,
  records,
  scoring,
  sources,
  statistics_file,
  weights,
)


def convert_weights(source, out, *, allow_unverified=False):
  """Write the Inception weights in `source`, of any known form, as npz; returns what to print."""
  out = files.checked_output(out, '.npz', inputs=(source,))
  found = weights.load(source, allow_unverified=allow_unverified)
  weights.save(found, out)
  return f'{out}: weights of {found.origin}; of the arrays {found.sha256}'


def stats(where, out, extractor, *, split='', data_dir='', **drawn):
  """Write the statistics of a set of images to the npz `out`; returns what to print.

  The file says what it is of: data set, split, n, network, weights, input mode, images. One that
  exists and says the same is left alone, one that says otherwise is an error. A run that was
  killed goes on where it last saved, beside `out`. `drawn` are options of `measure.drawn`.
  """
  with parallel.together():
    source_of = _open(where, extractor, split, data_dir, drawn)
  source = source_of()
  sources.state_notes(source.notes)
  meta = {'features': scoring.identity(extractor), 'name': source.name, 'split': source.split,
          'n': source.n, 'content': source.content, 'precision': extractor.precision}
  with parallel.together():
    out = files.checked_output(out, '.npz', inputs=(where,))   # by which `score` knows it
    there = out.exists()
  parallel.check_same('state of the file to be written', ['is there' if there else 'is not there'])
  with parallel.together():
    if there:
      _check_holds(out, meta)
    else:
      out.parent.mkdir(parents=True, exist_ok=True)
  if there:
    return f'{out}: is there already ({source.n:,} images)'
  state = out.with_name(f'.{out.name}.state')
  with scoring.Progress(source) as progress:
    done = scoring.run(extractor, source, progress=progress.show, state_file=state)
  statistics = done.moments.statistics()
  meta |= {'images_sha256': done.sha256, 'weights': extractor.origin, 'notes': list(source.notes),
           'formats': source.formats, 'sizes': source.sizes, 'ddof': 1, 'seconds': done.seconds,
           'resumed_at': done.resumed_at,
           'versions': records.versions(), 'device': records.device()}
  parallel.by_first(_finish, out, statistics, meta, state)
  few = frechet.few_samples(statistics)
  if few:
    warnings.warn(few, frechet.FewSamples, stacklevel=2)
  since = f' since image {done.resumed_at:,}' if done.resumed_at else ''
  return f'{out}: {done.n:,} images, {extractor.name}, {done.seconds:.1f} s{since}'


def _check_holds(out, meta):
  """Raise ValueError where the file `out` says that its statistics are of other things."""
  _, old = statistics_file.read(out)
  old = {'precision': 'float32'} | (old or {})   # which older files do not say
  differing = [key for key, value in meta.items() if old.get(key) != value]
  if differing:
    raise ValueError(f'{out} must hold statistics of {differing[0]} {meta[differing[0]]!r}, got '
                     f'{old.get(differing[0])!r}; write to another file.')


def _finish(out, statistics, meta, state):
  statistics_file.write(out, statistics, meta)
  state.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Side:
  """One of two sets: its images, or the `Reference` of a file of statistics, with images or not.

  `about` is what JSON says of it.
  """
  about: dict
  source: sources.Source | None = None
  statistics: scoring.Reference | None = None
  notes: tuple = ()


def score(a, b, metrics, extractor, *, split='', data_dir='', groups=frechet.GROUPS, **drawn):
  """Measure the set `a` against the reference `b`; returns a dict that JSON holds.

  Either may be a folder, zip, npy, npz of images, the name of a data set (`split` and `data_dir`
  are those of such names) or a workdir (`drawn` are options of `measure.drawn`); `b` may be an npz
  of statistics for the Fréchet distance, sFID where it holds the spatial ones, the Inception score,
  and where images are in it too, as in those of guided-diffusion, for what needs them; so may `a`,
  for the first, without an error bar.
  """
  scoring.check_metrics(metrics, extractor)
  # What can be said of both sides is said before hours are spent on one.
  with parallel.together():
    opened = [_opened(where, metrics, extractor, split, data_dir, drawn) for where in (a, b)]
  first, second = (side_of() for side_of in opened)
  _check_sides(a, first, second, metrics, extractor)
  notes = sources.differences(first.about, second.about)
  sources.state_notes(dict.fromkeys([*first.notes, *second.notes, *notes]))
  start = time.monotonic()
  if first.statistics is None:
    own = _passed(first, metrics, extractor, groups)
    first.about.update(images_sha256=own.sha256, seconds=own.seconds)
    found = scoring.figures(metrics, own, _reference(second, metrics, extractor), extractor)
  else:
    reference = _reference(second, metrics, extractor)
    value = frechet.frechet_distance(first.statistics.statistics, reference.statistics)
    found = [scoring.Figure(scoring.name_of('fid', extractor), value, None)]
  return _result(found, first, second, notes, start) | {
    'features': scoring.identity(extractor), 'weights': extractor.origin,
    'precision': extractor.precision}


def score_statistics(a, b):
  """The Fréchet distance between two npz of statistics, as `score`; no network is needed.

  It is not called FID: files do not prove what they are of. Raises ValueError where they say that
  they are of other features.
  """
  start, notes, sides, features = time.monotonic(), [], [], None
  for where in (a, b):
    found, meta = statistics_file.read(where)
    if meta and features:
      notes += statistics_file.check(where, meta, features, 'float32')
    features = meta['features'] if meta else features
    sides.append(Side(meta or {'name': str(where), 'n': found.n},
                      statistics=scoring.Reference(found)))
  value = frechet.frechet_distance(*(side.statistics.statistics for side in sides))
  found = [scoring.Figure('frechet', value, None)]
  return _result(found, *sides, notes, start) | {
    'features': features, 'weights': '', 'precision': None}


def _result(found, first, second, notes, start):
  return {'figures': [{'metric': f.metric, 'value': f.value, 'standard_error': f.standard_error,
                       **f.extra} for f in found],
          'set': first.about, 'reference': second.about, 'notes': notes,
          'seconds': time.monotonic() - start, 'versions': records.versions(),
          'device': records.device()}


def _check_sides(where, own, other, metrics, extractor):
  """Raise ValueError where a metric needs images, or more of them, than a side has."""
  if own.statistics is not None and set(metrics) != {'fid'}:
    raise ValueError(f'{where} holds statistics, which give the Fréchet distance alone; pass '
                     'images for other metrics.')
  if other.statistics is not None and other.source is None:
    scoring.check_reference(metrics, other.statistics)
  if own.source is not None:
    scoring.check_metrics(metrics, extractor, own.source)
  compared = [metric for metric in metrics if metric != 'is']
  if other.source is not None and compared:
    scoring.check_metrics(compared, extractor, other.source)


def _opened(where, metrics, extractor, split, data_dir, drawn):
  """() -> the `Side` that a path or name stands for; as `_open`."""
  if not statistics_file.is_statistics(where):
    there = pathlib.Path(where).expanduser().exists()   # a split is that of the other side then
    source_of = _open(where, extractor, '' if there else split, data_dir, drawn)
    return lambda: _side(source_of())
  found, meta = statistics_file.read(where)
  notes = statistics_file.check(where, meta, scoring.identity(extractor), extractor.precision)
  spatial = statistics_file.read_spatial(where) if 'sfid' in metrics else None
  images = set(metrics) & set(scoring.KEEP) and statistics_file.has_images(where)
  side = Side(meta or {'name': str(where), 'n': found.n},
              sources.open_images(where) if images else None, scoring.Reference(found, spatial),
              tuple(notes))
  return lambda: side


def _side(source):
  return Side(_about(source), source, notes=source.notes)


def _passed(side, metrics, extractor, groups=0):
  with scoring.Progress(side.source) as progress:
    return scoring.run(extractor, side.source, metrics, groups=groups, progress=progress.show,
                       rows_folder=tempfile.gettempdir())


def _reference(side, metrics, extractor):
  """The `scoring.Reference` of a side: of its statistics, and of its images what they lack."""
  needed = scoring.needed(metrics)
  if side.statistics is not None:
    if side.source is None:
      return side.statistics
    return dataclasses.replace(side.statistics, rows=_passed(side, ['kid'], extractor).rows)
  if not needed:
    return scoring.Reference()
  done = _passed(side, needed, extractor)
  side.about.update(images_sha256=done.sha256, seconds=done.seconds)
  return scoring.reference(done)


def _about(source):
  """What a set is, before a network has seen it."""
  return {'name': source.name, 'split': source.split, 'n': source.n, 'notes': list(source.notes),
          'formats': source.formats, 'sizes': source.sizes}


def _open(where, extractor, split, data_dir, drawn):
  """() -> Source of a folder, file, data set or workdir, with notes that concern the network.

  What may fail in one of several processes is done by now; all of them draw what the call draws.
  """
  if not measure.is_workdir(where):
    source = sources.open_images(where, split=split, data_dir=data_dir, grey=extractor.grey)
    return lambda: _noted(source, extractor, source.name)
  options = dict(drawn)
  run = measure.open_run(where, options.pop('params', ''), options.pop('quantize', ''))
  return lambda: _noted(measure.drawn(run, str(where), **options), extractor,
                        run.evaluation.dataset.name)


def _noted(source, extractor, dataset):
  """A Source of the data set of that name, or of samples like it, with a note on its levels."""
  if features.is_own(extractor, dataset):
    return source
  notes = source.notes + sources.notes_on_levels(source.name, source.levels)
  return dataclasses.replace(source, notes=notes)


def lines(result):
  """The figures of `score` as lines of text, errors and corrections after the plain value."""
  for figure in result['figures']:
    figure = dict(figure)
    name, value, error = (figure.pop(key) for key in ('metric', 'value', 'standard_error'))
    rest = '  '.join(f'{key} {number:.6g}' for key, number in figure.items())
    plus = '' if error is None else f' ± {error:.2g}'
    yield f'{name} {value:.6g}{plus}  (n={result["set"]["n"]})  {rest}'.rstrip()
  net, reference = result['features'], result['reference']
  net = net or dict.fromkeys(statistics_file.IDENTITY, 'not said')
  origin = f' ({result["weights"]})' if result['weights'] else ''
  of = ' '.join(str(part) for part in (reference['name'], reference.get('split')) if part)
  count = '' if reference['n'] is None else f' (n={reference["n"]})'
  yield (f'in {net["net"]}, input {net["input_mode"]}, weights {net["sha256"]}{origin}; '
         f'reference {of}{count}; {result["seconds"]:.1f} s')


def write_json(result, path):
  """Write what `score` returned."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    part.write_text(json.dumps(result, indent=1, sort_keys=True) + '\n')
