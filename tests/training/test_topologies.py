"""A run saved on some processes and devices goes on, on others, as it would have on one."""
import json
import shutil

import numpy as np
import pytest

from tests.training import alike, tiny, topology

pytestmark = pytest.mark.usefixtures('no_key_reuse_check')

MATRIX = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2)]   # (processes, devices of each)


@pytest.mark.slow
@pytest.mark.parametrize('family', ['vae', 'flow', 'flow-adam', 'glow'])
def test_any_topology_goes_on_from_any_other(family, tmp_path, record_property):
  """Each cuts a run that every one resumes; losses and states are those of the straight run."""
  wanted = topology.leaves(topology.straight(tmp_path, family).state)
  rows, differences = tiny.rows(tmp_path / 'straight'), np.zeros((len(MATRIX),) * 2)
  sources = [tmp_path / f'from-{i}' for i in range(len(MATRIX))]
  for source, (processes, devices) in zip(sources, MATRIX):
    source.mkdir()
    alike.task('cut', source, processes, devices, family)
  for j, (processes, devices) in enumerate(MATRIX):
    target = tmp_path / f'on-{j}'
    for i, source in enumerate(sources):
      shutil.copytree(source / 'cut', target / f'cut-{i}')
    alike.task('resume_each', target, processes, devices, family)   # in one start of the processes
    for i in range(len(MATRIX)):
      alike.assert_states(alike.saved(target / f'{i}.npz'), wanted)
      found = tiny.rows(target / f'cut-{i}')
      alike.assert_rows(found, rows)
      differences[i, j] = max(abs(a['train/loss'] / b['train/loss'] - 1)
                              for a, b in zip(found, rows))
  record_property('pairs', len(MATRIX) ** 2)
  record_property('largest relative difference of a loss', f'{differences.max():.1e}')
  for (processes, devices), row in zip(MATRIX, differences):
    record_property(f'saved on {processes}×{devices}',
                    ' / '.join(f'{difference:.1e}' for difference in row))


@pytest.mark.slow
def test_a_cut_run_of_two_processes_of_two_devices_ends_like_the_straight_one(tmp_path):
  """Bit for bit, as with one device in each in the fast tier."""
  alike.task('everything', tmp_path, 2, 2)
  for i in range(2):
    said = json.loads((tmp_path / f'said-{i}.json').read_text())
    assert (said['devices'], said['same']) == (4, True)
  assert tiny.rows(tmp_path / 'cut') == tiny.rows(tmp_path / 'straight')


@pytest.mark.slow
def test_scanned_updates_of_padded_batches_are_those_of_one_process(tmp_path):
  """Two in a call, of a flow with BatchNorm; of the last batch the second process has nothing."""
  here = tmp_path / 'here'
  wanted = topology.leaves(topology.padded(here, 'flow').state)
  state = alike.task('padded', tmp_path, 2, 2, 'flow')
  assert state.keys() == wanted.keys()
  for name, a in state.items():   # sums of other parts: by more than 1e-6 of a few statistics
    largest = max(1., np.abs(wanted[name]).max())
    np.testing.assert_allclose(a, wanted[name], rtol=1e-5, atol=1e-5 * largest)
  found, rows = (tiny.rows(folder / 'padded') for folder in (tmp_path, here))
  assert [row['step'] for row in found] == [2, 4, 6, 8]
  for a, b in zip(found, rows, strict=True):
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-6, atol=1e-6)
