"""What the binaries share: flags that fail in one line, and errors of the user's in one line."""
import contextlib
import errno
import os
import re
import sys
import warnings

from absl import flags

from mollification import notices

EXIT_USAGE, EXIT_OTHER = 2, 1
# What no command can mend: a full disk, one that fails, too little memory, too many open files.
_OF_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
# What absl says of a value that it cannot parse -> what the key takes.
_KINDS = {'for int()': 'a whole number', 'string to float': 'a number',
          'Non-boolean': 'True or False', 'as a ConfigDict': 'no value: set a key below it'}
# Packages that only some runs need -> the extra that brings them.
_EXTRAS = {'tensorflow': 'data', 'tensorflow_datasets': 'data', 'importlib_resources': 'data',
           'sklearn': 'data'}
# TensorFlow only reads files here; what it says of itself on some CPUs would hide our one line.
_QUIET_TENSORFLOW = {'TF_CPP_MIN_LOG_LEVEL': '2', 'TF_ENABLE_ONEDNN_OPTS': '0'}


def fail(message, status=EXIT_USAGE):
  """End the process with `error: message` on stderr and a status, 2 of a mistake of the user's."""
  notices.say(f'error: {message}')
  sys.exit(status)


def parse_flags(argv):
  """Parse flags for `app.run`; a wrong flag or config key ends the process with one line.

  --dry-run is --dry_run, as elsewhere.
  """
  argv = [re.sub('^--[a-z]+(-[a-z]+)+', lambda flag: '--' + flag[0][2:].replace('-', '_'), given)
          for given in argv]
  for name, value in _QUIET_TENSORFLOW.items():
    os.environ.setdefault(name, value)
  try:
    return flags.FLAGS(argv)
  except ModuleNotFoundError as error:
    fail(f'the config file imports {error.name}, which is not found; run from the root of the '
         'checkout.')
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    fail(_reason(str(error), argv))
  except (RecursionError, MemoryError):   # of parsers, where a key has thousands of parts
    fail(f'a flag is nested too deeply: {max(argv, key=len):.60}...')


def config_of(flag):
  """The config that a flag's file gives; one that cannot be loaded ends the process in one line."""
  try:
    flag.value.keys()   # ml_collections keeps an error of loading until the config is used
  except (OSError, ValueError) as error:
    fail(_reason(str(error), sys.argv))
  return flag.value


@contextlib.contextmanager
def one_line_errors(debug=False):
  """Turn errors that name a rule, a value and a way out into one line; `debug` lets them pass.

  Warnings are printed in one line each.
  """
  before, warnings.formatwarning = warnings.formatwarning, _one_line_warning
  try:
    yield
  except (ValueError, OSError, ImportError, RuntimeError, ArithmeticError, MemoryError) as error:
    if debug or _is_of_devices(error):
      raise
    if isinstance(error, ModuleNotFoundError):
      extra = _EXTRAS.get((error.name or '').split('.')[0], 'train')
      fail(f"{error.name} is not installed; pip install 'mollification[{extra}]'.")
    of_machine = isinstance(error, OSError) and error.errno in _OF_MACHINE
    fail(' '.join(str(error).strip().split('\n\n')[0].split()) or type(error).__name__,
         EXIT_OTHER if of_machine else EXIT_USAGE)
  finally:
    warnings.formatwarning = before


def _is_of_devices(error):
  """Whether what several processes do together failed: nobody's mistake, and a traceback helps.

  JAX says so by its own error, or by a ValueError that begins with the code of XLA's status.
  """
  jax = sys.modules.get('jax')
  return (jax is not None and jax.process_count() > 1
          and (isinstance(error, jax.errors.JaxRuntimeError)
               or re.match('[A-Z_]+: ', str(error)) is not None))


def _one_line_warning(message, *args, **kwargs):
  del args, kwargs
  return f'warning: {message}\n'


def _reason(text, argv):
  """The sentence in an error; those of absl and ml_collections may quote a whole traceback."""
  missing = re.search(r"Failed loading config.*No such file or directory: '([^']*)'", text, re.S)
  if missing:
    return f'config file {missing[1]} does not exist.'
  unknown = re.match(r"['\"\\]*(\w+).*Did you mean \"(\w+)\" instead of", text, re.S)
  if unknown:
    flag = next((a for a in argv if a.split('=')[0].endswith(f'.{unknown[1]}')), unknown[1])
    return f"unknown config key in {flag.split('=')[0]}; did you mean {unknown[2]!r}?"
  if re.fullmatch(r"['\"\\]*\w+['\"\\]*", text):
    return _unknown_key(text.strip('\'"\\'), argv)
  value = re.match(r'flag --config\.([\w.]+)=(.*?): (.*)', text, re.S)
  if value:
    kind = next((kind for clue, kind in _KINDS.items() if clue in value[3]), None)
    if kind:
      return f'config key {value[1]!r} takes {kind}, got {value[2]!r}.'
  inner = re.findall(r'^\s*\w*Error: (.+)$', text, re.MULTILINE)
  return inner[-1] if inner else ' '.join(text.strip().split('\n\n')[0].split())


def _unknown_key(name, argv):
  flags_given = [a.split('=')[0].removeprefix('--config.') for a in argv]
  key = next((f for f in flags_given if name in f.split('.')), name)
  where = ('its model takes the options in mollification/models' if key.startswith('model.') else
           'all keys stand in configs/default.py')
  return f'unknown config key {key!r}; {where}.'
