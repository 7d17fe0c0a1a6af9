"""Inception score, from logits that arrive in pieces; float64, in constant memory."""
from typing import NamedTuple

import numpy as np

SPLITS = 10


class Score(NamedTuple):
  """Mean and standard deviation (divisor: their number) of the score over the splits."""
  mean: float
  deviation: float


class InceptionScore:
  """exp(mean_x KL(p(y|x) | p(y))) (Salimans et al. 2016, arXiv 1606.03498) over contiguous splits.

  `n` samples are announced beforehand, so that split s is rows s n // splits to (s + 1) n // splits
  and nothing is kept but sums. Published figures use logits without the last layer's bias, 50 000
  samples and 10 splits. Raises ValueError for fewer samples than splits.
  """

  def __init__(self, n, splits=SPLITS):
    if n < splits:
      raise ValueError(f'the score over {splits} splits needs as many samples, got {n}.')
    self._edges = np.arange(splits + 1) * n // splits
    self._seen = 0
    self._entropy, self._marginal = np.zeros(splits), None

  def add(self, logits):
    """Logits [b, classes] of the next samples; returns self. ValueError beyond the n announced."""
    logits = np.asarray(logits, np.float64)
    if self._seen + len(logits) > self._edges[-1]:
      raise ValueError(f'{self._edges[-1]} samples were announced, got '
                       f'{self._seen + len(logits)}.')
    if self._marginal is None:
      self._marginal = np.zeros((len(self._edges) - 1, logits.shape[1]))
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    p = np.exp(log_p)
    split = np.searchsorted(self._edges, self._seen + np.arange(len(p)), side='right') - 1
    np.add.at(self._entropy, split, (p * log_p).sum(1))
    np.add.at(self._marginal, split, p)
    self._seen += len(p)
    return self

  def score(self):
    """The `Score`; ValueError before all samples that were announced have been added."""
    if self._seen != self._edges[-1]:
      raise ValueError(f'{self._edges[-1]} samples were announced, got {self._seen}.')
    sizes = np.diff(self._edges)
    marginal = self._marginal / sizes[:, None]
    with np.errstate(divide='ignore'):   # a class that never occurs has p log p = 0
      entropy = np.where(marginal > 0, marginal * np.log(marginal), 0).sum(1)
    scores = np.exp(self._entropy / sizes - entropy)
    return Score(float(scores.mean()), float(scores.std()))
