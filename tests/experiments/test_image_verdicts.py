"""Whether an arm helped, by model: the verdict, what it costs, and the signs of failure."""
import json
import pathlib
import types

import pytest

from experiments import comparison, image_runs, image_table, image_verdicts
from tests.experiments import recorded


def _row(metric, *differences):
  return comparison.compare([
    comparison.Cell('vae', arm, seed, metric, value) for seed, difference in enumerate(differences)
    for arm, value in (('vanilla', 0.), ('mollified', difference))])[0]


@pytest.mark.parametrize(('differences', 'verdict'), [
  (((-1., -1.01), (.1, -.1)), 'better'), (((.1, -.1), (-1., -1.01)), 'worse'),
  (((-1., -1.01), (-1., -1.01)), 'mixed'), (((-1., -1.1), (.1, -.1)), 'undecided'),
  (((.1, -.1), (.1, -.1)), 'undecided'),
  (((-1.,), (1.,)), 'one seed')])
def test_a_verdict_is_of_distances_and_the_likelihood_together(differences, verdict):
  rows = [_row(metric, *own)
          for metric, own in zip(('frechet', 'log_likelihood'), differences, strict=True)]
  assert image_verdicts.verdict(rows) == verdict


@pytest.mark.parametrize('curve', ['curve.jsonl', 'metrics.jsonl'])
def test_gains_costs_and_signs_of_failure_stand_in_a_line(tmp_path, curve):
  """Of what is recorded, and of workdirs."""
  values = {'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)}
  lost = {'vanilla': 1, 'gaussian': 1, 'blur': 5}
  found = [(comparison.Cell('vae', arm, seed, metric, value),
            types.SimpleNamespace(extra={'nonfinite_samples': lost[arm] * n // 10}, n=n))
           for metric, n in (('frechet', 50), ('recall', 50), ('frechet@net', 10))
           for arm, own in values.items() for seed, value in enumerate(own)]
  pace = {'vanilla': .1, 'gaussian': .103, 'blur': .12}
  scores = {'vanilla': (-3., -1.), 'gaussian': (-3., -.5), 'blur': (-9., -2.)}
  for arm in values:
    place = tmp_path / 'vae' / arm / '0'
    place.mkdir(parents=True)
    (place / 'seconds.json').write_text(json.dumps(
      {'quiet_update': pace[arm], 'training': 600 * pace[arm], 'measuring': 12.1}))
    (place / curve).write_text(''.join(json.dumps(
      {'step': step, 'valid/log_likelihood': score}) + '\n'
      for step, score in zip((50, 100), scores[arm], strict=True)))
  rows = image_table.rows([cell for cell, _ in found])
  assert image_verdicts.lines(found, rows, tmp_path) == [
    ('model', 'arm', 'verdict', 'Fréchet distance ↓', 'Fréchet distance ↓ in net',
     'log-likelihood (nats) ↑', "updates to vanilla's end (its own)", 'signs'), ('---',) * 8,
    # As late as vanilla training is not late, and as many lost samples are none that noise lost.
    ('VAE', 'gaussian', 'better', '-1.00 ± 0.36', '-1.00 ± 0.36', '', '100 (100)',
     'fewer modes (recall -1.00 ± 0.25)'),
    ('VAE', 'blur', 'worse', '+1.00 ± 0.36', '+1.00 ± 0.36', '', 'never (100)',
     'no gain; late; 50 % of the samples not finite (vanilla 10 %, +40.000 ± 0.000 points)')]


def test_a_run_under_way_has_come_to_no_end(tmp_path):
  recorded.run(tmp_path, arm='vanilla', seed=0)
  place = tmp_path / 'vanilla' / '0'
  assert image_runs.scored_to_its_end(place)
  first, _ = (place / 'curve.jsonl').read_text().splitlines()
  (place / 'metrics.jsonl').write_text(f'{first}\n')
  (place / 'curve.jsonl').unlink()
  assert not image_runs.scored_to_its_end(place)
  (place / 'metrics.jsonl').unlink()
  assert not image_runs.scored_to_its_end(place)


@pytest.mark.parametrize('learned', [False, True])
def test_a_vae_of_fixed_variance_is_not_judged_by_its_bound(tmp_path, learned):
  place = tmp_path / 'vae' / 'vanilla' / '0'
  place.mkdir(parents=True)
  (place / 'config.json').write_text(json.dumps(
    {'model': {'likelihood': 'gaussian', 'learn_variance': learned}}))
  values = {('vanilla', 'frechet'): (5., 6.), ('gaussian', 'frechet'): (5.1, 5.9),
            ('vanilla', 'log_likelihood'): (5., 6.), ('gaussian', 'log_likelihood'): (7., 8.)}
  found = [(comparison.Cell('vae', arm, seed, metric, value), types.SimpleNamespace(extra={}))
           for (arm, metric), own in values.items() for seed, value in enumerate(own)]
  table = image_verdicts.lines(found, image_table.rows([cell for cell, _ in found]), tmp_path)
  assert table[2][2] == ('better' if learned else 'undecided')
  assert table[2][4].endswith('(not judged)') == (not learned)
  assert image_verdicts.sentence(table) == (
    f'Of 1 lines (a model and an arm) {int(learned)} better, 0 worse, {1 - learned} undecided; '
    'chance alone would decide 0.05 of 1 lines.')


def test_what_an_update_takes_is_shown_once_it_was_measured(tmp_path, monkeypatch):
  """By Student's t of 21 rounds: 2.086 standard errors. Schedules share a program."""
  monkeypatch.setattr(image_verdicts, 'RESULTS', tmp_path)
  folder = tmp_path / 'images' / 'cpu' / 'fashion_mnist'
  assert image_verdicts._costs(folder) == {}
  (tmp_path / 'bench').mkdir()
  (tmp_path / 'bench' / 'small.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in (
    {'name': f'{data}/{name}', **values} for data in ('fashion_mnist', 'photo_patches')
    for name, values in (
      ('vae_iaf_blur', {'value': 51.23 if data == 'fashion_mnist' else 80.,
                        'reference': 'identity, 21 rounds'}),
      ('vae_gaussian', {'value': 50., 'reference': 'identity, 21 rounds'}),
      ('vae_iaf_blur_more', {'value': .4, 'reference_value': .1}),
      ('vae_gaussian_more', {'value': 3., 'reference_value': .1})))))
  found = image_verdicts._costs(folder)
  assert found['vae_iaf', 'blur'] == '51.2; +0.40 ± 0.21'
  assert found['vae', 'cosine'] == found['vae', 'linear'] == 'as gaussian'
  assert len(found) == 4
  run = folder / 'vae_iaf' / 'blur' / '0'
  run.mkdir(parents=True)
  (run / 'config.json').write_text('{"total_steps": 8000}')   # 8 s a millisecond
  assert image_verdicts._costs(folder)['vae_iaf', 'blur'] == '51.2; +0.40 ± 0.21 (+3.2 ± 1.7)'
  assert image_verdicts._costs(folder.with_name('photo_patches'))['vae_iaf', 'blur'] == (
    '80; +0.40 ± 0.21')
  assert image_verdicts._costs(folder.with_name('digits')) == {}


@pytest.mark.parametrize('folder', ['cpu/fashion_mnist', 'mine/cpu/fashion_mnist',
                                    'runs/images/cpu/fashion_mnist'])
def test_what_an_update_takes_is_not_that_of_other_machines(folder, tmp_path, monkeypatch):
  """However deep a workdir lies, and whatever lies beside it."""
  monkeypatch.chdir(tmp_path)
  path = pathlib.Path(folder)
  path.mkdir(parents=True)
  for beside in path.parents:
    (beside / 'bench').mkdir()
    (beside / 'bench' / 'small.jsonl').write_text('no record of ours')
  assert image_verdicts._costs(path) == {}


def test_samples_that_are_not_finite_are_a_sign_in_the_mean_of_common_seeds():
  """Seeds differ by more than arms may: the interval of the paired difference stands beside it."""
  before, after = {0: (100, 10), 1: (100, 50)}, {0: (100, 30), 1: (100, 40), 2: (100, 99)}
  sign, = image_verdicts._signs([], [_row('frechet', -1., -1.01)], [], before, after)
  assert sign == '35 % of the samples not finite (vanilla 30 %, +5 ± 191 points)'
  assert not list(image_verdicts._signs([], [_row('frechet', -1., -1.01)], [], after, before))


def test_of_one_seed_nobody_can_tell_that_nothing_is_gained():
  alone, two = (_row('frechet', *pair) for pair in ((1.,), (1., 2.)))
  assert list(image_verdicts._signs([two], [two], [], {}, {})) == ['no gain']
  assert list(image_verdicts._signs([alone], [alone], [], {}, {})) == []


@pytest.mark.parametrize(('caught', 'late'), [
  ([(100, 100), (80, 100), (100, 60)], False), ([(100, 100), (80, 100), (60, None)], True),
  ([(100, 40), (100, None)], False), ([(None, None)], False), ([], False)])
def test_late_is_what_most_seeds_are(caught, late):
  assert ('late' in list(image_verdicts._signs([], [], caught, {}, {}))) == late
  bound = _row('log_likelihood', -1., 1.)
  assert ('late, by a bound that is not judged' in list(
    image_verdicts._signs([bound], [], caught, {}, {}))) == late
  assert ('late' in list(image_verdicts._signs([bound], [bound], caught, {}, {}))) == late


def test_catching_up_is_to_the_standard_error_of_the_goal(tmp_path):
  def run(name, *scores, error=0.):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'curve.jsonl').write_text(''.join(json.dumps(
      {'step': 10 * i, 'valid/log_likelihood': score, 'valid/log_likelihood_sem': error}) + '\n'
      for i, score in enumerate(scores, 1)))
    return tmp_path / name
  vanilla = run('vanilla', -3., -2., -1., -1., error=.2)
  assert image_runs.caught_up(vanilla, vanilla) == 30
  assert image_runs.caught_up(vanilla, run('a', -9., -1.1, 0., 0.)) == 20
  assert image_runs.caught_up(vanilla, run('b', -9., -9., -1.3, -1.3)) is None
  assert image_runs.caught_up(run('none'), vanilla) is None


def _timed(place, **seconds):
  place.mkdir(parents=True)
  (place / 'config.json').write_text('{"total_steps": 100}')
  (place / 'seconds.json').write_text(json.dumps({'update': .2, 'measuring': 3., **seconds}))
  return place


def test_the_time_of_a_run_that_was_cut_is_that_of_its_updates_and_what_siblings_need(tmp_path):
  """Half as much as the updates take, the median of the runs of its model that were timed."""
  assert image_runs.time_of(tmp_path) is None
  cut = _timed(tmp_path / 'vae' / 'blur' / '0', training=None, quiet_update=None, looking=7.)
  assert image_runs.time_of(cut) == (20., 20., 3., 7., 20., None, True, 0.)
  whole = _timed(tmp_path / 'vae' / 'vanilla' / '0', training=30., quiet_update=.1)
  _timed(tmp_path / 'vae' / 'vanilla' / '1', training=26.)
  _timed(tmp_path / 'vae' / 'blur' / '1', training=80.)
  _timed(tmp_path / 'glow' / 'blur' / '1', training=900.)
  assert image_runs.time_of(whole) == (30., 15., 3., 0., 20., None, False, 0.)
  found = image_runs.time_of(cut)
  assert found == pytest.approx((30., 30., 3., 7., 20., None, True, 0.))
  assert found.whole == pytest.approx(33.)   # looks are no part of a run


def test_all_evaluation_counts_against_the_rest_of_training(tmp_path):
  found = image_runs.time_of(_timed(tmp_path / 'a' / 'b' / '0', training=30., evaluating=6.))
  assert found.evaluation == pytest.approx((6. + 3.) / 24.)
  assert found.evaluation_most == pytest.approx((3. + 30. - 20.) / 20.)
  assert image_runs.time_of(_timed(tmp_path / 'c' / 'b' / '0', training=30.)).evaluation is None
