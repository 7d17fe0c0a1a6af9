"""The model of scaling, on paper: its limits."""
import math

import pytest

from experiments import estimate, scaling


def test_one_device_sends_nothing_and_more_send_twice_the_gradient():
  assert scaling.seconds(1e6, 1e12, 1) == (1e12 / (.3 * 19.5e12), 0.)
  _, many = scaling.seconds(1e9, 1e12, 1024)
  latency = 2 * 10 * scaling.ACROSS[1]
  assert many == pytest.approx(2 * 4e9 * 1023 / 1024 / scaling.ACROSS[0] + latency)
  _, host = scaling.seconds(1e9, 1e12, 8)
  assert host == pytest.approx(2 * 4e9 * 7 / 8 / scaling.IN_HOST[0] + 6 * scaling.IN_HOST[1])


def test_efficiency_falls_with_devices_and_rises_with_work():
  found = [scaling.efficiency(3e7, 1e12, n) for n in scaling.COUNTS]
  assert found == sorted(found, reverse=True)
  assert found[0] == 1.
  assert scaling.efficiency(3e7, 1e13, 64) > scaling.efficiency(3e7, 1e12, 64)
  compute = 1e12 / scaling.UTILISATION / estimate.ACCELERATORS['a100'].flops
  assert found[2] == pytest.approx(compute / (compute + scaling.seconds(3e7, 1e12, 64)[1]))
  assert math.isclose(scaling.seconds(3e7, 1e12, 64)[0], compute)


def test_a_row_a_model():
  _, _, row = scaling.table({'vae': {'parameters': 31_000_000, 'flops': 1e12}}).splitlines()
  assert row.startswith('| vae | 248 MB | 171 ms | 0.8 ms, 99.6% | 9.9 ms, 94.5% |')
