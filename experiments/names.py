"""What models, data, metrics and networks are called on a page; their keys are those of folders."""
RESULTS_PAGE = 'experiments/README.md'   # as links of README.md have it
MODELS = {'realnvp': 'RealNVP', 'glow': 'GLOW', 'vae': 'VAE', 'vae_iaf': 'VAE-IAF', 'iwae': 'IWAE',
          'beta_vae': 'β-VAE', 'hvae': 'HVAE', 'nvae': 'NVAE', 'maf': 'MAF',
          'two_step': 'VAE, then a flow'}
DATASETS = {'cifar10': 'CIFAR-10', 'celeba64': 'CelebA-64', 'fashion_mnist': 'Fashion-MNIST',
            'photo_patches': 'patches of photographs', 'digits': 'digits'}
_METRICS = {'log_likelihood': 'log-likelihood',
            'log_likelihood_by_validation': 'log-likelihood, selected on validation',
            'fid': 'FID', 'kid': 'KID', 'frechet': 'Fréchet distance',
            'kernel_distance': 'kernel distance', 'near_share': 'near copies',
            'far_share': 'far samples',
            'bits_per_dim': 'bits/dim', 'mmd2': 'MMD²', 'share_far': 'share far',
            'score_error': 'error of the score', 'score_error_low': 'error of the score, rare',
            'log10_score_error': 'log10 error of the score',
            'log10_score_error_low': 'log10 error of the score, rare'}
_NETWORKS = {'efficientnet_lite0_96': 'EfficientNet-Lite0 at 96 px',
             'inception_pytorch': 'Inception'}
MARK, NOTE = '¹', ('¹ Layers whose first values come of a batch start, in mollified arms, from a '
                   'mollified one (`mollify.init_on`).')


def model(label):
  """Name of a row `MODEL` or `MODEL (init_on mollified)`; the latter has a mark, as `NOTE` says."""
  name, _, start = label.partition(' (')
  mark = '' if not start else MARK if start == 'init_on mollified)' else f' ({start}'
  return MODELS.get(name, name) + mark


def metric(name):
  """Name of `METRIC` or `METRIC@NETWORK`."""
  name, _, net = name.partition('@')
  return _METRICS.get(name, name) + (f' in {network(net)}' if net else '')


def network(name):
  """Name of a network."""
  return _NETWORKS.get(name, name)
