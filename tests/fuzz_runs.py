"""What is fuzzed of a run: its config and flags, and the files of its workdir."""
import contextlib
import io
import json
import sys
from unittest import mock

from absl import flags
from ml_collections import config_flags

from configs import digits_vae
from mollification import cli, metrics
from mollification.training import workdir
from tests.fuzzing import Target


def _config_seeds():
  return [text.encode() for text in (
    'batch_size=16,total_steps=20,model.widths=(8,4)', "data.name=digits,eval.best_metric=''",
    'mollify.fraction=.25,mollify.name=heat_blur,log.stdout=False', 'optimizer.b1=1e-3,seed=7',
    'model.learn_variance=True,model.likelihood=gaussian,smoke=True')]


def _read_config(content, folder):
  digits_vae.get_config(content.decode('utf-8', 'replace'))


def _override_seeds():
  """What follows `--config.`, a flag a line."""
  return [text.encode() for text in (
    'batch_size=16\ntotal_steps=20\nmodel.widths=(8,4)', "data.name=digits\neval.best_metric=''",
    'mollify.fraction=.25\nmollify.name=heat_blur\nlog.stdout=False\nlog.tensorboard',
    'optimizer.b1=1e-3\nseed=7\nmollify=1', 'model.learn_variance=True\nmodel.likelihood=gaussian')]


def _read_overrides(content, folder):
  """As a binary does, which ends with one line and status 2."""
  values, said = flags.FlagValues(), io.StringIO()
  config = config_flags.DEFINE_config_file('config', flag_values=values)
  lines = content.decode('utf-8', 'replace').split('\n')
  argv = ['main', '--config=configs/digits_vae.py', *(f'--config.{line}' for line in lines)]
  # ml_collections looks for them in sys.argv.
  with (mock.patch.object(flags, 'FLAGS', values), mock.patch.object(sys, 'argv', argv),
        contextlib.redirect_stderr(said)):
    try:
      cli.parse_flags(argv)
      cli.config_of(config)
      return
    except SystemExit as end:
      status = end.code
  assert (status, said.getvalue().count('\n')) == (2, 1), said.getvalue()
  raise ValueError(said.getvalue())


def _row_seeds():
  rows = [{'step': step, 'train/loss': 1. / step, 'valid/x': 'nan'} for step in (1, 2, 3)]
  return [''.join(json.dumps(row) + '\n' for row in rows).encode()]


def _read_rows(content, folder):
  path = folder / 'metrics.jsonl'
  path.write_bytes(content)
  rows = metrics.read_rows(path)
  assert metrics.cut_rows(path, lambda rows: rows[:1]) == rows[:1]
  metrics.read_rows(path)


_RUN = {'seed': 0, 'total_steps': 20, 'data': {'name': 'a', 'noise': 0.}, 'model': {'name': 'b'},
        'mollify': {'steps': 5, 'order': 'falling'}, 'optimizer': {'schedule': 'constant'}}
_SUMMARIES = {'train': {'shape': [5, 2], 'dtype': '<f4', 'means': [.5, -1., 0., 1e-3, 2.]}}


def _run_seeds():
  return [json.dumps(run, indent=2).encode() for run in (_RUN, _RUN | {'total_steps': 10})]


def _read_run(content, folder):
  (folder / 'config.json').write_bytes(content)
  workdir.read_config(folder)
  workdir.check(folder, _RUN)


def _read_run_data(content, folder):
  (folder / 'data.json').write_bytes(content)
  workdir.check_data(folder, _SUMMARIES)


TARGETS = {
  'config': Target(_config_seeds, _read_config),
  'overrides': Target(_override_seeds, _read_overrides),
  'rows': Target(_row_seeds, _read_rows),
  'run_config': Target(_run_seeds, _read_run),
  'run_data': Target(lambda: [json.dumps(_SUMMARIES).encode()], _read_run_data),
}
