"""Updates of VAEs against pythae: python -m experiments.bench.vae [--json] [--only=...] [--smoke]

Each row is one update at the CIFAR-10 shape with the networks of configs/cifar10_*.py, latent size
128, Adam, in-memory data, as `build` makes it: dequantisation and mollification are in ours. The
reference is the library's model of the same shape in PyTorch, `loss.backward()` and Adam included,
on as many threads as there are cores. Ratio: its seconds over ours, the median of pairs measured in
turn in this process; bar 1. On one core seconds are the processor's, which leaves out what others
take of it; on several, wall time. `--smoke` makes our nets and all batches tiny: the ratios mean
nothing.

vae_step      VAE, batch 64.
iwae_step     IWAE of 10 draws, batch 16.
vae_iaf_step  VAE with 3 inverse autoregressive steps of 2 hidden layers of 128, batch 16.
hvae_step     Hamiltonian VAE of 3 leapfrog steps, step size and temperature learned, batch 16.
hvae_held_step  The same with `through_forces=False`, which is the gradient that the library takes.

The library holds the forces constant in its gradient. In units of one pass of the decoder (forward,
back to its input, or to its kernels), in which all but a few per cent of the time goes, its update
takes 16: two forces per leapfrog step at 2 each, one pass whose result is not used, and 3 for the
bound. With held forces ours takes 10, since a step's first force is the last one of the step before
and the bound shares its pass; hvae_step, whose gradient is that of the bound, takes 24. On CPU a
pass of ours has 57 % of the multiplications (`models/karatsuba.py`): the update 495 GFLOP, which
were 854 and ran at 87 GFLOP/s of a core's 96, for a ratio of .76. Needs the `bench` extra.
"""
import functools
import os
import sys

import numpy as np

from configs import vaes
from experiments.bench import rows, step
from mollification import build, parallel

LATENTS = 128
SECONDS = 75   # of timing per row at least: with compiling, 20 minutes in all


def vae(batch_size=64, options=''):
  """Rows of the VAE."""
  return _row('vae_step', 'vae', batch_size, options)


def iwae(batch_size=16, options=''):
  """Rows of the IWAE."""
  return _row('iwae_step', 'iwae', batch_size, options)


def vae_iaf(batch_size=16, options=''):
  """Rows of the VAE with the autoregressive posterior."""
  return _row('vae_iaf_step', 'vae_iaf', batch_size, options)


def hvae(batch_size=16, options=''):
  """Rows of the Hamiltonian VAE."""
  return _row('hvae_step', 'hvae', batch_size, options)


def hvae_held(batch_size=16, options=''):
  """Rows of the Hamiltonian VAE with the library's gradient."""
  return _row('hvae_held_step', 'hvae', batch_size, f',model.through_forces=False{options}',
              bar=None)


def _row(name, model, batch_size, options, bar=1.):
  alone = len(os.sched_getaffinity(0)) == 1
  timed = rows.interleaved(_library_step(model, batch_size),
                           _our_step(model, batch_size, options), 5, seconds=SECONDS,
                           clock=rows.processor_seconds_of if alone else rows.seconds_of)
  return [rows.Row(name, timed.b, 's/update', f'pythae, batch {batch_size}, {timed.pairs} pairs',
                   timed.a, timed.ratio, bar, True)]


def _our_step(model, batch_size, options):
  """() -> None: one update of ours."""
  config = vaes.config(model, 'cifar10',
                       f'batch_size={batch_size},model.latent_dim={LATENTS}{options}')
  batch = np.random.default_rng(0).integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
  state = build.create_state(config, batch, 256, step.LEVEL)
  return step.calls(build.train_step(config, (32, 32, 3), 256), 1, state,
                    parallel.shard(batch, axis=0), np.float32(step.LEVEL))


def _library_step(model, batch_size):
  """() -> None: one update of the library's model."""
  import torch
  from pythae import models
  from pythae.models.nn.benchmarks.cifar import Decoder_Conv_AE_CIFAR, Encoder_Conv_VAE_CIFAR
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  torch.manual_seed(0)
  make, configure, options = {
    'vae': (models.VAE, models.VAEConfig, {}),
    'iwae': (models.IWAE, models.IWAEConfig, {'number_samples': 10}),
    'vae_iaf': (models.VAE_IAF, models.VAE_IAF_Config,
                {'n_made_blocks': 3, 'n_hidden_in_made': 2, 'hidden_size': 128}),
    'hvae': (models.HVAE, models.HVAEConfig,
             {'n_lf': 3, 'eps_lf': 1e-3, 'beta_zero': .3, 'learn_eps_lf': True,
              'learn_beta_zero': True}),
  }[model]
  config = configure(input_dim=(3, 32, 32), latent_dim=LATENTS, **options)
  net = make(config, encoder=Encoder_Conv_VAE_CIFAR(config), decoder=Decoder_Conv_AE_CIFAR(config))
  net.train()
  optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
  data = {'data': torch.rand(batch_size, 3, 32, 32)}

  def call():
    optimizer.zero_grad(set_to_none=True)
    net(data).loss.backward()
    optimizer.step()

  return call


MEASURES = {'vae': vae, 'iwae': iwae, 'vae_iaf': vae_iaf, 'hvae': hvae,
            'hvae_held': hvae_held}
# The library's networks have one size.
SMOKE = {name: functools.partial(measure, 8, ',model.widths=(4,4,4,4)')
         for name, measure in MEASURES.items()}

if __name__ == '__main__':
  sys.exit(rows.main(MEASURES, __doc__, smoke=SMOKE))
