"""Writes tests/models/flows/maf_golden.npz: python -m experiments.bench.maf_golden

A MAF of the library nflows (3 × [MADE, BatchNorm, reverse], D = 6, hidden 20) with all parameters
and statistics random: its state as it is called there, points, their log-densities and the
gradients of those by the points, computed in float64. The library's own affine layer scales by
softplus(s) + 0.001, which no weights of ours reproduce; so its autoregressive transform, with its
network, gets the scale e^{-a} of the paper. Needs the `bench` extra; the test that converts the
state, tests/models/flows/test_golden_maf.py, needs no torch.
"""
import pathlib

import numpy as np
import torch
from nflows import distributions, flows, transforms

TARGET = pathlib.Path(__file__).parents[2] / 'tests/models/flows/maf_golden.npz'
SIZE, HIDDEN, BLOCKS = 6, 20, 3


class ExponentialScale(transforms.MaskedAffineAutoregressiveTransform):
  """z = (x - m) e^{-a} (Papamakarios et al. 2017), (a, m) from the library's masked network."""

  def _elementwise_forward(self, inputs, autoregressive_params):
    log_scale, shift = self._unconstrained_scale_and_shift(autoregressive_params)
    return (inputs - shift) * torch.exp(-log_scale), -log_scale.sum(1)


def make(size, hidden, blocks):
  """The library's flow of so many blocks."""
  layers = []
  for _ in range(blocks):
    layers += [ExponentialScale(size, hidden, num_blocks=1, use_residual_blocks=False),
               transforms.BatchNorm(size), transforms.ReversePermutation(size)]
  return flows.Flow(transforms.CompositeTransform(layers), distributions.StandardNormal([size]))


def main():
  torch.manual_seed(0)
  flow = make(SIZE, HIDDEN, BLOCKS).double().eval()
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for name, value in flow.named_parameters():
      value += (.3 if 'bias' in name else .1) * torch.randn(value.shape, generator=generator,
                                                            dtype=torch.float64)
    for module in flow.modules():
      if isinstance(module, transforms.BatchNorm):
        module.running_mean.normal_(generator=generator)
        module.running_var.uniform_(.3, 2., generator=generator)
  flow = flow.half().double()   # values that the file holds exactly
  x = torch.randn((8, SIZE), generator=generator).half().double().requires_grad_()
  log_prob = flow.log_prob(x)
  (gradient,) = torch.autograd.grad(log_prob.sum(), x)
  state = {name: value.numpy().astype(np.float16) for name, value in flow.state_dict().items()
           if name.endswith(('weight', 'bias', 'running_mean', 'running_var'))}
  np.savez_compressed(TARGET, x=x.detach().numpy().astype(np.float32),
                      log_prob=log_prob.detach().numpy(), score=gradient.numpy(), **state)
  print(f'{TARGET}: {TARGET.stat().st_size} bytes, log-densities {log_prob.detach().numpy()}')


if __name__ == '__main__':
  main()
