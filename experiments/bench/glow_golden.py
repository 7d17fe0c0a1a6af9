"""Writes tests/models/flows/glow_golden.npz: python -m experiments.bench.glow_golden

A GLOW of the library normflows (2 levels × 3 steps, hidden 32, 8×8×3) with all parameters random:
its state as it is called there, images, their log-densities and the gradients of those by the
images. Computed in float64, so that the vectors carry no error of their own. Needs the `bench`
extra; `tests/models/flows/test_golden_glow.py` converts the state and needs no torch.
"""
import pathlib

import normflows
import numpy as np
import torch

TARGET = pathlib.Path(__file__).parents[2] / 'tests/models/flows/glow_golden.npz'
LEVELS, STEPS, HIDDEN, EVENT = 2, 3, 32, (3, 8, 8)


def make(levels, steps, hidden, event):
  """The library's own GLOW of its tutorial, on events [C, H, W]."""
  channels, height, width = event
  bases, flows, merges = [], [], []
  for i in range(levels):
    widened = channels * 2**(levels + 1 - i)
    flows.append([normflows.flows.GlowBlock(widened, hidden, split_mode='channel', scale=True)
                  for _ in range(steps)] + [normflows.flows.Squeeze()])
    scale = 2**(levels - i)
    if i:
      merges.append(normflows.flows.Merge())
      shape = widened // 2, height // scale, width // scale
    else:
      shape = widened, height // scale, width // scale
    bases.append(normflows.distributions.GlowBase(shape))
  return normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)


def main():
  torch.manual_seed(0)
  flow = make(LEVELS, STEPS, HIDDEN, EVENT).double()
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for value in flow.parameters():
      value += .05 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
  for module in flow.modules():
    if isinstance(module, normflows.flows.ActNorm):
      module.data_dep_init_done = torch.tensor(1.)
  flow = flow.half().double()   # values that the file holds exactly
  x = torch.randn((4, *EVENT), generator=generator).half().double().requires_grad_()
  log_prob = flow.log_prob(x, None)
  (gradient,) = torch.autograd.grad(log_prob.sum(), x)
  state = {name: value.numpy().astype(np.float16) for name, value in flow.state_dict().items()
           if not name.endswith(('eye', 'data_dep_init_done'))}
  np.savez_compressed(TARGET, x=x.detach().numpy().astype(np.float32),
                      log_prob=log_prob.detach().numpy(), score=gradient.numpy(), **state)
  print(f'{TARGET}: {TARGET.stat().st_size} bytes, log-densities {log_prob.detach().numpy()}')


if __name__ == '__main__':
  main()
