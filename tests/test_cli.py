"""What the binaries make of errors and warnings: one line each, and an exit status."""
import errno
import warnings

import pytest
from absl import flags

from mollification import cli


def test_debug_shows_the_traceback():
  with pytest.raises(ValueError, match='rule'), cli.one_line_errors(debug=True):
    raise ValueError('rule')
  with pytest.raises(SystemExit) as info, cli.one_line_errors():
    raise ValueError('rule')
  assert info.value.code == 2


@pytest.mark.parametrize('error, line', [
  (ArithmeticError('no root'), 'no root'), (MemoryError('1 TB'), '1 TB'),
  (MemoryError(), 'MemoryError'), (RuntimeError('boom'), 'boom'),
  (ValueError('a rule,\n  a value\n\nand a page more'), 'a rule, a value')])
def test_what_a_file_of_nonsense_raises_is_one_line_too(error, line, capsys):
  with pytest.raises(SystemExit) as info, cli.one_line_errors():
    raise error
  assert info.value.code == 2
  assert capsys.readouterr().err == f'error: {line}\n'


@pytest.mark.parametrize('number, status', [
  (errno.ENOSPC, 1), (errno.EIO, 1), (errno.EMFILE, 1), (errno.ENOENT, 2), (errno.EACCES, 2)])
def test_what_the_machine_lacks_is_no_mistake_of_the_user(number, status, capsys):
  with pytest.raises(SystemExit) as info, cli.one_line_errors():
    raise OSError(number, 'why', 'runs/a')
  assert info.value.code == status
  assert capsys.readouterr().err == f"error: [Errno {number}] why: 'runs/a'\n"


def test_a_missing_package_names_its_extra(capsys):
  for package, extra in (('tensorflow', 'data'), ('optax', 'train')):
    with pytest.raises(SystemExit), cli.one_line_errors():
      raise ModuleNotFoundError(f'No module named {package!r}', name=package)
    assert capsys.readouterr().err == (
      f"error: {package} is not installed; pip install 'mollification[{extra}]'.\n")


def test_warnings_are_one_line():
  show = lambda: warnings.formatwarning(UserWarning('mind the gap'), UserWarning, 'file.py', 1)
  before = show()
  with cli.one_line_errors():
    assert show() == 'warning: mind the gap\n'
  assert show() == before


def test_flags_may_be_spelled_with_dashes(monkeypatch):
  own = flags.FlagValues()
  flags.DEFINE_bool('dry_run', False, '', flag_values=own)
  flags.DEFINE_string('out', '', '', flag_values=own)
  monkeypatch.setattr(cli.flags, 'FLAGS', own)
  assert cli.parse_flags(['name', '--dry-run', '--out=--a-b', 'some-file']) == ['name', 'some-file']
  assert (own.dry_run, own.out) == (True, '--a-b')
