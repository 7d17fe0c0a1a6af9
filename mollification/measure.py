"""A checkpoint and a list of metrics in, records out: what the evaluation binary does."""
import dataclasses
import functools
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mollification import build, check, rng
from mollification.evaluation import (
  curve,
  features,
  frechet,
  mmd,
  records,
  reference,
  sampling,
  scoring,
  sources,
)
from mollification.models import latent
from mollification.training import checkpoint, workdir
from mollification.training.run import Evaluation

# In features: of the data set's own network unless another is named; 'frechet' is 'fid' there.
IN_FEATURES = ('frechet', *scoring.METRICS, 'copies')
GRID = 64   # samples in the picture of a measured checkpoint
LISTED = 4096   # latents of which a record lists each; NVAE has more at the size of CIFAR-10
# The record that is written last of a metric that has several, or another name.
_LAST_RECORD = {'nll': 'log_likelihood', 'importance': 'importance_bound', 'mmd': 'mmd2',
                'is': 'inception_score', 'pr': 'coverage', 'copies': 'far_share',
                'latents': 'active_units'}


@dataclasses.dataclass(frozen=True)
class Opened:
  """A run to be measured: what does not change from checkpoint to checkpoint."""
  folder: pathlib.Path
  config: ConfigDict
  identity: str
  evaluation: Evaluation
  template: Any   # what a checkpoint is restored into


def open_run(folder, params=''):
  """The run in the workdir `folder`, with its data and its compiled evaluation.

  The config, and with it data, model and seed, comes from the workdir. `params` is raw, ema, or ''
  for what the config says. Raises FileNotFoundError where there is no run.
  """
  folder = pathlib.Path(folder)
  plain = workdir.read_config(folder)
  if plain is None:
    raise FileNotFoundError(f'{folder} holds no run: it has no config.json; train there first.')
  config = ConfigDict(plain)
  try:
    if params:
      config.eval.params = params
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
            extractor=None, allow_nonfinite=False):
  """Measure `metrics` of one checkpoint of an Opened run: Records, written if `write`.

  `step` is a number of updates, 'best', or None for the newest. `num_samples` of 0 takes as many
  as the split has examples; `extractor` is that of `IN_FEATURES`, of the data set where it is
  None. Non-finite samples are counted in the records; more than none raise FloatingPointError
  unless `allow_nonfinite`. Of a model that starts from data, `extra` says from which ('init_on').
  Samples that are images leave a grid of them in samples/. Raises
  ValueError on unknown names and FileNotFoundError where there is no such checkpoint.
  """
  check_names(metrics, split)
  evaluation, config = run.evaluation, run.config
  state = _restore(run.folder, step, run.template)
  variables = evaluation.variables(state)
  held_out = getattr(evaluation.dataset, split)
  draw = evaluation.show if allow_nonfinite else evaluation.sample
  samples = functools.cache(lambda: draw(variables, num_samples or held_out.num_examples))

  common = {'params': config.eval.params, 'step': int(state.step), 'seed': config.seed,
            'config_sha256': run.identity,
            'settings': _settings(config)}
  found = []
  for metric in metrics:
    if metric in _MEASURES:
      found += _MEASURES[metric](evaluation, variables, held_out, samples, config, common)
  named = [metric for metric in metrics if metric in IN_FEATURES]
  if named:
    found += _in_features(named, extractor or features.for_dataset(evaluation.dataset.name),
                          evaluation.dataset, held_out, samples, config, common, run.folder,
                          write)
  if evaluation.model.starts_from_data:
    start = {'init_on': config.mollify.init_on}
    found = [dataclasses.replace(record, extra=record.extra | start) for record in found]
  for record in found if write else ():
    records.write(record, run.folder / 'records')
  if write:
    curve.draw(records.read_all(run.folder / 'records'), run.folder / 'figures')
    if samples.cache_info().currsize:
      _picture(samples(), evaluation.dataset.levels,
               run.folder / 'samples' / f'measured-{config.eval.params}-{common["step"]:08d}.png')
  return found


def measured(run, metrics, *, step, split='test', num_samples=0, extractor=None):
  """Whether the workdir has records of all `metrics` of a checkpoint, as `measure` writes them."""
  check_names(metrics, split)
  config, dataset = run.config, run.evaluation.dataset
  there = [r for r in records.read_all(run.folder / 'records')
           if (r.step, r.params, r.reference['split'], r.config_sha256)
           == (step, config.eval.params, split, run.identity)]

  def has(metric):
    wanted, n, net = _settings(config), None, None
    if metric == 'importance':
      wanted = wanted | _draws(config)
    elif metric in ('mmd', *IN_FEATURES):
      n = num_samples or getattr(dataset, split).num_examples
      wanted = wanted | _sampling(config)
    if metric in IN_FEATURES:
      net = extractor or features.for_dataset(dataset.name)
    if metric in ('frechet', 'fid', 'kid'):
      name = scoring.name_of(metric, net)
    else:
      name = _LAST_RECORD.get(metric, metric)
    return any(r.metric == name and n in (None, r.n) and r.settings | wanted == r.settings
               and (net is None or r.features['net'] == net.name) for r in there)

  return all(map(has, metrics))


def is_workdir(where):
  """Whether `where` is the folder of a run with checkpoints."""
  folder = pathlib.Path(where).expanduser()
  return (folder / 'config.json').is_file() and (folder / 'checkpoints').is_dir()


def drawn(folder, *, step=None, num_samples=0, params='', allow_nonfinite=False):
  """Samples of the run in the workdir `folder`, as a `sources.Source`; options as `measure`'s."""
  run = open_run(pathlib.Path(folder).expanduser(), params)
  evaluation, config = run.evaluation, run.config
  state = _restore(run.folder, step, run.template)
  draw = evaluation.show if allow_nonfinite else evaluation.sample
  samples = draw(evaluation.variables(state),
                 num_samples or evaluation.dataset.test.num_examples)
  notes = sources.notes_on_levels(evaluation.dataset.name, evaluation.dataset.levels)
  if samples.nonfinite:
    notes += (f'{samples.nonfinite} of {samples.n} samples of {folder} are not finite',)
  settings = ', '.join(f'{key} {value}' for key, value in _sampling(config).items())
  return sources.from_array(
    samples.x, str(folder), f'samples of step {int(state.step)}, {config.eval.params}, seed '
    f'{config.seed}, {settings}', notes)


def steps(folder):
  """Steps of the checkpoints that a workdir holds at present, ascending."""
  path = pathlib.Path(folder) / 'checkpoints'
  if not path.is_dir():
    return []
  with checkpoint.manager(path, read_only=True) as manager:
    return sorted(manager.all_steps())


def check_names(metrics, split):
  """Raise ValueError for metrics that are unknown, and for what does not go with the split."""
  unknown = [m for m in metrics if m not in (*_MEASURES, *IN_FEATURES)]
  if unknown or not metrics:
    raise ValueError(f'unknown metric {unknown[0] if unknown else ""!r}; known: '
                     f'{", ".join((*_MEASURES, *IN_FEATURES))}.')
  if split not in ('train', 'validation', 'test'):
    raise ValueError(f"split must be train, validation or test, got {split!r}.")
  if 'copies' in metrics and split == 'train':
    raise ValueError('copies compares with the training images and with images that were not '
                     'trained on: split must be test or validation, got train.')


def _restore(folder, step, template):
  name = 'best' if step == 'best' else 'checkpoints'
  path = pathlib.Path(folder) / name
  if not path.is_dir():
    raise FileNotFoundError(f'{folder} holds no {name}; train there first.')
  with checkpoint.manager(path, read_only=True) as manager:
    found = checkpoint.restore(manager, template, None if step == 'best' else step)
  if found is None:
    raise FileNotFoundError(f'{path} holds no checkpoint yet.')
  return found[1]


def _reference(evaluation, split):
  return {'dataset': evaluation.dataset.name, 'split': split.name, 'n': split.num_examples,
          'sha256': split.sha256}


def _nll(evaluation, variables, split, samples, config, common):
  """Mean log-likelihood in nats per example and, where it is defined, bits/dim."""
  del samples, config
  if not evaluation.has_likelihood:
    raise ValueError('no likelihood: a flow on pixels that are not dequantised has none; train '
                     'with prepare.dequantize=uniform, or leave nll out of --metrics.')
  start = time.monotonic()
  result = evaluation.log_likelihood(variables, split)
  common = common | {'reference': _reference(evaluation, split), 'exact': evaluation.exact,
                     'n': result.n, 'seconds': time.monotonic() - start,
                     'extra': {'nonfinite': result.nonfinite}}
  found = [records.Record(metric='log_likelihood', value=result.mean, unit='nats',
                          standard_error=result.sem, **common)]
  if result.bits_per_dim is not None:
    found.append(records.Record(metric='bits_per_dim', value=result.bits_per_dim,
                                unit='bits/dim', standard_error=result.bits_per_dim_sem,
                                **common))
  return found


def _importance(evaluation, variables, split, samples, config, common):
  """Importance-weighted bound on the mean log-likelihood, in nats per example and bits/dim."""
  del samples
  if evaluation.importance is None:
    raise ValueError('importance is for models whose likelihood is a bound, and this one is exact; '
                     'use --metrics=nll.')
  start = time.monotonic()
  result = evaluation.importance(variables, split)
  common = common | {
    'reference': _reference(evaluation, split), 'exact': False, 'n': result.n,
    'seconds': time.monotonic() - start,
    'extra': {'nonfinite': result.nonfinite},
    'settings': common['settings'] | _draws(config)}
  found = [records.Record(metric='importance_bound', value=result.mean, unit='nats',
                          standard_error=result.sem, **common)]
  if result.bits_per_dim is not None:
    found.append(records.Record(metric='importance_bits_per_dim', value=result.bits_per_dim,
                                unit='bits/dim', standard_error=result.bits_per_dim_sem,
                                **common))
  return found


def _latents(evaluation, variables, split, samples, config, common):
  """How many latents the encoder uses, and in `extra` the moments of the aggregated posterior.

  Those of each latent, where they are at most `LISTED`; else the means over latents.
  """
  del samples
  if not isinstance(evaluation.model, latent.LatentModel):
    raise ValueError(f'latents is for VAEs, got {config.model.name}; leave it out of --metrics.')
  start = time.monotonic()
  encode = jax.jit(lambda variables, rows, keys: evaluation.model.apply(
    variables, evaluation.prepare(rows, keys), method='encode'))
  size, key = config.eval.batch_size, rng.purpose_key(config.seed, 'evaluate')
  result = latent.aggregate(
    encode(variables, rows, rng.range_keys(key, first, len(rows)))
    for first in range(0, split.num_examples, size)
    for rows in [np.asarray(split.x[first:first + size])])
  each = {name: np.asarray(value) for name, value in result._asdict().items()}
  extra = {name: value.tolist() if len(value) <= LISTED else float(value.mean())
           for name, value in each.items()}
  return [records.Record(
    metric='active_units', value=float(result.active_units), standard_error=None, unit='1',
    n=split.num_examples, reference=_reference(evaluation, split),
    seconds=time.monotonic() - start, extra=extra, **common)]


def _mmd(evaluation, variables, split, samples, config, common):
  """Squared RBF-MMD between samples and the split, in stored units."""
  del variables
  start = time.monotonic()
  unseen = mmd.reference(_flat(split.x))
  estimate = mmd.mmd2(_flat(samples().x), unseen)
  return [records.Record(
    metric='mmd2', value=estimate.value, standard_error=estimate.standard_error, unit='1',
    n=estimate.n, reference=_reference(evaluation, split), seconds=time.monotonic() - start,
    extra={'bandwidths': list(unseen.bandwidths)} | _nonfinite(samples()),
    **_with_sampling(config, common))]


def _in_features(metrics, extractor, dataset, split, samples, config, common, folder, write):
  """Records of metrics between samples and the split in the features of a network."""
  start = time.monotonic()
  plain = list(dict.fromkeys('fid' if m == 'frechet' else m for m in metrics if m != 'copies'))
  passes = plain + ['kid'] * ('copies' in metrics)   # copies need features, as kid does
  scoring.check_metrics(passes, extractor)
  source = sources.from_array(samples().x, 'samples')
  with scoring.Progress(source) as progress:
    own = scoring.run(extractor, source, passes, groups=frechet.GROUPS, progress=progress.show,
                      rows_folder=folder / 'features' if write else None)
  kept = functools.partial(reference.of_split, extractor, dataset.name,
                           folder=folder if write else None)
  unseen = kept(split, passes)
  found = scoring.figures(plain, own, unseen, extractor)
  if 'copies' in metrics:
    found += scoring.copies(own.rows, kept(dataset.train, ['kid']).rows, unseen.rows)
  common = _with_sampling(config, common) | {
    'n': own.n, 'unit': '1', 'seconds': time.monotonic() - start,
    'reference': {'dataset': dataset.name, 'split': split.name, 'n': split.num_examples,
                  'sha256': split.sha256},
    'features': scoring.identity(extractor) | {'quantisation': config.eval.quantize}}
  extra = _nonfinite(samples()) | ({'weights': extractor.origin} if extractor.origin else {})
  return [records.Record(metric=f.metric, value=f.value, standard_error=f.standard_error,
                         extra=f.extra | extra, **common) for f in found]


def _flat(rows):
  return np.asarray(rows).reshape(len(rows), math.prod(rows.shape[1:])).astype(np.float64)


def _nonfinite(samples):
  return {'nonfinite_samples': samples.nonfinite}


def _draws(config):
  return {'draws': config.eval.importance_samples}


def _with_sampling(config, common):
  return common | {'settings': common['settings'] | _sampling(config)}


def _sampling(config):
  return {'temperature': config.eval.temperature, 'quantize': config.eval.quantize}


def _settings(config):
  if not config.eval.refresh:
    return {'refresh_examples': 0}
  return {'refresh_examples': config.eval.refresh_examples,
          'refresh_batch_size': config.eval.refresh_batch_size}


def _picture(samples, levels, path):
  """A grid of the first samples, where they are images."""
  if samples.x.ndim == 4 and samples.x.dtype == np.uint8:
    shown = samples.x[:GRID]
    image = sampling.grid(shown, math.ceil(math.sqrt(len(shown))), levels=levels, gap=1)
    sampling.save_png(path, image, max(1, sampling.GRID_PIXELS // image.shape[1]))


_MEASURES = {'nll': _nll, 'importance': _importance, 'latents': _latents, 'mmd': _mmd}
