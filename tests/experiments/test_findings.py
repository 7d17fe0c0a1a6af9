"""What is found is counted from what is decided, and by which side."""
import types

import pytest

from experiments import alternatives_table, findings, grid, mechanism_table


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
