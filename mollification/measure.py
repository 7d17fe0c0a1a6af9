"""A checkpoint and a list of metrics in, records out: what the evaluation binary does."""
import dataclasses
import functools
import math
import pathlib
import time

import numpy as np
from ml_collections import ConfigDict

from mollification import build
from mollification.evaluation import features, frechet, mmd, records
from mollification.training import checkpoint, workdir
from mollification.training.run import Evaluation


@dataclasses.dataclass(frozen=True)
class Opened:
  """A run to be measured: what does not change from checkpoint to checkpoint."""
  folder: pathlib.Path
  config: ConfigDict
  identity: str
  evaluation: Evaluation


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
  if params:
    config.eval.params = params
  build.check_params(config)
  return Opened(folder, config, workdir.identity(plain), _evaluation(config, folder))


def measure(run, metrics, *, step=None, split='test', num_samples=0, write=True):
  """Measure `metrics` of one checkpoint of an Opened run: Records, written if `write`.

  `step` is a number of updates, 'best', or None for the newest. `num_samples` of 0 takes as many
  as the split has examples. Raises ValueError on unknown names and FileNotFoundError where there
  is no such checkpoint.
  """
  _check_names(metrics, split)
  evaluation, config = run.evaluation, run.config
  state = _restore(run.folder, step, evaluation.template())
  variables = evaluation.variables(state)
  held_out = getattr(evaluation.dataset, split)
  samples = functools.cache(
    lambda: evaluation.sample(variables, num_samples or held_out.num_examples))

  common = {'params': config.eval.params, 'step': int(state.step), 'seed': config.seed,
            'config_sha256': run.identity}
  found = []
  for metric in metrics:
    found += METRICS[metric](evaluation, variables, held_out, samples, config, common)
  for record in found if write else ():
    records.write(record, run.folder / 'records')
  return found


def steps(folder):
  """Steps of the checkpoints that a workdir holds at present, ascending."""
  path = pathlib.Path(folder) / 'checkpoints'
  if not path.is_dir():
    return []
  with checkpoint.manager(path, read_only=True) as manager:
    return sorted(manager.all_steps())


def watch(folder, measure_step, *, poll_seconds=2.):
  """Call `measure_step(step)` for each checkpoint as it appears, in order.

  Returns once nothing trains in `folder` and none is left. Training keeps the newest few only: a
  checkpoint that is deleted while it is read is skipped with one line.
  """
  done = set()
  if workdir.read_config(folder) is None and not workdir.in_use(folder):
    raise FileNotFoundError(f'{folder} holds no run, and nothing trains there; check --workdir.')
  while True:
    training = workdir.in_use(folder)   # before the look, so that a last one is not missed
    fresh = [step for step in steps(folder) if step not in done]
    for step in fresh:
      try:
        measure_step(step)
      except Exception as error:   # what is raised depends on the file that went first
        if step in steps(folder):
          raise
        reason = str(error).splitlines()[0][:100]
        print(f'step {step:,} is gone, skipped ({reason})', flush=True)
      done.add(step)
    if not fresh and not training:
      return
    time.sleep(poll_seconds)


def _check_names(metrics, split):
  unknown = [m for m in metrics if m not in METRICS]
  if unknown or not metrics:
    raise ValueError(f'unknown metric {unknown[0] if unknown else ""!r}; known: '
                     f'{", ".join(METRICS)}.')
  if split not in ('train', 'validation', 'test'):
    raise ValueError(f"split must be train, validation or test, got {split!r}.")


def _evaluation(config, folder):
  try:
    return build.build_evaluation(config)
  except AttributeError as error:
    if not isinstance(error.obj, ConfigDict):   # a key that is read and is not there
      raise
    raise ValueError(f'{folder}/config.json lacks the key {error}: another version of the package '
                     'wrote it; measure it with that one.') from error


def _restore(folder, step, template):
  name = 'best' if step == 'best' else 'checkpoints'
  path = pathlib.Path(folder) / name
  if not path.is_dir():
    raise FileNotFoundError(f'{folder} holds no {name}; train there first.')
  with checkpoint.manager(path, read_only=True) as manager:
    state = checkpoint.restore(manager, template, None if step == 'best' else step)
  if state is None:
    raise FileNotFoundError(f'{path} holds no checkpoint yet.')
  return state


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
    'extra': {'nonfinite': result.nonfinite, 'draws': config.eval.importance_samples}}
  found = [records.Record(metric='importance_bound', value=result.mean, unit='nats',
                          standard_error=result.sem, **common)]
  if result.bits_per_dim is not None:
    found.append(records.Record(metric='importance_bits_per_dim', value=result.bits_per_dim,
                                unit='bits/dim', standard_error=result.bits_per_dim_sem,
                                **common))
  return found


def _mmd(evaluation, variables, split, samples, config, common):
  """Squared RBF-MMD between samples and the split, in stored units."""
  del variables
  start = time.monotonic()
  reference = mmd.reference(_flat(split.x))
  estimate = mmd.mmd2(_flat(samples().x), reference)
  return [records.Record(
    metric='mmd2', value=estimate.value, standard_error=estimate.standard_error, unit='1',
    n=estimate.n, reference=_reference(evaluation, split), seconds=time.monotonic() - start,
    extra={'bandwidths': list(reference.bandwidths)} | _sampling(config, samples()), **common)]


def _frechet(evaluation, variables, split, samples, config, common):
  """Fréchet distance between samples and the split in the features of the data set's network."""
  del variables
  extractor = features.for_dataset(evaluation.dataset.name)
  start = time.monotonic()
  reference = frechet.statistics(features.extract(extractor, split.x))
  estimate = frechet.frechet_with_error(features.extract(extractor, samples().x), reference)
  return [records.Record(
    metric='frechet', value=estimate.value, standard_error=estimate.standard_error, unit='1',
    n=estimate.n, reference=_reference(evaluation, split), seconds=time.monotonic() - start,
    features={'net': extractor.name, 'sha256': extractor.sha256, 'input_mode': 'uint8',
              'quantisation': config.eval.quantize},
    extra={'bias_corrected': estimate.bias_corrected} | _sampling(config, samples()), **common)]


def _flat(rows):
  return np.asarray(rows).reshape(len(rows), math.prod(rows.shape[1:])).astype(np.float64)


def _sampling(config, samples):
  return {'temperature': config.eval.temperature, 'nonfinite_samples': samples.nonfinite}


METRICS = {'nll': _nll, 'importance': _importance, 'mmd': _mmd, 'frechet': _frechet}
