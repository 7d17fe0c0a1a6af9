"""What `build` makes: all that training and evaluation need, nothing to look up in a config."""
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Run:
  """Made by `build.build`; functions are bound, intervals are in updates.

  create_state: () -> TrainState, placed on the devices. train_step: see training/step.py, bound.
  schedule: update -> level. batch: (first update, count) -> (batch, cond, mask), host arrays with
  a leading axis [count, B, ...], or None. evaluate: state -> {name: float}. sample: state ->
  ({folder: uint8 grid [H, W, C]} of samples and of what else there is to see, {name: float} of the
  samples), or None where samples are no images. data: {split: dataset.summary}, what the workdir is
  held to.
  """
  create_state: Callable[[], Any]
  train_step: Callable
  schedule: Callable
  batch: Callable[[int, int], tuple]
  evaluate: Callable[[Any], dict]
  sample: Callable[[Any], tuple[dict[str, np.ndarray], dict[str, float]]] | None
  data: dict
  overview: str          # for people: data, model, parameters, mollified phase
  seed: int
  total_steps: int
  mollified_steps: int
  batch_size: int
  steps_per_call: int
  max_nonfinite: int
  log_every: int
  log_stdout: bool       # rows to stdout too
  tensorboard: bool
  watchdog: float        # seconds without a sign of life until stacks are shown; 0: never
  eval_every: int
  sample_every: int
  patience: int          # evaluations without a better `best_metric`; 0: no early stopping
  best_metric: str       # of `evaluate`, larger is better; '' keeps no best checkpoint
  save_every: int
  keep: int
  keep_every: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What training's evaluations and the evaluation binary share.

  variables: TrainState -> model variables of the configured parameters, statistics refreshed.
  log_likelihood: (variables, split) -> likelihood.Result, on the split as stored.
  importance: the same with the importance-weighted bound of many draws; None for a model whose
    likelihood is exact.
  sample: (variables, n, allow_nonfinite=False) -> sampling.Samples in stored units; sample i is a
    function of (seed, i); fails on samples that are not finite, unless they are allowed. Several
    processes share them: all must call it. show: (variables, n) -> all of them, whatever they are,
    drawn by one process for its pictures.
  template: () -> shapes and shardings of the TrainState, to restore into.
  """
  dataset: Any
  model: Any
  prepare: Any
  variables: Callable
  log_likelihood: Callable
  importance: Callable | None
  sample: Callable
  show: Callable
  template: Callable

  @property
  def has_likelihood(self):
    """Whether a log-likelihood means anything: not one of pixels that were left discrete.

    A density there has no bound, and what a discretised decoder gives is no density.
    """
    return self.dataset.levels is None or self.prepare.bits_defined

  @property
  def exact(self):
    """Whether the log-likelihood is exact; a model's bound and dequantised pixels are bounds."""
    return self.model.EXACT_LIKELIHOOD and self.dataset.levels is None
