"""What XLA is told in tests; no JAX is imported here, since it reads them once."""


def xla_flags(devices):
  """XLA_FLAGS of a process with so many CPU devices.

  Fusions are emitted as they were before MLIR: the tests' programs compile in .6 of the time so.
  Processes whose bits are compared must agree in it.
  """
  return (f'--xla_force_host_platform_device_count={devices} '
          '--xla_cpu_use_fusion_emitters=false')
