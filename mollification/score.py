"""The evaluation binary without a workdir: convert-weights, stats and score."""
import json
import pathlib
import tempfile
import time
import warnings

import jax

from mollification import files, measure
from mollification.evaluation import (
  frechet,
  records,
  scoring,
  sources,
  statistics_file,
  weights,
)


def convert_weights(source, out, *, allow_unverified=False):
  """Write the Inception weights in `source`, of any known form, as npz; returns what to print."""
  found = weights.load(source, allow_unverified=allow_unverified)
  weights.save(found, out)
  return f'{out}: weights of {found.origin}; of the arrays {found.sha256}'


def stats(where, out, extractor, *, split='', data_dir='', **drawn):
  """Write the statistics of a set of images to the npz `out`; returns what to print.

  The file says what it is of: data set, split, n, network, weights, input mode, images. One that
  exists and says the same is left alone, one that says otherwise is an error. A run that was
  killed goes on where it last saved, beside `out`. `drawn` are options of `measure.drawn`.
  """
  source = _open(where, extractor, split, data_dir, drawn)
  meta = {'features': scoring.identity(extractor), 'name': source.name, 'split': source.split,
          'n': source.n, 'content': source.content, 'precision': extractor.precision}
  out = pathlib.Path(out)
  if out.suffix != '.npz':   # by which `score` knows it
    raise ValueError(f'statistics are written to a file called *.npz, got {str(out)!r}; rename it.')
  if out.exists():
    _, old = statistics_file.read(out)
    old = {'precision': 'float32'} | (old or {})   # which older files do not say
    differing = [key for key, value in meta.items() if old.get(key) != value]
    if differing:
      raise ValueError(f'{out} must hold statistics of {differing[0]} {meta[differing[0]]!r}, got '
                       f'{old.get(differing[0])!r}; write to another file.')
    return f'{out}: is there already ({source.n:,} images)'
  out.parent.mkdir(parents=True, exist_ok=True)
  state = out.with_name(f'.{out.name}.state')
  with scoring.Progress(source) as progress:
    done = scoring.run(extractor, source, progress=progress.show, state_file=state)
  statistics = done.moments.statistics()
  meta |= {'images_sha256': done.sha256, 'weights': extractor.origin, 'notes': list(source.notes),
           'formats': source.formats, 'sizes': source.sizes, 'ddof': 1, 'seconds': done.seconds,
           'versions': records.versions(), 'device': records.device()}
  if jax.process_index() == 0:
    statistics_file.write(out, statistics, meta)
    state.unlink(missing_ok=True)
  few = frechet.few_samples(statistics)
  if few:
    warnings.warn(few, frechet.FewSamples, stacklevel=2)
  return (f'{out}: {done.n:,} images, {extractor.name}, {done.seconds:.1f} s, of which '
          f'{100 * done.waiting_seconds / done.seconds:.0f} % waiting for images and network')


def score(a, b, metrics, extractor, *, split='', data_dir='', groups=frechet.GROUPS, **drawn):
  """Measure the set `a` against the reference `b`; returns a dict that JSON holds.

  Either may be a folder, zip, npy, npz of images, the name of a data set (`split` and `data_dir`
  are those of such names) or a workdir (`drawn` are options of `measure.drawn`); `b` may be an npz
  of statistics for the Fréchet distance, sFID where it holds the spatial ones, and the Inception
  score, and so may `a`, for the first, without an error bar.
  """
  scoring.check_metrics(metrics, extractor)
  # What can be said of both sides is said before hours are spent on one.
  first, second = (_opened(where, extractor, split, data_dir, drawn) for where in (a, b))
  _check_kinds(a, first, second, metrics)
  notes = sources.differences(_about(first), _about(second))
  sources.state_notes(notes)
  start = time.monotonic()
  own, own_set = _side(first, metrics, extractor, groups)
  other, reference_set = _side(second, scoring.needed(metrics), extractor, 0)
  if not isinstance(other, scoring.Reference):
    other = scoring.reference(other)
  if isinstance(own, scoring.Pass):
    found = scoring.figures(metrics, own, other, extractor)
  else:
    value = frechet.frechet_distance(own.statistics, other.statistics)
    found = [scoring.Figure(scoring.name_of('fid', extractor), value, None)]
  return {
    'figures': [{'metric': f.metric, 'value': f.value, 'standard_error': f.standard_error,
                 **f.extra} for f in found],
    'set': own_set, 'reference': reference_set, 'notes': notes,
    'features': scoring.identity(extractor), 'weights': extractor.origin,
    'precision': extractor.precision,
    'seconds': time.monotonic() - start, 'versions': records.versions(),
    'device': records.device()}


def _check_kinds(where, own, other, metrics):
  """Raise ValueError where a metric needs images of a side that has statistics alone."""
  if not isinstance(own, sources.Source) and set(metrics) != {'fid'}:
    raise ValueError(f'{where} holds statistics, which give the Fréchet distance alone; pass '
                     'images for other metrics.')
  if not isinstance(other, sources.Source):
    scoring.check_reference(metrics, other[0])


def _opened(where, extractor, split, data_dir, drawn):
  """What a side is: a Source, its notes stated, or (Reference, what it is of) of statistics."""
  if statistics_file.is_statistics(where):
    found, meta = statistics_file.read(where)
    sources.state_notes(
      statistics_file.check(where, meta, scoring.identity(extractor), extractor.precision))
    reference = scoring.Reference(found, statistics_file.read_spatial(where))
    return reference, meta or {'name': str(where), 'n': found.n}
  there = pathlib.Path(where).expanduser().exists()   # a split is that of the other side then
  return _open(where, extractor, '' if there else split, data_dir, drawn)


def _side(opened, metrics, extractor, groups):
  """(Pass or, of statistics and where no metric needs its features, Reference; what it is of)."""
  if not isinstance(opened, sources.Source):
    return opened
  source = opened
  if not metrics:
    return scoring.Reference(), _about(source)
  with scoring.Progress(source) as progress:
    done = scoring.run(extractor, source, metrics, groups=groups, progress=progress.show,
                       rows_folder=tempfile.gettempdir())
  return done, _about(source) | {'images_sha256': done.sha256, 'seconds': done.seconds}


def _about(opened):
  """What a side is of, before a network has seen it."""
  if not isinstance(opened, sources.Source):
    return opened[1]
  return {'name': opened.name, 'split': opened.split, 'n': opened.n, 'notes': list(opened.notes),
          'formats': opened.formats, 'sizes': opened.sizes}


def _open(where, extractor, split, data_dir, drawn):
  """The Source of either side, its notes stated."""
  if measure.is_workdir(where):
    source = measure.drawn(where, **drawn)
  else:
    source = sources.open_images(where, split=split, data_dir=data_dir, grey=extractor.grey)
  sources.state_notes(source.notes)
  return source


def lines(result):
  """The figures of `score` as lines of text, errors and corrections after the plain value."""
  for figure in result['figures']:
    figure = dict(figure)
    name, value, error = (figure.pop(key) for key in ('metric', 'value', 'standard_error'))
    rest = '  '.join(f'{key} {number:.6g}' for key, number in figure.items())
    plus = '' if error is None else f' ± {error:.2g}'
    yield f'{name} {value:.6g}{plus}  (n={result["set"]["n"]})  {rest}'.rstrip()
  net, reference = result['features'], result['reference']
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
