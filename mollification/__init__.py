"""Data mollification for likelihood-based generative models: `x = mollify(x, level(step), keys)`.

What is here needs jax and numpy alone; models, training and evaluation come with the extras. It is
imported when it is first asked for: binaries hear signals before they import jax.
"""
import importlib

__version__ = '0.1.0'
__all__ = ['__version__', 'curricula', 'mollifiers', 'mollify', 'schedules']


def __getattr__(name):
  if name == 'mollify':
    return importlib.import_module('mollification.mollifiers').gaussian
  if name in __all__:
    return importlib.import_module(f'mollification.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted({*globals(), *__all__})
