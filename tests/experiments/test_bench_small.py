"""The bench of the small models: its arithmetic, and one form of it that runs."""
import json

import pytest

from experiments import report
from experiments.bench import rows, small


def test_what_an_arm_takes_more_is_paired_and_has_an_error():
  own, more = small._rows('vae_blur', [11., 13., 12., 30., 12.], [10., 10., 10., 10., 10.])
  assert (own.value, own.reference_value, own.ratio) == (12., 10., 10 / 12)
  assert (more.name, more.value) == ('vae_blur_more', 2.)
  # Deviations of 1, 3, 2, 20, 2 from 2 are 1, 1, 0, 18, 0: their median is 1.
  assert more.reference_value == pytest.approx(1.2533 * 1.4826 / 5 ** .5)


def test_all_arms_are_called_as_often_and_in_turn(monkeypatch):
  called = []
  monkeypatch.setattr(small, 'calls_of', lambda dataset, model, changes, arms: {
    name: lambda name=name: called.append(name) for name in arms})
  assert [row.name for row in small.measure('photo_patches/vae')] == [
    'photo_patches/vae_vanilla', 'photo_patches/vae_vanilla_more', 'photo_patches/vae_gaussian',
    'photo_patches/vae_gaussian_more']
  called.clear()
  small.measure('fashion_mnist/vae')
  assert {called.count(name) for name in called} == {1 + small.ROUNDS}
  arms = ['vanilla', 'gaussian', 'blur']
  assert called[4:12] == [small.REFERENCE, *arms, *arms, small.REFERENCE]


def test_the_record_has_every_model_and_arm():
  """Tables of images leave the cost of others out without a word."""
  lines = (report.RESULTS / 'bench' / 'small.jsonl').read_text().splitlines()
  assert {json.loads(line)['name'] for line in lines} == {
    f'{name}_{arm}{more}' for name in small.MEASURES
    for arm in small.GRIDS[name.split('/')[0]].arms for more in ('', '_more')}


@pytest.mark.slow
def test_a_small_form_runs(capsys):
  args = ['--smoke', '--json', '--only=photo_patches/vae']
  assert rows.main(small.MEASURES, '', args, smoke=small.SMOKE) == 0
  found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row['name'] for row in found[::2]] == ['photo_patches/vae_vanilla',
                                                 'photo_patches/vae_gaussian']
  assert all(row['value'] > 0 for row in found[::2])
