"""What is wrong with a config whatever the data hold is said before they are fetched.

Of a model's options by key, value and way out.
"""
import importlib

import pytest

from mollification import build, data


@pytest.mark.parametrize('name, mistake, message', [
  ('cifar10_vae', 'mollify.schedule=sigmod', 'sigmod'),
  ('cifar10_vae', 'optimizer.name=lion', 'lion'),
  ('cifar10_vae', 'model.name=vea', 'vea'),
  ('cifar10_vae', 'mollify.fraction=2.', '2'),
  ('cifar10_vae', 'mollify.name=blur', 'blur'),
  ('cifar10_vae', 'eval.temperature=-1.', '-1'),
  ('cifar10_vae', 'optimizer.b1=1.', '1'),
  ('cifar10_vae', 'model.likelihood=bernoulli', 'cannot reach the mollified targets outside'),
  ('cifar10_vae', 'model.likelihood=sigmoid_gaussian', 'cannot reach the mollified targets'),
  ('cifar10_vae', 'model.likelihood=bernoulli,mollify.fraction=0.', 'for pixels in .0.0, 1.0.'),
  ('cifar10_vae', 'data.name=folder,model.likelihood=bernoulli', 'cannot reach the mollified'),
  ('cifar10_vae', 'prepare.dequantize=none', 'no likelihood to evaluate or to choose by'),
  ('cifar10_vae', 'steps_per_call=7', 'total_steps must be a multiple of .* 7, got 100000'),
  ('cifar10_vae', 'mollify.init_on=x', "'mollified' or 'clean', got 'x'"),
  ('cifar10_nvae', 'model.levels=17', 'model.levels must be the 256 grey levels .* got 17'),
  ('photo_patches_vae', 'data.size=30', r"^model\.net 'conv' needs images .* multiples of 4, got "
   r"\(30, 30, 3\); use 'mlp', or pad"),
  ('photo_patches_vae', 'data.size=8', r'^model\.widths \(64, .*\) are 4 .* at least 16 px, got '
   r"\(8, 8, 3\); give fewer, or use net 'mlp'"),
  ('celeba64_vae', 'model.widths=(4,4,4)', r'^model\.widths must be at least 4 .* got \(4, 4, 4\); '
   "give more, or use net 'resnet'"),
  ('photo_patches_vae', 'data.size=30,model.net=resnet', r"^model\.net 'resnet' needs .*halved "
   r'.*got \(30, 30, 3\) and .*; give fewer widths, or pad'),
  ('cifar10_vae', 'model.net=cnn', r"^model\.net must be one of .*got 'cnn'"),
  ('cifar10_vae', 'model.latent_dim=0', r'^model\.latent_dim must be at least 1, got 0'),
  ('cifar10_vae', 'model.num_samples=6,model.chunk=4', r'^model\.chunk must .*; 0 takes all'),
  ('cifar10_vae', 'model.estimator=x', r"^model\.estimator must be one of .*got 'x'"),
  ('cifar10_vae', 'model.free_bits=-1.', r'^model\.free_bits must not be negative, got -1'),
  ('cifar10_vae', 'model.decoder_variance=0.', r'^model\.decoder_variance must be positive, got 0'),
  ('cifar10_vae', 'model.mixtures=0', r"^model\.mixtures must be .* got 0; 1 is 'logistic'"),
  ('cifar10_vae', 'model.levels=1', r'^model\.levels must be at least 2, got 1; those of bytes'),
  ('cifar10_vae_iaf', 'model.flows=0', r"^model\.flows must be at least 1, got 0; without any"),
  ('cifar10_hvae', 'model.beta0=2.', r'^model\.beta0 must lie in \(0, 1\)'),
  ('cifar10_hvae', 'model.step_size=0.', r'^model\.step_size must be positive, got 0'),
  ('cifar10_nvae', 'model.groups=()', r'^model\.groups must be .* got \(\); leave a scale out'),
  ('cifar10_nvae', 'model.groups=(3,0)', r'^model\.groups must be .* got \(3, 0\)'),
  ('cifar10_nvae', 'model.groups=(1,1,1,1,1,1)', r'^model\.groups .* 6 scales need .* multiples of '
   r'64, got \(32, 32, 3\); give fewer scales, or pad'),
  ('cifar10_nvae', 'model.latents=0', r'^model\.latents must be at least 1, got 0'),
  ('cifar10_nvae', 'model.width=0', r'^model\.width must be at least 1, got 0'),
  ('cifar10_nvae', 'model.expansion=-1', r'^model\.expansion must be at least 1, got -1'),
  ('cifar10_nvae', 'model.spectral=-.1', r'^model\.spectral must not .* got -0\.1; 0 is no p'),
  ('cifar10_nvae', 'model.beta=-1.', r'^model\.beta must not be .* got -1\.0; 1 is the bound'),
  ('cifar10_nvae', 'model.warmup=2.', r'^model\.warmup is a share .* got 2\.0; 0 is without'),
  ('cifar10_nvae', 'model.dtype=half', r"^model\.dtype must be one of .*got 'half'"),
  ('cifar10_glow', 'model.levels=6', r'^model\.levels=6 needs .* multiples of 64, got 32×32; take '
   '64×64, or levels=5 or less'),
  ('cifar10_glow', 'model.levels=0', r'^model\.levels must be at least 1, got 0'),
  ('cifar10_glow', 'model.steps=0', r'^model\.steps must be at least 1, got 0'),
  ('cifar10_glow', 'model.hidden=0', r'^model\.hidden must be at least 1, got 0'),
  ('cifar10_glow', 'model.min_scale=1.', r'^model\.min_scale must lie in \[0, 1\), got 1\.0'),
  ('cifar10_glow', 'model.memory=disk', r"^model\.memory must be one of .*, got 'disk'"),
  ('cifar10_glow', 'model.dtype=half', r"^model\.dtype must be one of .*got 'half'"),
  ('cifar10_realnvp', 'model.scales=7', r'^model\.scales=7 needs .* multiples of 64, got 32×32; '
   'take 64×64, or scales=6 or less'),
  ('cifar10_realnvp', 'model.scales=6', r'^model\.scales=6 leaves 1×1 of 32×32.* scales=5 or less'),
  ('cifar10_realnvp', 'model.features=0', r'^model\.features must be at least 1, got 0'),
  ('cifar10_realnvp', 'model.doubling=False', r'^model\.double_at_squeeze .* takes doubling=True'),
  ('cifar10_realnvp', 'model.gain_penalty=-1.', r'^model\.gain_penalty must not be negative'),
  ('cifar10_realnvp', 'model.classes=-1', r'^model\.classes must not be negative, got -1; 0 is'),
  ('digits_realnvp', 'model.momentum=1.', r'^model\.momentum must lie in \[0, 1\), got 1\.0'),
  ('digits_realnvp', 'model.num_blocks=0', r'^model\.num_blocks must be at least 1, got 0'),
  ('digits_realnvp', 'model.hidden=0', r'^model\.hidden must be at least 1, got 0'),
  ('digits_realnvp', 'model.inverse_error=-1', r'^model\.inverse_error must not be negative'),
])
def test_what_is_wrong_whatever_the_data_is_said_before_they_are_fetched(name, mistake, message,
                                                                       monkeypatch):
  monkeypatch.setattr(data, 'load', lambda *args, **kwargs: pytest.fail('the data were fetched'))
  config = importlib.import_module(f'configs.{name}').get_config(mistake)
  with pytest.raises(ValueError, match=message):
    build.build(config)
