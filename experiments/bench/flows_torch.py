"""The tabular flows of the paper in plain PyTorch: what `experiments.bench.flows` is up against.

Hand-written as one would for speed, with the released hyper-parameters: masks in buffers, Adam
(1e-4, L2 1e-6) with fused=True, which is faster here than its default. Needs the `bench` extra.
"""
import torch
from torch import nn


class Masked(nn.Linear):
  """A linear layer whose weight is multiplied by a constant mask."""

  def __init__(self, mask):
    super().__init__(mask.shape[1], mask.shape[0])
    self.register_buffer('mask', mask)

  def forward(self, x):
    return nn.functional.linear(x, self.weight * self.mask, self.bias)


class Made(nn.Module):
  """z = (x - m) e^{-a}, then the coordinates reversed by the caller."""

  def __init__(self, size, hidden):
    super().__init__()
    inputs, units = torch.arange(size), torch.arange(hidden) % (size - 1)
    mask = lambda a, b: (b[:, None] >= a[None]).float()
    self.net = nn.Sequential(
      Masked(mask(inputs, units)), nn.ReLU(), Masked(mask(units, units)), nn.ReLU(),
      Masked(mask(units, (inputs - 1).repeat(2))))

  def forward(self, x):
    shift, log_scale = self.net(x).chunk(2, 1)
    return (x - shift) * torch.exp(-log_scale), -log_scale.sum(1)


class Coupling(nn.Module):
  """z = x e^s + t with s and t nets of the masked x, the first of tanh, the second of ReLU."""

  def __init__(self, size, hidden, parity):
    super().__init__()
    self.register_buffer('mask', ((torch.arange(size) + parity) % 2).float())

    def net(activation):
      return nn.Sequential(nn.Linear(size, hidden), activation(), nn.Linear(hidden, hidden),
                           activation(), nn.Linear(hidden, size))

    self.scale, self.translate = net(nn.Tanh), net(nn.ReLU)

  def forward(self, x):
    kept = x * self.mask
    log_scale, shift = (net(kept) * (1 - self.mask) for net in (self.scale, self.translate))
    return x * torch.exp(log_scale) + shift, log_scale.sum(1)


class BatchNorm(nn.Module):
  """Batch statistics in training, running ones in evaluation."""

  def __init__(self, size):
    super().__init__()
    self.momentum = .1
    self.log_gamma, self.beta = (nn.Parameter(torch.zeros(size)) for _ in range(2))
    self.register_buffer('mean', torch.zeros(size))
    self.register_buffer('var', torch.ones(size))

  def forward(self, x):
    if self.training:
      mean, var = x.mean(0), x.var(0, unbiased=False) + 1e-5
      with torch.no_grad():
        self.mean.lerp_(mean, self.momentum)
        self.var.lerp_(var, self.momentum)
    else:
      mean, var = self.mean, self.var
    z = torch.exp(self.log_gamma) * (x - mean) / torch.sqrt(var) + self.beta
    return z, (self.log_gamma - .5 * torch.log(var)).sum()


class LU(nn.Module):
  """The factors of W = P L U, a random rotation at first."""

  def __init__(self, size):
    super().__init__()
    permutation, lower, upper = torch.linalg.lu(nn.init.orthogonal_(torch.empty(size, size)))
    diagonal = upper.diag()
    self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
    self.log_diag = nn.Parameter(diagonal.abs().log())
    for name, value in {'permutation': permutation, 'sign': diagonal.sign(),
                        'eye': torch.eye(size)}.items():
      self.register_buffer(name, value)

  def factors(self):
    """(L, U), both triangular."""
    lower = self.lower.tril(-1) + self.eye
    return lower, self.upper.triu(1) + torch.diag(self.sign * torch.exp(self.log_diag))


class Linear(LU):
  """z = W x with W = P L U."""

  def forward(self, x):
    lower, upper = self.factors()
    weight = self.permutation @ lower @ upper
    return x @ weight.T, self.log_diag.sum()


class Reverse(nn.Module):
  """The coordinates in reverse."""

  def forward(self, x):
    return x.flip(1), 0.


class Flow(nn.Module):
  """The layers in turn, onto a standard normal."""

  def __init__(self, layers):
    super().__init__()
    self.layers = nn.ModuleList(layers)

  def log_prob(self, x):
    total = 0.
    for layer in self.layers:
      x, log_det = layer(x)
      total = total + log_det
    return total - .5 * (x**2 + 1.8378770664093453).sum(1)


def hand_written(name, size, hidden, blocks):
  """The flow `name` of so many blocks."""
  block = {
    'maf': lambda i: [Made(size, hidden), BatchNorm(size), Reverse()],
    'realnvp_tabular': lambda i: [Coupling(size, hidden, i % 2), BatchNorm(size)],
    'glow_tabular': lambda i: [BatchNorm(size), Linear(size), Coupling(size, hidden, i % 2)],
  }[name]
  return Flow([layer for i in range(blocks) for layer in block(i)])


def library(name, size, hidden, blocks):
  """The flow `name` of libraries' layers of the same shapes.

  nflows has those of the MAF, and batch norm and LU; normflows the coupling with two nets (of its
  own two directions the one that costs less when densities are evaluated, and its batch norm has
  no inverse).
  """
  from nflows import transforms
  from normflows.flows import MaskedAffineFlow

  def coupling(i):
    own = Coupling(size, hidden, i % 2)
    return MaskedAffineFlow(own.mask, t=own.translate, s=own.scale)

  made = lambda: transforms.MaskedAffineAutoregressiveTransform(
    size, hidden, num_blocks=1, use_residual_blocks=False)
  block = {
    'maf': lambda i: [made(), transforms.BatchNorm(size), transforms.ReversePermutation(size)],
    'realnvp_tabular': lambda i: [coupling(i), transforms.BatchNorm(size)],
    'glow_tabular': lambda i: [transforms.BatchNorm(size), transforms.LULinear(size), coupling(i)],
  }[name]
  return Flow([layer for i in range(blocks) for layer in block(i)])


def adam(flow):
  """The optimiser of tabular flows."""
  return torch.optim.Adam(flow.parameters(), lr=1e-4, weight_decay=1e-6, fused=True)


def update(log_prob, optimizer, batches):
  """() -> None: one update on each of `batches`, a list of tensors [B, ...]."""

  def call():
    for x in batches:
      optimizer.zero_grad(set_to_none=True)
      (-log_prob(x).mean()).backward()
      optimizer.step()

  return call


def evaluate(flow, train, held_out):
  """Mean log-likelihoods of the tables `held_out`, under statistics of all of `train`."""
  norms = [layer for layer in flow.modules() if hasattr(layer, 'momentum')]
  with torch.no_grad():
    for layer in norms:
      layer.momentum, kept = 1., layer.momentum
    flow.log_prob(train)
    for layer in norms:
      layer.momentum = kept
    flow.eval()
    found = [flow.log_prob(x).mean().item() for x in held_out]
    flow.train()
  return found
