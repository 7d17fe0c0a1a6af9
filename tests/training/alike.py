"""What runs on several processes and devices must have in common, and tasks that they do."""
import numpy as np

from tests import several

ROUNDING = 1e-5   # above what is left of terms of a few units that cancel


def saved(path):
  """The leaves that a task of topology.py saved."""
  with np.load(path) as archive:
    return dict(archive)


def assert_states(found, wanted):
  """Leaves of two states, to 1e-6; momentum, which may be in the hundreds, to that of its largest.

  That of a bias before a batch norm is no more than `ROUNDING`, and no more can be said of it.
  """
  assert found.keys() == wanted.keys()
  for name, a in found.items():
    largest = np.abs(wanted[name]).max()
    if name.startswith('opt_state') and 0 < largest < ROUNDING:
      assert np.abs(a).max() < ROUNDING, name
      continue
    atol = 1e-6 * max(1., largest if name.startswith('opt_state') else 1.)
    np.testing.assert_allclose(a, wanted[name], rtol=1e-6, atol=atol, err_msg=name)


def assert_rows(found, wanted):
  """One row per update in both, and the same figures in them to 1e-6."""
  assert [row['step'] for row in found] == [row['step'] for row in wanted] == list(range(1, 9))
  for a, b in zip(found, wanted):
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-6, atol=1e-6)


def task(name, folder, processes, devices, family='vae'):
  """Leaves of the state that a task of topology.py leaves, done by so many processes together."""
  command = ['-m', 'tests.training.topology', f'--task={name}', f'--folder={folder}',
             f'--family={family}']
  for status, _, errors in several.run(command, processes, devices):
    assert status == 0, errors
  return saved(folder / f'{name}.npz')
