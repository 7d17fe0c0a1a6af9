"""What each metric of a checkpoint is computed from: functions that make Records.

`MEASURES` are of the model; `in_features` are of samples in the features of a network.
"""
import math
import time

import jax
import numpy as np

from mollification import rng
from mollification.evaluation import (
  features,
  frechet,
  mmd,
  records,
  reference,
  scoring,
  sources,
)
from mollification.models import latent

# Of the data set's own network unless another is named; 'frechet' is 'fid' there.
IN_FEATURES = ('frechet', *scoring.METRICS, 'copies')
OF_SAMPLES = ('mmd', *IN_FEATURES)   # the others draw none
LISTED = 4096   # latents of which a record lists each; NVAE has more at the size of CIFAR-10
# The records of a metric that has several, or another name; bits/dim are not always defined.
RECORDS = {'nll': ('log_likelihood', 'bits_per_dim'),
           'importance': ('importance_bound', 'importance_bits_per_dim'),
           'mmd': ('mmd2',), 'latents': ('active_units',),
           'pr': ('precision', 'recall', 'density', 'coverage'),
           'copies': ('near_share', 'far_share')}


def reference_of(dataset, split):
  """`Record.reference` of a split."""
  return {'dataset': dataset.name, 'split': split.name, 'n': split.num_examples,
          'sha256': split.sha256}


def _nll(evaluation, variables, split, samples, config, common):
  """Mean log-likelihood in nats per example and, where it is defined, bits/dim.

  Of a VAE `extra` says of how many draws the bound is: those of an IWAE are nearer to the truth.
  """
  del samples, config
  start, model = time.monotonic(), evaluation.model
  result = evaluation.log_likelihood(variables, split)
  extra = {'draws': model.draws} if isinstance(model, latent.LatentModel) else {}
  return _in_nats_and_bits('nll', result, time.monotonic() - start, extra, exact=evaluation.exact,
                           reference=reference_of(evaluation.dataset, split), **common)


def _importance(evaluation, variables, split, samples, config, common):
  """Importance-weighted bound on the mean log-likelihood, in nats per example and bits/dim."""
  del samples
  start = time.monotonic()
  result = evaluation.importance(variables, split)
  return _in_nats_and_bits('importance', result, time.monotonic() - start, {}, exact=False,
                           reference=reference_of(evaluation.dataset, split),
                           **with_settings(common, draws_of(config)))


def _in_nats_and_bits(metric, result, seconds, extra, **common):
  common |= {'n': result.n, 'seconds': seconds, 'extra': {'nonfinite': result.nonfinite, **extra}}
  nats, bits = RECORDS[metric]
  found = [records.Record(metric=nats, value=result.mean, unit='nats', standard_error=result.sem,
                          **common)]
  if result.bits_per_dim is not None:
    found.append(records.Record(metric=bits, value=result.bits_per_dim, unit='bits/dim',
                                standard_error=result.bits_per_dim_sem, **common))
  return found


def _latents(evaluation, variables, split, samples, config, common):
  """How many latents the encoder uses, and in `extra` the moments of the aggregated posterior.

  Those of each latent, where they are at most `LISTED`; else the means over latents. Of a posterior
  that is no Gaussian they are of two draws for each example.
  """
  del samples
  start, model = time.monotonic(), evaluation.model

  @jax.jit
  def look(variables, rows, keys):
    keys = jax.vmap(jax.random.split)(keys)
    x = evaluation.prepare(rows, keys[:, 0])   # pixels as the likelihoods have them
    if model.GAUSSIAN_POSTERIOR:
      return model.apply(variables, x, method='encode')
    keys = jax.vmap(jax.random.split)(keys[:, 1])
    return tuple(model.apply(variables, x, keys[:, i], method='draw_latents') for i in (0, 1))

  size, key = config.eval.batch_size, rng.purpose_key(config.seed, 'evaluate')
  aggregate = latent.aggregate if model.GAUSSIAN_POSTERIOR else latent.aggregate_draws
  result = aggregate(
    look(variables, rows, rng.range_keys(key, first, len(rows)))
    for first in range(0, split.num_examples, size)
    for rows in [np.asarray(split.x[first:first + size])])
  each = {name: np.asarray(value) for name, value in result._asdict().items()}
  extra = {name: value.tolist() if len(value) <= LISTED else float(value.mean())
           for name, value in each.items()}
  return [records.Record(
    metric='active_units', value=float(result.active_units), standard_error=None, unit='1',
    n=split.num_examples, reference=reference_of(evaluation.dataset, split),
    seconds=time.monotonic() - start, extra=extra, **common)]


def _mmd(evaluation, variables, split, samples, config, common):
  """Squared RBF-MMD between samples and the split, in stored units."""
  del variables
  start = time.monotonic()
  unseen = mmd.reference(_flat(split.x))
  estimate = mmd.mmd2(_flat(samples().x), unseen)
  return [records.Record(
    metric='mmd2', value=estimate.value, standard_error=estimate.standard_error, unit='1',
    n=estimate.n, reference=reference_of(evaluation.dataset, split),
    seconds=time.monotonic() - start,
    extra={'bandwidths': list(unseen.bandwidths), 'nonfinite_samples': samples().nonfinite},
    **with_settings(common, sampling_of(config)))]


def passes_of(metrics):
  """What `scoring` calls the metrics in features; copies need features, as kid does."""
  return list(dict.fromkeys({'frechet': 'fid', 'copies': 'kid'}.get(m, m) for m in metrics))


def in_features(metrics, extractor, dataset, split, samples, config, common, *, rows_folder, kept,
                groups=frechet.GROUPS):
  """[Record] of each metric between samples and the split in the features of a network.

  Features of samples are mapped from a nameless file in `rows_folder`, what is extracted of data is
  left in the folder `kept`; None keeps nothing. `groups` are those of the jackknife.
  """
  start = time.monotonic()
  passes, source = passes_of(metrics), sources.from_array(samples().x, 'samples')
  if not features.is_own(extractor, dataset.name):
    sources.state_notes(sources.notes_on_levels(dataset.name, dataset.levels))
  with scoring.Progress(source) as progress:
    own = scoring.run(extractor, source, passes, groups=groups, progress=progress.show,
                      rows_folder=rows_folder)
  unseen = unseen_in_features(metrics, extractor, dataset, split, kept)
  common = with_settings(common, sampling_of(config)) | {
    'n': own.n, 'unit': '1', 'features': features_of(extractor, config),
    'reference': reference_of(dataset, split)}
  extra = {'nonfinite_samples': samples().nonfinite, 'precision': extractor.precision} | (
    {'weights': extractor.origin} if extractor.origin else {})
  for metric in dict.fromkeys('fid' if m == 'frechet' else m for m in metrics):
    if metric == 'copies':
      found = scoring.copies(own.rows, *seen_in_features(unseen, extractor, dataset, split, kept))
    else:
      found = scoring.figures([metric], own, unseen, extractor)
    yield [records.Record(metric=f.metric, value=f.value, standard_error=f.standard_error,
                          extra=f.extra | extra, seconds=time.monotonic() - start, **common)
           for f in found]


def unseen_in_features(metrics, extractor, dataset, split, kept):
  """The `scoring.Reference` that `metrics` hold samples against.

  It is in the folder `kept`, or left there; None keeps nothing.
  """
  return reference.of_split(extractor, dataset.name, split, passes_of(metrics), kept,
                            own_parts=metrics)


def seen_in_features(unseen, extractor, dataset, split, kept):
  """Of `copies`: features of the training data, and distances [n] to them from those of the split.

  The latter, `unseen`, are as `unseen_in_features` gives them; `kept` is as there.
  """
  rows = reference.of_split(extractor, dataset.name, dataset.train, ['kid'], kept).rows
  return rows, reference.to_nearest(
    extractor, dataset.name, split, unseen.rows, dataset.train, rows, kept)


def features_of(extractor, config):
  """`Record.features` of samples quantised as the config says."""
  return scoring.identity(extractor) | {'quantisation': config.eval.quantize}


def _flat(rows):
  return np.asarray(rows).reshape(len(rows), math.prod(rows.shape[1:])).astype(np.float64)


def draws_of(config):
  """Settings of the importance-weighted bound."""
  return {'draws': config.eval.importance_samples}


def with_settings(common, settings):
  """Fields of a record with more settings."""
  return common | {'settings': common['settings'] | settings}


def sampling_of(config):
  """Settings of samples."""
  return {'temperature': config.eval.temperature, 'quantize': config.eval.quantize}


MEASURES = {'nll': _nll, 'importance': _importance, 'latents': _latents, 'mmd': _mmd}
