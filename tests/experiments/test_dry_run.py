"""What a dry run says of runs, and the record that it leaves."""
import importlib
import json

import jax
import jax.numpy as jnp
import pytest

from experiments import dry_run, estimate, image_cells, image_command
from mollification import build, data


def test_a_listing_adds_up(monkeypatch, tmp_path):
  """Ten kept checkpoints of seed 0 are looked at, each in 50,000 samples."""
  asked = []
  monkeypatch.setattr(estimate, 'of_config', lambda config, passes: estimate.Cost(
    10**6, 3e12, 9e10, 2_000, xla_flops=4e11))
  monkeypatch.setattr(estimate, 'of_sample', lambda config, network, passes: (
    asked.append((network, passes)) or 2e10))
  todo = [image_cells.cell('table1', 'paper', f'cifar10/vae/{arm}/0', tmp_path)
          for arm in ('vanilla', 'gaussian', 'blur')]
  for cell, seed in (todo[0], 0), (todo[1], 5):
    (cell.folder / 'checkpoints' / '500').mkdir(parents=True)
    config = cell.config.copy_and_resolve_references()
    config.seed = seed   # another one's updates are not this run's
    (cell.folder / 'config.json').write_text(json.dumps(config.to_dict()))
  (todo[2].folder / 'checkpoints' / '500').mkdir(parents=True)
  (todo[2].folder / 'config.json').write_text('{')
  assert todo[0].config.total_steps == 10 * todo[0].config.checkpoint.keep_every
  device, programs = dry_run.Device('tpu_v4', .5), {}
  *lines, total = dry_run.listing(todo, device, programs)
  training, measuring = (flops / 275e12 / .5 / 3600 for flops in (3e12 * 2_000, 5e4 * 2e10))
  assert lines[0] == (f'cifar10/vae/vanilla/0: 500 of 100,000 updates; 1 M parameters, 3e+03 '
                      f'GFLOP an update (XLA counts 400, the body of a loop once), 90 GB, may not '
                      f'fit, {training:.2g} h, samples and their features {measuring:.2g} h')
  assert total.startswith(f'3 runs, {2.75 * training + 3 * measuring:.2g} h left on one tpu_v4 '
                          "(275 TFLOP/s at 50%, products of precision 'highest' 6 times)")
  assert asked == [('inception_pytorch', 6)]   # of one model, once
  assert programs == {'cifar10/vae': {
    'parameters': 10**6, 'batch': 64, 'updates': 2_000, 'gflop': 3e3, 'memory_gb': 90.,
    'devices': 1, 'training_hours': pytest.approx(training),
    'measuring_hours': pytest.approx(measuring)}}


def test_estimates_are_kept_by_program_and_those_of_another_device_replaced(tmp_path):
  path, a100 = tmp_path / 'paper' / 'estimates.json', dry_run.Device('a100', .3)
  own = {'parameters': 31_000_000, 'batch': 64, 'updates': 100_000, 'gflop': 1234.5678,
         'memory_gb': 2.345, 'devices': 1, 'training_hours': 5.8642, 'measuring_hours': .123456}
  dry_run.write(path, a100, {'cifar10/vae': own, 'cifar10/glow': own})
  dry_run.write(path, a100, {'cifar10/vae': own | {'memory_gb': 3.}})
  kept = json.loads(path.read_text())
  assert kept['programs']['cifar10/glow']['gflop'] == pytest.approx(1235.)
  *_, glow, vae, _, said = dry_run.markdown(path).splitlines()
  assert glow == '| CIFAR-10 | GLOW | 31.0 M | 64 | 100,000 | 1,235 | 2.3 GB | 5.9 h | 0.12 h |'
  assert vae.split('|')[7] == ' 3 GB '
  assert said.startswith('Hours a run on one a100 (19.5 TFLOP/s at 30%), in float32; likelihoods')
  h100 = dry_run.Device('h100', .3)
  dry_run.write(path, h100, {'cifar10/vae': own})
  assert set(json.loads(path.read_text())['programs']) == {'cifar10/vae'}
  dry_run.write(path, h100, {'cifar10/glow': {'looking_hours': 1.}})   # of runs that nobody listed
  assert [line.split('|')[2] for line in dry_run.markdown(path).splitlines()[2:-2]] == [' VAE ']


def test_runs_that_two_tables_name_count_once_in_the_sum():
  wanted = {image_cells.program_of(name) for table in image_cells.TABLES
            for name in image_cells.names(table, 'paper')}
  said = dry_run._whole({name: {'training_hours': 1., 'measuring_hours': 1.} for name in wanted})
  # 42 runs, 20 of which 10 are the same (vanilla and gaussian of five models), and 6 of NVAE.
  assert said == (' With one seed an arm: table1 84 h (42 runs); table_schedules 40 h (20 runs); '
                  'table_nvae 12 h (6 runs). All together 116 h (of them 20 h of 10 runs that two '
                  'tables name, and that are trained once).')


@pytest.mark.slow
def test_the_committed_estimates_are_of_all_programs_of_the_paper(tmp_path):
  """Of their shapes and counts, FLOPs and hours; memory takes minutes to compile."""
  record = json.loads(image_command.estimates('paper').read_text())
  device = dry_run.Device(**record['device'])
  kept = record['programs']
  wanted = {image_cells.program_of(name) for table in image_cells.TABLES
            for name in image_cells.names(table, 'paper')}
  two_step = {f'{dataset}/{image_cells.TWO_STEP}' for dataset in ('cifar10', 'celeba64')}
  assert set(kept) - two_step == wanted
  nvae = 3 * sum(kept[f'{dataset}/nvae'][part] for dataset in ('cifar10', 'celeba64')
                 for part in ('training_hours', 'measuring_hours'))
  assert f'table_nvae {nvae:,.0f} h (6 runs)' in dry_run.markdown(image_command.estimates('paper'))
  for name, own in kept.items():
    if name in two_step:
      continue
    dataset, model = name.split('/')
    config = importlib.import_module(f'configs.{dataset}_{model}').get_config()
    assert (own['batch'], own['updates']) == (config.batch_size, config.total_steps), name
    shapes = jax.eval_shape(lambda config=config: build.create_state(
      config, jnp.zeros((config.batch_size, *data.spec(config.data.name)[0]), jnp.uint8), 256, 1.))
    assert own['parameters'] == sum(leaf.size for leaf in jax.tree.leaves(shapes.params)), name
    update, arguments = estimate.update_of(config)
    flops = jax.local_device_count() * estimate.matmul_flops(
      jax.make_jaxpr(update)(*arguments), device.accelerator.passes)
    # Each device makes products of parameters alone, NVAE's norms: on the four here .25 % more.
    assert 1e9 * own['gflop'] == pytest.approx(flops, rel=.003), name
    assert own['training_hours'] == pytest.approx(
      device.hours(1e9 * own['gflop'] * config.total_steps), rel=1e-3), name


def test_samples_in_the_number_of_a_split_are_not_counted(tmp_path):
  count = lambda seed: dry_run.samples_of(
    image_cells.cell('table1', 'cpu', f'fashion_mnist/vae/blur/{seed}', tmp_path))
  assert count(0) == count(1) == {'efficientnet_lite0_96': 2_000}   # the rest is a split's number
  digits = image_cells.cell('table1', 'digits', 'digits/vae/blur/0', tmp_path)
  assert dry_run.samples_of(digits) == {}
