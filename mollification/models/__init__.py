"""Models by name. `MODELS` lists them; `create` builds one and checks its options."""
import inspect

from mollification.models.flows.glow import glow
from mollification.models.flows.glow_tabular import glow_tabular
from mollification.models.flows.maf import maf
from mollification.models.flows.realnvp import realnvp_tabular
from mollification.models.flows.realnvp_image import realnvp_image
from mollification.models.vae import VAE

# Name -> constructor, called with `event_shape`, `axis_name` and the model's own options.
MODELS = {
    'vae': VAE,
    'maf': maf,
    'realnvp_tabular': realnvp_tabular,
    'realnvp_image': realnvp_image,
    'glow': glow,
    'glow_tabular': glow_tabular,
}
# Given by `create` itself, and the two fields that flax adds to every module.
_RESERVED = ('event_shape', 'axis_name', 'parent', 'name')


def create(name, event_shape, axis_name=None, **options):
  """The model `name` for examples of `event_shape`; `options` are its constructor's arguments.

  Lists among the options become tuples, since a module must be hashable. Raises ValueError for an
  unknown name or option.
  """
  if name not in MODELS:
    raise ValueError(f'model must be one of {sorted(MODELS)}, got {name!r}.')
  valid = sorted(set(inspect.signature(MODELS[name]).parameters) - set(_RESERVED))
  for option in options:
    if option not in valid:
      raise ValueError(f'model {name!r} has no option {option!r}; its options: {valid}.')
  options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
  return MODELS[name](event_shape=tuple(event_shape), axis_name=axis_name, **options)
