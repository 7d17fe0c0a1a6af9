"""What accelerators can do, as their makers publish it; without jax, for flags."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """Peak FLOP/s of products of float32 arrays and bytes of memory, as the maker publishes them.

  A product of precision 'highest' takes as long as so many (`passes`) of JAX's default precision.
  """
  flops: float
  memory: float
  passes: int = 1

  def hours(self, flops, utilisation):
    """What so many FLOPs take at a share `utilisation` of the peak."""
    return flops / (self.flops * utilisation) / 3600


# One device as JAX counts them. GPUs: data sheets of NVIDIA (V100 SXM2, A100 SXM, H100 SXM: FP32
# without sparsity; TF32, JAX's default on the newer two, is faster). TPUs: Google Cloud's pages on
# v4, v5e and v5p, bfloat16, to which a TPU rounds what it multiplies by default; six such products
# make one of float32. And a core of the machine that made this project's tables: a 2048² matmul.
ACCELERATORS = {
  'v100': Accelerator(15.7e12, 32e9), 'a100': Accelerator(19.5e12, 80e9),
  'h100': Accelerator(67e12, 80e9), 'tpu_v4': Accelerator(275e12, 32e9, 6),
  'tpu_v5e': Accelerator(197e12, 16e9, 6), 'tpu_v5p': Accelerator(459e12, 95e9, 6),
  'core': Accelerator(.1e12, 24e9)}
