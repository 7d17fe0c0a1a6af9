"""Programs of the tables of images: those of the paper lower for accelerators, a laptop's trace."""
import jax
import pytest

from experiments import image_cells
from mollification import check
from tests import test_configs

PAPER = [(table, f'{dataset}/{model}/{arm}/0') for table, scales in image_cells.TABLES.items()
         for dataset, grid in scales['paper'].items() for model in grid.models
         for arm in grid.arms if arm not in ('vanilla', 'gaussian')]


@pytest.mark.slow
@pytest.mark.parametrize('table, name', PAPER)
def test_cells_of_the_paper_lower_for_accelerators(table, name, tmp_path):
  """Those of the other two arms are the programs of the configs, which test_configs lowers."""
  traced, _ = test_configs.traced(image_cells.cell(table, 'paper', name, tmp_path).config)
  for platform in ('tpu', 'cuda'):
    assert 'stablehlo' in traced.lower(lowering_platforms=(platform,)).as_text()[:20_000]


LAPTOP = [(dataset, model) for dataset, grid in image_cells.TABLES['table1']['cpu'].items()
          for model in grid.models]


@pytest.mark.parametrize('dataset, model', LAPTOP)
def test_runs_of_a_laptop_are_looked_at_in_whole_intervals(dataset, model, tmp_path):
  config = image_cells.cell('table1', 'cpu', f'{dataset}/{model}/vanilla/0', tmp_path).config
  check.check_ranges(config)
  assert config.total_steps % config.log.every == config.eval.every % config.log.every == 0
  assert config.total_steps == 5 * config.eval.every == 5 * config.checkpoint.keep_every


@pytest.mark.slow
@pytest.mark.parametrize('dataset, model', LAPTOP)
def test_cells_of_a_laptop_trace(dataset, model, tmp_path):
  config = image_cells.cell('table1', 'cpu', f'{dataset}/{model}/vanilla/0', tmp_path).config
  _, state = test_configs.traced(config)
  assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) < 1e6


PROGRAMS = sorted({image_cells.program_of(name): table for table, name in PAPER}.items())


@pytest.mark.slow
@pytest.mark.parametrize('program, table', PROGRAMS)
def test_what_is_measured_of_the_paper_lowers_for_accelerators(program, table, tmp_path):
  """Likelihoods and samples, which arms share."""
  config = image_cells.cell(table, 'paper', f'{program}/vanilla/0', tmp_path).config
  for traced in test_configs.traced_evaluation(config):
    for platform in ('tpu', 'cuda'):
      assert 'stablehlo' in traced.lower(lowering_platforms=(platform,)).as_text()[:20_000]
