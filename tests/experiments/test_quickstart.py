"""The main job, small: what it writes and prints is what its runs gave."""
import csv
import itertools
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import quickstart
from mollification import metrics

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = ('0', '1')


def _quickstart(folder):
  done = subprocess.run([sys.executable, '-m', 'experiments.quickstart', '--smoke',
                         f'--seeds={len(SEEDS)}', f'--workdir={folder}'],
                        cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  return done


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp('quickstart')
  return folder, _quickstart(folder)


def _values(folder, model, arm, metric):
  """The recorded value of each seed."""
  return [json.loads(path.read_text())['value'] for seed in SEEDS
          for path in (folder / model / arm / seed / 'records').glob(f'{metric}-test-*.json')]


@pytest.mark.slow
def test_the_table_is_that_of_the_records(finished):
  folder, done = finished
  with (folder / 'table.csv').open(newline='') as file:
    rows = {(r['model'], r['metric'], r['arm']): r for r in csv.DictReader(file)}
  found = ('bits_per_dim', 'frechet', 'log_likelihood', 'mmd2')
  arms = (*quickstart.ARMS, 'difference')
  assert set(rows) == set(itertools.product(quickstart.MODELS, found, arms))
  for model, metric in itertools.product(quickstart.MODELS, found):
    vanilla, mollified = (_values(folder, model, arm, metric) for arm in quickstart.ARMS)
    paired = [b - a for a, b in zip(vanilla, mollified, strict=True)]
    for arm, values in zip(arms, (vanilla, mollified, paired), strict=True):
      row = rows[model, metric, arm]
      assert int(row['seeds']) == len(values) == len(SEEDS)
      assert float(row['mean']) == pytest.approx(statistics.mean(values), rel=1e-9)
      assert float(row['sem']) == pytest.approx(
        statistics.stdev(values) / math.sqrt(len(values)), rel=1e-9)
    printed = re.search(rf'^{model} +{metric} .*', done.stdout, re.M)[0]
    means = [number[:-2] for number in re.findall(r'-?[\d.]+ ±', printed)[:3]]
    for text, values in zip(means, (vanilla, mollified, paired), strict=True):
      decimals = len(text.partition('.')[2])
      assert float(text) == pytest.approx(statistics.mean(values), abs=.51 * 10**-decimals)


@pytest.mark.slow
def test_both_arms_train_on_one_budget_from_one_start(finished):
  folder, _ = finished
  for model, seed in itertools.product(quickstart.MODELS, SEEDS):
    vanilla, mollified = (metrics.read_rows(folder / model / arm / seed / 'metrics.jsonl')
                          for arm in quickstart.ARMS)
    assert [r['step'] for r in vanilla] == [r['step'] for r in mollified]
    assert {r['train/level'] for r in vanilla} == {0.}
    assert mollified[0]['train/level'] > 0 == mollified[-1]['train/level']


@pytest.mark.slow
def test_pictures_show_both_models_and_arms(finished):
  folder, _ = finished
  for name in ('curves.png', *(f'samples_{model}.png' for model in quickstart.MODELS)):
    pixels = np.asarray(Image.open(folder / name).convert('L'), float)
    left, right = np.array_split(pixels, 2, axis=1)   # an axis of its own each
    assert left.std() > 5 < right.std()
    assert not np.array_equal(left, right[:, :left.shape[1]])


@pytest.mark.slow
def test_progress_and_time_left_are_shown(finished):
  _, done = finished
  runs = len(quickstart.MODELS) * len(quickstart.ARMS) * len(SEEDS)
  assert f'[{runs}/{runs}, ' in done.stdout
  assert done.stdout.count(' s left in all] ') == runs
  assert ' left  loss ' in done.stderr + done.stdout   # of the run under way


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(finished):
  folder, first = finished
  rows = {p: p.read_bytes() for p in folder.glob('*/*/*/metrics.jsonl')}
  made = [p for kind in ('checkpoints', 'records') for p in folder.glob(f'*/*/*/{kind}/**/*')]
  before = {p: p.stat().st_mtime_ns for p in made}
  again = _quickstart(folder)
  assert rows == {p: p.read_bytes() for p in folder.glob('*/*/*/metrics.jsonl')}
  assert before == {p: p.stat().st_mtime_ns for p in made}
  table = lambda text: text[text.index('model '):text.index('mean ±')]
  assert table(again.stdout) == table(first.stdout)
