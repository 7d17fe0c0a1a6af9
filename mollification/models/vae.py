"""VAE (Kingma & Welling 2014), beta-VAE and IWAE: one model, by its fields beta and num_samples."""
from mollification.models.autoencoder import Autoencoder
from mollification.models.posteriors import GaussianPosterior


class VAE(Autoencoder, kw_only=True):
  """`Autoencoder` with q(z | x) = N(mean(x), diag exp(log_var(x))).

    -loss = log p(x | z) - beta KL(q(z | x) || p(z))   for K = 1, the KL in closed form

  `estimator` chooses gradients with lower variance, 'stl' or 'dreg' (`objectives.ESTIMATORS`), the
  KL then being drawn as well. DReG costs one more forward pass in training. `free_bits` is a floor
  in nats under each latent's KL, for K = 1.
  """
  estimator: str = 'standard'
  free_bits: float = 0.

  def make_posterior(self):
    """The Gaussian family."""
    return GaussianPosterior(self.latent_dim, self.num_samples, self.estimator, self.free_bits)
