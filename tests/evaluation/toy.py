"""What tests of the evaluator share: a network at no cost, and what it is asked for."""
from mollification.evaluation import features, moments, scoring


class Toy:
  """Stands for Inception: its outputs, at no cost."""
  name, sha256, input_mode = 'inception_pytorch', 'none', 'pytorch'

  @staticmethod
  def outputs(x):
    flat = x.reshape(len(x), -1).astype(float) / 16   # of the precision that is set
    return {'features': flat[:, :20], 'spatial': flat[:, 20:50], 'logits_unbiased': flat[:, 50:]}

  @staticmethod
  def extractor(**options):
    return features.Extractor(Toy.name, Toy.sha256, (8, 8, 1), {},
                              lambda variables, x: Toy.outputs(x), input_mode='pytorch', **options)


def passes(monkeypatch):
  """The names of the sets that the network is run over from now on."""
  names, run = [], scoring.run
  monkeypatch.setattr(scoring, 'run', lambda extractor, source, *args, **options: (
    names.append((source.name, source.split)), run(extractor, source, *args, **options))[1])
  return names


def plain_statistics(extractor, images):
  return moments.of(features.extract(extractor, images)).statistics()
