"""What the configs of the six VAEs share: per data set, and per model.

`config(model, dataset, arg)` puts them together; a run file is that call and a docstring.
"""
from configs import default

# The published tables leave latent size, K and beta open; see PAPER rows of the run files.
LATENTS = {'cifar10': 128, 'celeba64': 64, 'fashion_mnist': 32, 'photo_patches': 64, 'digits': 16,
           'imagenet32': 128}
WIDTHS = {'cifar10': (128, 256, 512, 1024), 'celeba64': (128, 256, 512, 1024),
          'fashion_mnist': (64, 128, 256, 512), 'photo_patches': (64, 128, 256, 512),
          'imagenet32': (128, 256, 512, 1024)}
# Model name of the registry and its options beside those of the data set.
MODELS = {
    'vae': ('vae', {}),
    'beta_vae': ('vae', dict(beta=.1)),
    'iwae': ('vae', dict(num_samples=10)),
    'vae_iaf': ('vae_iaf', dict(flows=3, flow_widths=(128, 128))),
    'hvae': ('hvae', dict(leapfrog_steps=3, step_size=1e-3, beta0=.3)),
    'nvae': ('nvae', {}),
}
NVAE = {
    'cifar10': dict(groups=(30,), latents=20, width=128, spectral=.1),
    'celeba64': dict(groups=(5, 10, 20), latents=20, width=64, spectral=.1),
    'fashion_mnist': dict(groups=(5, 10), latents=20, width=32, spectral=.01),
    'digits': dict(groups=(2, 4), latents=4, width=16, expansion=3, mixtures=3, levels=17),
}


def config(model, dataset, arg=''):
  """The locked config of one of `MODELS` on one of `LATENTS`, variants of `arg` applied."""
  result = DATASETS[dataset](default.get_config())
  name, options = MODELS[model]
  if model == 'nvae':
    default.set_model(result, name, **NVAE[dataset])
    _train_nvae(result, dataset)
  else:
    default.set_model(result, name, **_nets(dataset), **options)
  if model in ('vae_iaf', 'hvae', 'iwae'):
    result.steps_per_call = min(result.steps_per_call, 10)
  return default.finish(result, arg)


def _nets(dataset):
  """Networks and observation model of the data set, for all but NVAE."""
  if dataset == 'digits':
    return dict(net='mlp', widths=(256, 256), latent_dim=16, decoder_variance=.05)
  return dict(net='conv', widths=WIDTHS[dataset], latent_dim=LATENTS[dataset])


def _train_nvae(result, dataset):
  """Adamax with a cosine schedule and an average of the parameters, as the NVAE paper trains."""
  result.optimizer.name = 'adamax'
  result.optimizer.learning_rate = 1e-2 if dataset != 'digits' else 3e-3
  result.optimizer.schedule = 'cosine'
  # Of the total that the run ends up with, unless the warm-up is given itself.
  result.optimizer.warmup_steps = result.get_ref('total_steps') // 100
  result.optimizer.clip_norm = 200.
  result.ema_decay = .999
  result.eval.params = 'ema'
  result.eval.temperature = .7
  result.batch_size = min(result.batch_size, 32)
  result.steps_per_call = 1


def _cifar10(result):
  result.data.name = 'cifar10'
  result.prepare.flip = True
  result.total_steps = 100_000
  result.batch_size = 64   # published: 64 to 100; this one divides over 8 devices
  result.optimizer.learning_rate = 1e-4
  result.eval.every = 5_000
  result.eval.sample_every = 5_000
  result.checkpoint.every = 5_000
  return result


def _celeba64(result):
  result = _cifar10(result)
  result.data.name = 'celeba64'
  result.optimizer.learning_rate = 1e-3
  return result


def _imagenet32(result):
  result = _cifar10(result)
  result.data.name = 'downsampled_imagenet32'
  result.total_steps = 500_000
  return result


def _fashion_mnist(result):
  result.data.name = 'fashion_mnist'
  result.total_steps = 20_000
  result.batch_size = 64
  result.optimizer.learning_rate = 1e-4
  result.eval.sample_every = 1_000
  return result


def _photo_patches(result):
  result = _fashion_mnist(result)
  result.data.name = 'photo_patches'
  result.prepare.flip = True
  result.total_steps = 10_000
  return result


def _digits(result):
  result.data.name = 'digits'
  result.total_steps = 1_200
  result.batch_size = 128
  result.steps_per_call = 50
  result.log.every = 50
  result.eval.every = 100
  result.eval.sample_every = 500
  result.checkpoint.every = 500
  return result


DATASETS = {'cifar10': _cifar10, 'celeba64': _celeba64, 'imagenet32': _imagenet32,
            'fashion_mnist': _fashion_mnist, 'photo_patches': _photo_patches, 'digits': _digits}
