"""Writes tests/models/flows/maf_{nflows,pythae}_golden.npz: python -m experiments.bench.maf_golden

MAFs of two libraries (3 × [MADE, BatchNorm, reverse], D = 6, hidden 20) with all parameters and
statistics random: the state as it is called there, points, their log-densities and the gradients of
those by the points, computed in float64 (pythae sums the log-determinants of a block in float32).

pythae: nothing is overridden. A block is that library's MAF of one MADE and one BatchNorm, which
turns the coordinates round after either, so after both they are as before; the flip that makes it a
block of ours is the only line of this script in the computation.

nflows: one method is overridden. That library's affine layer scales by softplus(s) + 0.001, which
no weights of ours reproduce, so `_elementwise_forward`, which takes points and what the network
makes of them, gets the scale e^{-a} of the paper. Masks and degrees, the network, BatchNorm in
evaluation, the permutation, the sum of log-determinants and the base stay the library's; what is
overridden is what pythae checks.

Needs the `bench` extra; the test that converts the states, tests/models/flows/test_golden_maf.py,
needs no torch.
"""
import math
import pathlib

import numpy as np
import torch
from nflows import distributions, flows, transforms
from pythae.models import normalizing_flows as pythae_flows
from pythae.models.normalizing_flows import layers as pythae_layers

FOLDER = pathlib.Path(__file__).parents[2] / 'tests/models/flows'
SIZE, HIDDEN, BLOCKS = 6, 20, 3


class ExponentialScale(transforms.MaskedAffineAutoregressiveTransform):
  """z = (x - m) e^{-a} (Papamakarios et al. 2017), (a, m) from the library's masked network."""

  def _elementwise_forward(self, inputs, autoregressive_params):
    log_scale, shift = self._unconstrained_scale_and_shift(autoregressive_params)
    return (inputs - shift) * torch.exp(-log_scale), -log_scale.sum(1)


class Blocks(torch.nn.Module):
  """pythae's one-block MAFs with a reversal after each, onto N(0, I)."""

  def __init__(self, size, hidden, blocks):
    super().__init__()
    config = pythae_flows.MAFConfig(
        input_dim=(size,), n_made_blocks=1, n_hidden_in_made=2, hidden_size=hidden,
        include_batch_norm=True)
    self.blocks = torch.nn.ModuleList(pythae_flows.MAF(config) for _ in range(blocks))

  def log_prob(self, x):
    total = 0.
    for block in self.blocks:
      found = block(x)
      x, total = found.out.flip(1), total + found.log_abs_det_jac
    return total - .5 * (x**2 + math.log(2 * math.pi)).sum(1)


def make(size, hidden, blocks):
  """nflows' flow of so many blocks."""
  layers = []
  for _ in range(blocks):
    layers += [ExponentialScale(size, hidden, num_blocks=1, use_residual_blocks=False),
               transforms.BatchNorm(size), transforms.ReversePermutation(size)]
  return flows.Flow(transforms.CompositeTransform(layers), distributions.StandardNormal([size]))


def main():
  for name, build in (('nflows', make), ('pythae', Blocks)):
    torch.manual_seed(0)
    write(FOLDER / f'maf_{name}_golden.npz', build(SIZE, HIDDEN, BLOCKS).double().eval())


def write(path, flow):
  """Randomise the flow and write its state, points, log-densities and scores."""
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for name, value in flow.named_parameters():
      noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
      value += (.1 if name.endswith('weight') else .3) * noise
    for module in flow.modules():
      if isinstance(module, (transforms.BatchNorm, pythae_layers.BatchNorm)):
        module.running_mean.normal_(generator=generator)
        module.running_var.uniform_(.3, 2., generator=generator)
  flow = flow.half().double()   # values that the file holds exactly
  x = torch.randn((8, SIZE), generator=generator).half().double().requires_grad_()
  log_prob = flow.log_prob(x)
  (gradient,) = torch.autograd.grad(log_prob.sum(), x)
  state = {name: value.numpy().astype(np.float16) for name, value in flow.state_dict().items()
           if name.endswith(('weight', 'bias', 'gamma', 'beta', 'running_mean', 'running_var'))}
  np.savez_compressed(path, x=x.detach().numpy().astype(np.float32),
                      log_prob=log_prob.detach().numpy(), score=gradient.numpy(), **state)
  print(f'{path}: {path.stat().st_size} bytes, log-densities {log_prob.detach().numpy()}')


if __name__ == '__main__':
  main()
