"""What is found is counted from what is decided, and by which side."""
import types

import pytest

from experiments import (
  alternatives_table,
  comparison,
  findings,
  grid,
  image_table,
  image_verdicts,
  mechanism_table,
  paper_rows,
)


def _row(mean, interval):
  return types.SimpleNamespace(difference=types.SimpleNamespace(mean=mean), interval=interval)


@pytest.fixture
def _everything(monkeypatch):
  monkeypatch.setattr(grid, 'recorded', lambda folder, labels: list(labels)[:1])
  monkeypatch.setattr(alternatives_table, 'recorded', lambda folder: ['a', 'b'])


@pytest.mark.usefixtures('_everything')
def test_of_the_mechanism_what_is_decidedly_below_is_counted_at_both_times(monkeypatch):
  rows = {'gradient_on': (_row(-2., 1.), _row(2., 1.)),   # below, then above
          'gradient_low': (_row(-1., 2.), _row(-3., 2.)),   # undecided, then below
          'sharpness': (_row(-2., 1.), _row(1., 2.))}
  monkeypatch.setattr(mechanism_table, 'curves', lambda folder: ({}, 1))
  monkeypatch.setattr(mechanism_table, 'landscape', lambda found: rows)
  assert findings._mechanism() == (
    'of 3 figures of gradient and sharpness 2 are decidedly below those of vanilla training in the '
    'mollified phase, and 1 at the end.')


@pytest.mark.usefixtures('_everything')
def test_alternatives_are_counted_by_figure(monkeypatch):
  last, selected = (types.SimpleNamespace(title=title) for title in ('last', 'selected'))
  monkeypatch.setattr(alternatives_table, 'verdicts', lambda folder, data: [
    ('a', last, 'ema', 'better'), ('a', last, 'clipping', 'worse'), ('b', last, 'ema', 'undecided'),
    ('a', selected, 'ema', 'undecided')])
  assert findings._alternatives().endswith(
    'on 2 data sets. last: better in 1, worse in 1, undecided in 1 (by chance 0.15); selected: '
    'better in 0, worse in 0, undecided in 1 (by chance 0.05).')


def _cells(model, metric, arm, *differences):
  """Of seeds whose vanilla run has 10."""
  return [comparison.Cell(model, which, seed, metric, 10. + more)
          for seed, difference in enumerate(differences)
          for which, more in (('vanilla', 0.), (arm, difference))]


def _of_images(monkeypatch, *cells, table='table1', dataset='fashion_mnist'):
  """Tables of images have these cells, and no other scale has any."""
  monkeypatch.setattr(image_table, 'read', lambda root, name, scale: (
    {dataset: [(cell, None) for cell in cells]} if (name, scale) == (table, 'cpu') else {}))


def test_of_images_lines_are_counted_by_verdict_and_the_decided_are_named(monkeypatch):
  """Of both metrics of a line, so that a mixed one is in both lists and no undecided line."""
  _of_images(
    monkeypatch, *_cells('glow', 'frechet', 'gaussian', -1., -1.01),
    *_cells('realnvp', 'frechet', 'blur', -1., -1.01),
    *_cells('realnvp', 'log_likelihood', 'blur', -2., -2.01),
    *_cells('hvae', 'frechet', 'blur', 1., -1.), *_cells('vae', 'frechet', 'blur', 1.))
  monkeypatch.setattr(image_verdicts, 'added', lambda folder: {})
  assert findings._images('cpu', 'fashion_mnist') == (
    'better: GLOW noise -1.005 ± 0.064 (Fréchet distance), RealNVP blur -1.00 ± 0.13 (Fréchet '
    'distance); worse: RealNVP blur -2.00 ± 0.13 nats; undecided: 1 of 3 lines, a model and an '
    'arm each, of which chance alone would decide 0.15 (and 1 of one seed, which decide nothing).')


def test_what_mollifying_costs_stands_beside_what_it_brings(monkeypatch):
  """Of arms that mollify; what is not decided is counted, and named by no figure."""
  monkeypatch.setattr(image_verdicts, 'added', lambda folder: {
    ('vae', 'vanilla'): (10., 5., 1.), ('vae', 'gaussian'): (50., 2., 1.),
    ('glow', 'gaussian'): (50., 4., 5.), ('hvae', 'gaussian'): (50., -2., 1.)})
  assert findings._cost(None) == (
    ' Mollifying makes an update decidedly longer in 1 of 3 such lines, by up to 4.0% of it.')


def test_a_row_of_several_models_names_the_one_that_was_measured(monkeypatch):
  """And of the ablation of schedules noise alone is nothing: it is in every table."""
  paper_rows._rows.cache_clear()
  _of_images(
    monkeypatch, *_cells('vae', 'frechet', 'gaussian', 1., 1.1),
    *_cells('vae', 'frechet', 'cosine', -1., 1.), *_cells('glow', 'frechet', 'gaussian', 1., 1.1),
    table='table_schedules')
  assert paper_rows._measured('table_schedules', 'glow', 'vae') == (
    'needs an accelerator; narrow nets, VAE, Fashion-MNIST distance 10.000 ± 0.000, gaussian '
    '**+1.05 ± 0.64**, cosine +0 ± 13 (seeds: 2)'.replace('**', '~~'))
  paper_rows._rows.cache_clear()
