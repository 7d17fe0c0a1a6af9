"""GLOW on images in plain PyTorch: with normflows', what `experiments.bench.flows` is up against.

Hand-written as one would for speed: ActNorm is folded into the 1×1 convolution that follows, and
tensors may lie channels last, as oneDNN's convolutions take them best. Layer by layer it is
normflows' GLOW. Needs the `bench` extra.
"""
import math

import torch
from torch import nn
from torch.nn import functional

from experiments.bench import flows_torch


class Linear(flows_torch.LU):
  """ActNorm and the 1×1 convolution with W = P L U, as one convolution."""

  def __init__(self, channels):
    super().__init__(channels)
    self.mean, self.log_std = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
    self.starts = True

  def forward(self, x):
    if self.starts:   # of the first batch, as ActNorm's
      with torch.no_grad():
        self.mean.copy_(x.mean((0, 2, 3)))
        self.log_std.copy_(x.std((0, 2, 3)).log())
      self.starts = False
    lower, upper = self.factors()
    weight = self.permutation @ lower @ upper * torch.exp(-self.log_std)
    x = functional.conv2d(x, weight[:, :, None, None], -weight @ self.mean)
    return x, x[0, 0].numel() * (self.log_diag - self.log_std).sum()

  def inverse(self, z):
    lower, upper = self.factors()
    inner = torch.linalg.solve_triangular(lower, self.permutation.T, upper=False)
    weight = torch.linalg.solve_triangular(upper, inner, upper=True)
    weight = torch.exp(self.log_std)[:, None] * weight
    return functional.conv2d(z, weight[:, :, None, None], self.mean)


class Coupling(nn.Module):
  """z2 = (x2 - t) sigmoid(s + 2) with t and s the even and the odd channels of a net of x1."""

  def __init__(self, channels, hidden):
    super().__init__()
    half = channels // 2
    self.net = nn.Sequential(
      nn.Conv2d(half, hidden, 3, padding=1), nn.ReLU(inplace=True),
      nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True),
      nn.Conv2d(hidden, 2 * half, 3, padding=1))
    nn.init.zeros_(self.net[-1].weight)
    nn.init.zeros_(self.net[-1].bias)

  def forward(self, x):
    kept, changed = x.chunk(2, 1)
    shift, raw = self._shift_and_raw(kept)
    z = torch.cat([kept, (changed - shift) * torch.sigmoid(raw)], 1)
    return z, functional.logsigmoid(raw).sum((1, 2, 3))

  def inverse(self, z):
    kept, changed = z.chunk(2, 1)
    shift, raw = self._shift_and_raw(kept)
    return torch.cat([kept, changed / torch.sigmoid(raw) + shift], 1)

  def _shift_and_raw(self, kept):
    found = self.net(kept)
    return found[:, 0::2], found[:, 1::2] + 2.


class Base(nn.Module):
  """A diagonal Gaussian with a mean and a scale per channel, each m e^{3 l}."""

  def __init__(self, channels):
    super().__init__()
    self.loc, self.loc_logs, self.log_scale, self.log_scale_logs = (
      nn.Parameter(torch.zeros(channels, 1, 1)) for _ in range(4))

  def moments(self):
    return (self.loc * torch.exp(3. * self.loc_logs),
            self.log_scale * torch.exp(3. * self.log_scale_logs))

  def log_prob(self, z):
    mean, log_scale = self.moments()
    squares = ((z - mean) * torch.exp(-log_scale))**2
    return -(.5 * (squares + math.log(2. * math.pi)) + log_scale).sum((1, 2, 3))


class Glow(nn.Module):
  """GLOW on events [C, H, W]: at each level a squeeze, `steps` steps, and half to the base."""

  def __init__(self, levels, steps, hidden, event, memory_format):
    super().__init__()
    channels, height, width = event
    self.memory_format, self.shapes = memory_format, []
    self.levels, self.bases = nn.ModuleList(), nn.ModuleList()
    for level in range(levels):
      channels, height, width = 4 * channels, height // 2, width // 2
      self.levels.append(nn.ModuleList(
        layer for _ in range(steps) for layer in (Linear(channels), Coupling(channels, hidden))))
      channels = channels if level == levels - 1 else channels // 2
      self.shapes.append((channels, height, width))
      self.bases.append(Base(channels))
    self.to(memory_format=memory_format)

  def log_prob(self, x, classes=None):
    """[B] of x [B, C, H, W]; there are no `classes`, for which normflows' asks."""
    total = 0.
    for i, layers in enumerate(self.levels):
      x = functional.pixel_unshuffle(x, 2).contiguous(memory_format=self.memory_format)
      for layer in layers:
        x, log_det = layer(x)
        total = total + log_det
      z, x = (x, None) if i == len(self.levels) - 1 else reversed(x.chunk(2, 1))
      total = total + self.bases[i].log_prob(z)
    return total

  def sample(self, count):
    x = None
    for base, shape, layers in zip(*map(reversed, (list(self.bases), self.shapes,
                                                   list(self.levels)))):
      mean, log_scale = base.moments()
      z = mean + torch.exp(log_scale) * torch.randn(count, *shape)
      x = z if x is None else torch.cat([x, z], 1)
      x = x.contiguous(memory_format=self.memory_format)
      for layer in reversed(layers):
        x = layer.inverse(x)
      x = functional.pixel_shuffle(x, 2)
    return x
