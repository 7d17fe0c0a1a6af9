"""Two steps instead of one: a density on the latents of an autoencoder that is trained already.

Loaiza-Ganem et al., Diagnosing and fixing manifold overfitting in deep generative models, TMLR 2022
(arXiv 2204.07172): data on a manifold have no density in pixels, their latents have. A cell goes on
from the finished run of a VAE: encoder means, standardised, are the data of a RealNVP; samples are
decoded means at what it draws.
"""
import dataclasses
import functools
import pathlib
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import default
from experiments import cell_records, cells
from mollification import build, measure, measurements, rng
from mollification.data import dataset as data
from mollification.evaluation import features, records, sampling
from mollification.training import loop, preemption, workdir

STD_LEAST = 1e-6   # of a latent that the encoder leaves where it is


@dataclasses.dataclass(frozen=True)
class Cell:
  """A density on the latents of the run `autoencoder` (a `cells.Cell`), and where it lives.

  `wanted` [cell_records.InFeatures] are measured of its samples, against the autoencoder's data.
  """
  autoencoder: cells.Cell
  config: ConfigDict
  folder: pathlib.Path
  label: str
  wanted: tuple


def density_config(seed, mollify):
  """The config of the density: 3,000 updates, of which `mollify` says how they are mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_tabular', num_blocks=5, hidden=256)
  config.seed, config.total_steps, config.batch_size, config.steps_per_call = seed, 3_000, 256, 50
  config.optimizer.schedule = 'cosine'
  config.log.every, config.eval.every, config.checkpoint.every = 150, 300, 1_500
  config.log.stdout = False
  config.mollify.update_from_flattened_dict(mollify)
  return config


def train_and_measure(cell):
  """What `cells.train_and_measure` does, of a `Cell` of two steps whose first step is done.

  Raises ValueError where it is not.
  """
  if is_done(cell):
    return None
  if not cells.is_done(cell.autoencoder):
    raise ValueError(f'{cell.autoencoder.label} must be trained and measured first.')
  start, fresh = time.monotonic(), not (cell.folder / 'config.json').exists()
  with preemption.Preemption() as stop, workdir.lock(cell.folder):
    stop.armed = True   # a worker that ends on the spot would take the others with it
    for wanted in cell.wanted:
      wanted.extractor()   # what is not there is missed before hours are spent
    first = Autoencoder.open(cell.autoencoder.folder)
    latents = first.latents()
    run = build.build(cell.config, latents)
    workdir.claim(cell.folder, claimed(cell), run.data)
    outcome = loop.train(run, cell.folder, stop=stop, label=f'{cell.label}: ')
    if outcome.reason == 'preempted':
      return None
    trained = time.monotonic()
    if not _measure(cell, first, build.build_evaluation(cell.config, latents), outcome.state, stop):
      return None
    cell_records.write_seconds(cell.folder, training=trained - start if fresh else None,
                               measuring=time.monotonic() - trained)
  return time.monotonic() - start if fresh else None


def claimed(cell):
  """The config that the density's workdir is held to: its own, and whose latents these are."""
  own = cell.autoencoder.config.to_dict()
  return cell.config.to_dict() | {'autoencoder': {'config_sha256': workdir.identity(own)}}


def is_done(cell):
  """Whether the density is trained to its end and measured."""
  kept = workdir.read_config(cell.folder)
  return (kept is not None and workdir.identity(kept) == workdir.identity(claimed(cell))
          and cell_records.holds(cell.folder, cell.config.total_steps, cell.wanted))


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """A trained VAE with the moments of its encoder's means over the training data, [Z] each."""
  opened: measure.Opened
  variables: dict
  rows: dict          # {split: means [N, Z]}
  mean: np.ndarray
  std: np.ndarray

  @classmethod
  def open(cls, folder):
    """The run in `folder` at its last checkpoint."""
    opened = measure.open_run(folder)
    evaluation = opened.evaluation
    variables = evaluation.variables(measure.restore(opened.folder, None, opened.template))
    encode = jax.jit(lambda rows, keys: evaluation.model.apply(
      variables, evaluation.prepare(rows, keys), method='encode')[0])
    size, key = opened.config.eval.batch_size, rng.purpose_key(opened.config.seed, 'evaluate')
    rows = {name: np.concatenate([
      encode(np.asarray(x[at:at + size]), rng.range_keys(key, at, len(x[at:at + size])))
      for at in range(0, len(x), size)])
      for name in data.SPLITS for x in [getattr(evaluation.dataset, name).x]}
    return cls(opened, variables, rows, rows['train'].mean(0),
               np.maximum(rows['train'].std(0), STD_LEAST))

  def latents(self):
    """The encoder's means, standardised, as a table."""
    return data.Dataset('latents', levels=None, **{
      name: data.Split(name, np.asarray((rows - self.mean) / self.std, np.float32))
      for name, rows in self.rows.items()})

  def sampler(self, density):
    """sampler(variables of the density, key, n) -> Samples, of images as they are stored."""
    evaluation = self.opened.evaluation

    def draw(variables, keys, temperature):
      own, variables = variables
      z = density.apply(own, keys, temperature=temperature, method='sample')
      return evaluation.model.apply(variables, z * self.std[None] + self.mean[None],
                                    method='decode')

    config = self.opened.config.eval
    made = sampling.make_sampler(
      draw, functools.partial(evaluation.prepare.invert, quantize=config.quantize),
      batch_size=config.batch_size, temperature=config.temperature, allow_nonfinite=True)
    return lambda own, key, n: made((own, self.variables), key, n)


def _measure(cell, first, evaluation, state, stop):
  """Records and a grid of samples of a trained density; False where a signal cut that short."""
  images, step = first.opened.evaluation.dataset, int(state.step)
  sampler, variables = first.sampler(evaluation.model), evaluation.variables(state)
  key = rng.purpose_key(cell.config.seed, 'sample')
  draw = functools.cache(lambda n: sampler(variables, key, n))
  config = first.opened.config   # it is what samples are drawn and quantised by
  common = {'params': 'raw', 'step': step, 'seed': cell.config.seed,
            'settings': measure.settings_of(config),
            'config_sha256': workdir.identity(claimed(cell))}
  for wanted in cell.wanted:
    if stop.requested:
      return False
    extractor = wanted.extractor() or features.for_dataset(images.name)
    split = getattr(images, wanted.split)
    for found in measurements.in_features(
        wanted.metrics, extractor, images, split,
        functools.partial(draw, wanted.num_samples or split.num_examples), config, common,
        rows_folder=cell.folder / 'features', kept=cell.autoencoder.kept, groups=wanted.groups):
      for record in found[::-1]:
        records.write(record, cell.folder / 'records')
  measure.picture(draw(measure.GRID), images.levels,
                  cell.folder / 'samples' / f'measured-raw-{step:08d}.png')
  return True
