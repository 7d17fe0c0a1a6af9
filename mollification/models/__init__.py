"""Models by name. `MODELS` lists them; `create` builds one and checks its options."""
import inspect
import types
import typing

from mollification.models.flows.glow import glow
from mollification.models.flows.glow_tabular import glow_tabular
from mollification.models.flows.maf import maf
from mollification.models.flows.realnvp import realnvp_tabular
from mollification.models.flows.realnvp_image import realnvp_image
from mollification.models.hvae import HVAE
from mollification.models.nvae import NVAE
from mollification.models.vae import VAE
from mollification.models.vae_iaf import VAEIAF

# Name -> constructor, called with `event_shape`, `axis_name` and the model's own options.
MODELS = {
    'vae': VAE,
    'maf': maf,
    'vae_iaf': VAEIAF,
    'hvae': HVAE,
    'nvae': NVAE,
    'realnvp_tabular': realnvp_tabular,
    'realnvp_image': realnvp_image,
    'glow': glow,
    'glow_tabular': glow_tabular,
}
# Given by `create` itself, and the two fields that flax adds to every module.
_RESERVED = ('event_shape', 'axis_name', 'parent', 'name')


def options(name):
  """{option: (type, default)} of the model `name`, as a config may set them.

  The type is bool, int, float, str or tuple; the default None leaves the choice to the model.
  Raises ValueError for an unknown name.
  """
  return {option: (_kind(parameter.annotation, parameter.default), parameter.default)
          for option, parameter in _parameters(name).items()}


def create(name, event_shape, axis_name=None, **given):
  """The model `name` for examples of `event_shape`; `given` are its constructor's arguments.

  Lists among them become tuples, since a module must be hashable. Raises ValueError for an unknown
  name or option, and for an option of another type.
  """
  valid = options(name)
  for option, value in given.items():
    if option not in valid:
      raise ValueError(f'model {name!r} has no option {option!r}; its options: {sorted(valid)}.')
    given[option] = _checked(option, value, valid[option][0])
  return MODELS[name](event_shape=tuple(event_shape), axis_name=axis_name, **given)


def _parameters(name):
  if name not in MODELS:
    raise ValueError(f'model must be one of {sorted(MODELS)}, got {name!r}.')
  parameters = inspect.signature(MODELS[name]).parameters
  return {option: p for option, p in parameters.items() if option not in _RESERVED}


def _kind(annotation, default):
  """The plain type of an option, from its annotation (`tuple[int, ...] | None`) or its default."""
  if annotation is inspect.Parameter.empty:
    return type(default)
  if isinstance(annotation, types.UnionType):
    annotation = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
  return typing.get_origin(annotation) or annotation


def _checked(option, value, kind):
  """`value` as the model takes it; the entries of a tuple are whole numbers."""
  value = tuple(value) if isinstance(value, list) else value
  fits = isinstance(value, (kind, int) if kind is float else kind)
  if kind is not bool and isinstance(value, bool):
    fits = False
  if isinstance(value, tuple) and not all(isinstance(entry, int) for entry in value):
    fits = False
  if value is not None and not fits:
    what = 'a tuple of whole numbers' if kind is tuple else f'a value of type {kind.__name__}'
    raise ValueError(f'model option {option} takes {what}, got {value!r}.')
  return value
