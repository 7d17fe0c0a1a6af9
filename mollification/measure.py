"""A checkpoint and a list of metrics in, records out: what the evaluation binary does."""
import dataclasses
import functools
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mollification import build, check, measurements, parallel
from mollification.evaluation import (
  curve,
  features,
  frechet,
  records,
  sampling,
  scoring,
  sources,
)
from mollification.models import latent
from mollification.training import checkpoint, workdir
from mollification.training.run import Evaluation

GRID = 64   # samples in the picture of a measured checkpoint


@dataclasses.dataclass(frozen=True)
class Opened:
  """A run to be measured: what does not change from checkpoint to checkpoint."""
  folder: pathlib.Path
  config: ConfigDict
  identity: str
  evaluation: Evaluation
  template: Any   # what a checkpoint is restored into
  restored: dict = dataclasses.field(default_factory=dict)   # {step: the last one asked for}


class Checkpoint:
  """A checkpoint of an Opened run: `step`, model `variables`, and samples that are drawn once."""

  def __init__(self, evaluation, state):
    self.step, self.variables = int(state.step), evaluation.variables(state)
    self._evaluation, self._drawn = evaluation, {}

  def samples(self, n, allow_nonfinite):
    """`Evaluation.sample`: the first of those that are there, if they are enough."""
    found = self._drawn.get(allow_nonfinite)
    if found is None or found.n < n:
      found = self._drawn[allow_nonfinite] = self._evaluation.sample(
        self.variables, n, allow_nonfinite)
    return found.first(n)


def open_run(folder, params='', quantize=''):
  """The run in the workdir `folder`, with its data and its compiled evaluation.

  The config, and with it data, model and seed, comes from the workdir. `params` is raw or ema,
  `quantize` floor or round, '' what the config says. FileNotFoundError where there is no run.
  """
  folder = pathlib.Path(folder).expanduser()
  plain = workdir.read_config(folder)
  if plain is None:
    raise FileNotFoundError(f'{folder} holds no run: it has no config.json; train there first.')
  config = ConfigDict(plain)
  try:
    config.eval.params = params or config.eval.params
    config.eval.quantize = quantize or config.eval.quantize
    check.check_params(config)
    evaluation = build.build_evaluation(config)
    workdir.check_data(folder, build.summaries(evaluation.dataset))
    return Opened(folder, config, workdir.identity(plain), evaluation, evaluation.template())
  except (AttributeError, KeyError) as error:
    if isinstance(error, AttributeError) and not isinstance(error.obj, ConfigDict):
      raise
    raise ValueError(f'{folder}/config.json lacks the key {error}: another version of the package '
                     'wrote it; measure it with that one.') from error


def measure(run, metrics, *, step=None, split='test', num_samples=0, write=True,
            extractor=None, allow_nonfinite=False, kept=None, groups=frechet.GROUPS):
  """Measure `metrics` of one checkpoint of an Opened run: Records, written if `write`.

  `step` is a number of updates, 'best', or None for the newest. `num_samples` of 0 takes as many as
  the split has examples; `extractor` is that of metrics in features, of the data set where it is
  None, and what it finds of the split is kept in the folder `kept`, the run's own for None. Fréchet
  distances have an error bar by a jackknife over so many `groups`, none for 0. Each metric is
  written as soon as it is there; what is in its way, and what `checked` finds, is raised before
  anything is measured. Non-finite samples are counted in the records; more than none raise
  FloatingPointError unless `allow_nonfinite`. Of a model that starts from data, `extra` says from
  which ('init_on'). Samples that are images leave a grid of them in samples/. Several processes
  share the work: all must call this, all get the same values, and the first writes. Raises
  FileNotFoundError where there is no such checkpoint.
  """
  with parallel.together():
    extractor = checked(run, metrics, split, extractor, num_samples)
  evaluation, config = run.evaluation, run.config
  restored = restore(run, step)
  held_out = getattr(evaluation.dataset, split)
  common = _common(run, restored.step)
  parallel.check_same('run and metrics', [common, measurements.sampling_of(config), list(metrics),
                                          split, num_samples])
  if write:
    with parallel.together():
      _there(run, metrics, common, held_out, num_samples, extractor)

  @functools.cache
  def samples():
    found = restored.samples(num_samples or held_out.num_examples, allow_nonfinite)
    if write:   # before a record says that the samples were measured
      parallel.by_first(
        picture, found, evaluation.dataset.levels,
        run.folder / 'samples' / f'measured-{config.eval.params}-{common["step"]:08d}.png')
    return found

  def measured_in_turn():
    for metric in metrics:
      if metric in measurements.MEASURES:
        yield measurements.MEASURES[metric](evaluation, restored.variables, held_out, samples,
                                            config, common)
    if extractor:
      yield from measurements.in_features(
        _in_features(metrics), extractor, evaluation.dataset, held_out, samples, config, common,
        rows_folder=run.folder / 'features' if write else None,
        kept=(kept or run.folder) if write else None, groups=groups)

  start = {'init_on': config.mollify.init_on} if evaluation.model.starts_from_data else {}
  found = []
  for group in measured_in_turn():
    group = [dataclasses.replace(record, extra=record.extra | start) for record in group]
    for record in group[::-1] if write else ():   # what a metric is known by last
      parallel.by_first(records.write, record, run.folder / 'records')
    found += group
  if write:
    parallel.by_first(draw_curves, run)
  return found


def keep_reference(run, metrics, *, split='test', extractor=None, kept=None):
  """Leave in the folder `kept`, the run's own for None, what `measure` needs there of data alone.

  It does so itself where something is missing; runs that share the folder need it once. Of the
  metrics that are in features, in those of `extractor`, as there.
  """
  with parallel.together():
    extractor = checked(run, metrics, split, extractor)
  if extractor:
    dataset, kept = run.evaluation.dataset, kept or run.folder
    held_out, inside = getattr(dataset, split), _in_features(metrics)
    unseen = measurements.unseen_in_features(inside, extractor, dataset, held_out, kept)
    if 'copies' in inside:
      measurements.seen_in_features(unseen, extractor, dataset, held_out, kept)


def measured(run, metrics, *, step, split='test', num_samples=0, extractor=None):
  """Whether the workdir has records of all `metrics` of a checkpoint, as `measure` writes them.

  Raises ValueError where a record of another figure (other data, network, settings) is in the way.
  """
  extractor = checked(run, metrics, split, extractor, num_samples)
  held_out = getattr(run.evaluation.dataset, split)
  return all(_there(run, metrics, _common(run, step), held_out, num_samples, extractor))


def _there(run, metrics, common, split, num_samples, extractor):
  """[bool] of every record of `metrics`; ValueError as `measured`."""
  config, found = run.config, []
  of_split = {'n': split.num_examples,
              'reference': measurements.reference_of(run.evaluation.dataset, split)}
  for metric in metrics:
    fields = common | of_split | {'settings': settings_for(metric, config)}
    if metric in measurements.OF_SAMPLES:
      fields['n'] = num_samples or split.num_examples
    if metric in measurements.IN_FEATURES:
      fields['features'] = measurements.features_of(extractor, config)
    for name in _names(metric, run.evaluation, extractor):
      wanted = records.Record(metric=name, value=math.nan, standard_error=None, unit='', seconds=0.,
                              versions={}, device='', **fields)
      found.append(records.holds(wanted, run.folder / 'records'))
  return found


def _names(metric, evaluation, extractor):
  """What the records of a metric are called."""
  if metric in scoring.NAMES:
    return (scoring.name_of(metric, extractor),)
  if metric in ('nll', 'importance') and not evaluation.prepare.bits_defined:
    return measurements.RECORDS[metric][:1]
  return measurements.RECORDS.get(metric, (metric,))


def draw_curves(run):
  """Draw the figures over steps that are missing, or older than a record of theirs."""
  folder, figures = run.folder / 'records', run.folder / 'figures'
  try:
    _draw_stale(folder, figures)
  except ValueError as error:   # what was measured is written, and others may be sound
    sources.state_notes([f'no figures over steps: {error}'])


def _draw_stale(folder, figures):
  stale = {name for name, when in records.last_written(folder).items()
           if not (path := figures / f'{name}.png').exists() or path.stat().st_mtime_ns < when}
  curve.draw([record for record in records.read_all(folder) if record.figure in stale], figures)


def is_workdir(where):
  """Whether `where` is the folder of a run with checkpoints."""
  folder = pathlib.Path(where).expanduser()
  return (folder / 'config.json').is_file() and (folder / 'checkpoints').is_dir()


def drawn(run, name, *, step=None, num_samples=0, allow_nonfinite=False):
  """Samples of an Opened run, as a `sources.Source` of that name; options as `measure`'s.

  Several processes share them: all must call it.
  """
  evaluation, config = run.evaluation, run.config
  found = restore(run, step)
  parallel.check_same('run and samples', [_common(run, found.step),
                                          measurements.sampling_of(config), num_samples])
  samples = found.samples(num_samples or evaluation.dataset.test.num_examples, allow_nonfinite)
  notes = ()
  if samples.nonfinite:
    notes += (f'{samples.nonfinite} of {samples.n} samples of {name} are not finite',)
  settings = ', '.join(f'{key} {value}' for key, value in measurements.sampling_of(config).items())
  return sources.from_array(
    samples.x, name, f'samples of step {found.step}, {config.eval.params}, seed '
    f'{config.seed}, {settings}', notes, evaluation.dataset.levels)


def steps(folder):
  """Steps of the checkpoints that a workdir holds at present, ascending."""
  return checkpoint.steps(pathlib.Path(folder) / 'checkpoints')


def check_names(metrics, split):
  """Raise ValueError for metrics that are unknown, and for what does not go with the split."""
  unknown = [m for m in metrics if m not in (*measurements.MEASURES, *measurements.IN_FEATURES)]
  if unknown or not metrics:
    raise ValueError(f'unknown metric {unknown[0] if unknown else ""!r}; known: '
                     f'{", ".join((*measurements.MEASURES, *measurements.IN_FEATURES))}.')
  if split not in sources.SPLITS:
    raise ValueError(f'split must be one of {", ".join(sources.SPLITS)}, got {split!r}.')
  if 'copies' in metrics and split in ('train', 'full_train'):
    raise ValueError('copies compares with the training images and with images that were not '
                     f'trained on: split must be test or validation, got {split}.')


def checked(run, metrics, split, extractor=None, num_samples=0):
  """The extractor of those of `metrics` that are in features, None where there are none of them.

  Raises ValueError, before anything is measured, for what cannot be measured of any checkpoint of
  the run: as `check_names`, and for what its model, its data or the network do not have.
  """
  check_names(metrics, split)
  evaluation = run.evaluation
  if {'nll', 'importance'} & set(metrics) and not evaluation.has_likelihood:
    raise ValueError('no likelihood: pixels that are not dequantised have none; train with '
                     'prepare.dequantize=uniform, or leave nll and importance out of --metrics.')
  if 'importance' in metrics and evaluation.importance is None:
    raise ValueError('importance is for models whose likelihood is a bound, and this one is exact; '
                     'use --metrics=nll.')
  if 'latents' in metrics and not isinstance(evaluation.model, latent.LatentModel):
    raise ValueError(f'latents is for VAEs, got {run.config.model.name}; leave it out of '
                     '--metrics.')
  passes = measurements.passes_of(_in_features(metrics))
  if not passes:
    return None
  extractor = extractor or features.for_dataset(evaluation.dataset.name)
  held_out = getattr(evaluation.dataset, split)
  scoring.check_metrics(passes, extractor,
                        _Set('the samples', num_samples or held_out.num_examples),
                        _Set(f'the split {split}', held_out.num_examples))
  extractor.check(evaluation.dataset.test.x[:1])   # samples are of that shape too
  return extractor


class _Set(NamedTuple):
  name: str
  n: int


def _in_features(metrics):
  return [metric for metric in metrics if metric in measurements.IN_FEATURES]


def restore(run, step):
  """The Checkpoint of an Opened run at `step`, 'best' or None for the newest.

  That of a step by its number is kept until another is asked for: none changes. Raises
  FileNotFoundError where there is no such checkpoint.
  """
  if step in run.restored:
    return run.restored[step]
  run.restored.clear()   # before there are two of them in memory
  name = 'best' if step == 'best' else 'checkpoints'
  path = run.folder / name
  if not path.is_dir():
    raise FileNotFoundError(f'{run.folder} holds no {name}; train there first.')
  with checkpoint.manager(path, read_only=True) as manager:
    found = checkpoint.restore(manager, run.template, None if step == 'best' else step)
  if found is None:
    raise FileNotFoundError(f'{path} holds no checkpoint yet.')
  restored = Checkpoint(run.evaluation, found[1])
  if step not in (None, 'best'):
    run.restored[step] = restored
  return restored


def _common(run, step):
  """What all records of a checkpoint share."""
  return {'params': run.config.eval.params, 'step': step, 'seed': run.config.seed,
          'config_sha256': run.identity, 'settings': settings_of(run.config)}


def settings_for(metric, config):
  """`Record.settings` of a metric, of importance-weighted bounds and of samples with their own."""
  if metric == 'importance':
    return settings_of(config) | measurements.draws_of(config)
  if metric in measurements.OF_SAMPLES:
    return settings_of(config) | measurements.sampling_of(config)
  return settings_of(config)


def settings_of(config):
  """`Record.settings` of what comes before a metric: what running statistics are made of."""
  if not config.eval.refresh:
    return {'refresh_examples': 0}
  return {'refresh_examples': config.eval.refresh_examples,
          'refresh_batch_size': config.eval.refresh_batch_size}


def picture(samples, levels, path):
  """A grid of the first samples, where they are images."""
  if samples.x.ndim == 4 and samples.x.dtype == np.uint8:
    shown = samples.x[:GRID]
    image = sampling.grid(shown, math.ceil(math.sqrt(len(shown))), levels=levels, gap=1)
    sampling.save_png(path, image, max(1, sampling.GRID_PIXELS // image.shape[1]))

