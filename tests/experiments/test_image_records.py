"""What is committed of the tables of images: of today's configs, in time, and as docstrings say."""
import dataclasses
import importlib
import itertools
import json

import pytest

from experiments import comparison, image_cells, image_command, image_runs, table_two_step
from mollification.evaluation import records
from mollification.training import workdir

RECORDED = sorted(place for place in image_command.RESULTS.glob('*/*/*/*/*')
                  if table_two_step.MODEL not in place.parts)


def test_all_runs_of_the_tables_that_need_no_accelerator_are_committed():
  wanted = {f'{scale}/{name}' for table, scales in image_cells.TABLES.items() for scale in scales
            if scale != 'paper' for name in image_cells.names(table, scale)}
  assert {str(place.relative_to(image_command.RESULTS)) for place in RECORDED} == wanted


def test_committed_records_are_of_todays_configs(tmp_path):
  """Another config would be another run: its figures may not stand in a docstring or the README."""
  for place in RECORDED:
    scale, *name = place.relative_to(image_command.RESULTS).parts
    table = next(table for table, scales in image_cells.TABLES.items()
                 if '/'.join(name) in (image_cells.names(table, scale) if scale in scales else ()))
    cell = image_cells.cell(table, scale, '/'.join(name), tmp_path)
    wanted = workdir.identity(json.loads(json.dumps(cell.config.to_dict())))
    found = records.read_all(place / 'records')
    assert {record.config_sha256 for record in found} == {wanted}, place
    assert workdir.identity(workdir.read_config(place)) == wanted
    assert dataclasses.replace(cell, folder=place).is_measured(), place


def test_evaluation_takes_a_fifth_of_training():
  """At most, inside of it and after it, in every run of a laptop.

  Of four with other schedules that is known of a bound, with all in it that was no update.
  """
  taken = {place: image_runs.time_of(place) for place in RECORDED if 'cpu' in place.parts}
  table = {image_command.RESULTS / 'cpu' / name for name in image_cells.names('table1', 'cpu')}
  assert (len(taken), len(table)) == (97, 91)
  assert not any(own.cut for own in taken.values())
  share = {place: own.evaluation_most if own.evaluation is None and place not in table
           else own.evaluation for place, own in taken.items()}
  assert {place: own for place, own in share.items() if own is None or own > .2} == {}


def test_evaluation_of_second_steps_takes_a_fifth_of_their_own_training():
  folder = image_command.RESULTS / 'cpu' / 'fashion_mnist' / table_two_step.MODEL
  share = {place: image_runs.time_of(place).evaluation for place in sorted(folder.glob('*/*'))}
  assert len(share) == 6
  assert {place: own for place, own in share.items() if own is None or own > .2} == {}


def test_the_table_of_a_laptop_takes_seven_hours_of_two_cores():
  named = {f'cpu/{name}' for name in image_cells.names('table1', 'cpu')}
  taken = [image_runs.time_of(image_command.RESULTS / name) for name in named]
  assert len(taken) == 91
  assert sum(own.whole for own in taken) / 2 <= 7 * 3_600


@pytest.mark.parametrize('scale, dataset, distance, least', [
  ('digits', 'digits', 'frechet', 6), ('cpu', 'fashion_mnist', 'frechet', 7),
  ('cpu', 'photo_patches', 'frechet@efficientnet_lite0_96', 7)])
def test_figures_in_docstrings_are_those_of_the_records(scale, dataset, distance, least):
  found = [cell for cell, _ in comparison.read(image_command.RESULTS / scale / dataset)]
  quoted, grid = 0, image_cells.TABLES['table1'][scale][dataset]
  for model in grid.models:
    text = ' '.join(importlib.import_module(f'configs.{dataset}_{model}').__doc__.split())
    if 'results/images' not in text:
      continue
    for metric, arm in itertools.product(('log_likelihood', distance), grid.arms):
      own = [c.value for c in found if c.model.split(' (')[0] == model
             and (c.metric, c.arm) == (metric, arm)]
      assert comparison.shown(comparison.Moments.of(own)) in text, (model, metric, arm)
      assert f'{len(own)} seeds' in text
    if 'not at this size' in text:
      own = image_cells.config_of(grid, dataset, model, 'vanilla', 0)
      assert f'{own.total_steps:,} updates' in text
      assert model != 'realnvp' or f'one block of {own.model.features} features' in text
    quoted += 1
  assert quoted >= least


@pytest.mark.parametrize('scale, dataset', [
  ('digits', 'digits'), ('cpu', 'fashion_mnist'), ('cpu', 'photo_patches')])
def test_docstrings_say_what_share_of_the_samples_is_not_finite(scale, dataset):
  """Of every model that has records, and of no other one that it lost any."""
  found = list(comparison.read(image_command.RESULTS / scale / dataset))
  counts, grid = image_runs.counted(found, 'nonfinite_samples'), image_cells.TABLES['table1'][scale]
  losing = set()
  for model in {cell.model for cell, _ in found}:
    name, shares = model.split(' (')[0], []
    if name not in grid[dataset].models:   # a second step on a run of another model
      continue
    for arm in grid[dataset].arms:
      sizes, lost = zip(*counts[model, arm].values())
      share = 100 * sum(lost) / sum(sizes)
      shares.append(f'{share:.0f} %' if share >= 10 else f'{share:.1f} %'.lstrip('0'))
    text = ' '.join(importlib.import_module(f'configs.{dataset}_{name}').__doc__.split())
    if all(share == '.0 %' for share in shares):
      assert 'not finite' not in text, model
      continue
    *others, last = [f'{shares[0]} (vanilla)', *shares[1:]]
    assert f'Of the samples {", ".join(others)} and {last} are not finite' in text, model
    losing.add(name)
  assert losing == {'glow'}
