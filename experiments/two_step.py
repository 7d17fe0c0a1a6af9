"""Two steps instead of one: a density on the latents of an autoencoder that is trained already.

Loaiza-Ganem et al., Diagnosing and fixing manifold overfitting in deep generative models, TMLR 2022
(arXiv 2204.07172): data on a manifold have no density in pixels, their latents have. A cell goes on
from the finished run of a VAE: encoder means, standardised, are the data of a RealNVP; samples are
decoded means at what it draws.
"""
import dataclasses
import functools
import pathlib
from typing import ClassVar

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import default
from experiments import cell_records, cells
from mollification import build, measure, measurements, rng
from mollification.data import dataset as data
from mollification.evaluation import features, records, sampling
from mollification.training import workdir

STD_LEAST = 1e-6   # of a latent that the encoder leaves where it is


@dataclasses.dataclass(frozen=True)
class Cell:
  """A density on the latents of the run `autoencoder` (a `cells.Cell`), and where it lives.

  `wanted` [cell_records.InFeatures] are measured of its samples, against the autoencoder's data.
  `cells.train_and_measure` trains and measures it, once its first step is done.
  """
  autoencoder: cells.Cell
  config: ConfigDict
  folder: pathlib.Path
  label: str
  wanted: tuple
  checkpoint_unit: ClassVar[int] = 1

  @property
  def networks(self):
    """What is measured in features of networks [cell_records.InFeatures]."""
    return self.wanted

  @functools.cached_property
  def _first(self):
    return Autoencoder.open(self.autoencoder.folder)

  @functools.cached_property
  def _latents(self):
    return self._first.latents()

  def build(self):
    """The run to train; raises ValueError where the first step is not done."""
    if not self.autoencoder.is_done():
      raise ValueError(f'{self.autoencoder.label} must be trained and measured first.')
    return build.build(self.config, self._latents)

  def is_done(self):
    """Whether the density is trained to its end and measured; errors of `cell_records.holds`."""
    return (cells.is_of(self) is True
            and self._holds(self.config.total_steps, self.wanted))

  def _holds(self, step, wanted):
    # Samples are drawn and quantised as the autoencoder's run says.
    return cell_records.holds(self.folder, step, wanted, self.autoencoder.config, self.wanted)

  def keep_reference(self, stop):
    """Nothing: its autoencoder's run, which is measured, has left what it needs of data alone."""

  def measure(self, state, stop):
    """Records and a grid of samples of a trained density; False where a signal cut that short."""
    first = self._first
    images, step = first.opened.evaluation.dataset, int(state.step)
    evaluation = build.build_evaluation(self.config, self._latents)
    sampler, variables = first.sampler(evaluation.model), evaluation.variables(state)
    key = rng.purpose_key(self.config.seed, 'sample')
    draw = functools.cache(lambda n: sampler(variables, key, n))
    config = first.opened.config   # it is what samples are drawn and quantised by
    common = {'params': 'raw', 'step': step, 'seed': self.config.seed,
              'settings': measure.settings_of(config),
              'config_sha256': workdir.identity(self.claimed())}
    # Before a record says that they were measured.
    measure.picture(draw(measure.GRID), images.levels,
                    self.folder / 'samples' / f'measured-raw-{step:08d}.png')
    for wanted in self.wanted:
      if stop.requested:
        return False
      if self._holds(step, (wanted,)):
        continue
      extractor = wanted.extractor() or features.for_dataset(images.name)
      split = getattr(images, wanted.split)
      for found in measurements.in_features(
          wanted.metrics, extractor, images, split,
          functools.partial(draw, wanted.num_samples or split.num_examples), config, common,
          rows_folder=self.folder / 'features', kept=self.autoencoder.kept, groups=wanted.groups):
        for record in found[::-1]:
          records.write(record, self.folder / 'records')
    return True

  def claimed(self):
    """The config that its workdir is held to: also whose latents these are."""
    own = self.autoencoder.config.to_dict()
    return self.config.to_dict() | {'autoencoder': {'config_sha256': workdir.identity(own)}}

  def is_run(self, kept):
    """Whether the config `kept`, of what is in its folder, is of this run."""
    return workdir.is_same_run(kept, self.claimed())


def density_config(seed, mollify):
  """The config of the density: 14,000 updates, of which `mollify` says how they are mollified."""
  config = default.get_config()
  default.set_model(config, 'realnvp_tabular', num_blocks=5, hidden=256)
  config.seed, config.total_steps, config.batch_size, config.steps_per_call = seed, 14_000, 256, 50
  config.optimizer.schedule = 'cosine'
  config.log.every, config.eval.every, config.checkpoint.every = 700, 1_400, 7_000
  config.log.stdout = False
  config.mollify.update_from_flattened_dict(mollify)
  return config


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
    variables = measure.restore(opened, None).variables
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
