"""Fixtures of the evaluation tests."""
import jax
import pytest


@pytest.fixture
def devices(monkeypatch):
  """Sets how many of the four local devices the code sees."""
  every = jax.local_devices()

  def use(n):
    monkeypatch.setattr(jax, 'local_devices', lambda: every[:n])
    monkeypatch.setattr(jax, 'local_device_count', lambda: n)

  return use
