"""What a table of images says in words: gains, lost modes, costs, lateness, what is not finite."""
import json
import types

from experiments import comparison, image_findings, image_table


def test_samples_that_are_not_finite_count_once_among_those_of_all_seeds():
  """Features in another network are of the first of the same samples."""
  counts = {('vanilla', 0, 50): 0, ('vanilla', 1, 50): 0, ('gaussian', 0, 50): 3,
            ('gaussian', 0, 20): 2, ('gaussian', 1, 50): 0}
  found = [(comparison.Cell('vae', arm, seed, 'frechet', 1.),
            types.SimpleNamespace(extra={'nonfinite_samples': count}, n=n))
           for (arm, seed, n), count in counts.items()]
  assert list(image_findings.nonfinite(found)) == [
    'vae, gaussian: 3 of 100 samples (6.00%, 0.00% by seed) are not finite and count as the images '
    'that they become.']


def test_gains_lost_modes_costs_and_lateness_are_said(tmp_path, monkeypatch):
  """The run with noise is one that was measured at two updates."""
  monkeypatch.setattr(image_findings.records, 'read_all', lambda folder: [
    types.SimpleNamespace(step=step)
    for step in ((50, 100) if 'gaussian' in str(folder) else (100,))
    for _ in 'ab'])
  values = {'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)}
  found = [(comparison.Cell('vae', arm, seed, metric, value), types.SimpleNamespace(extra={}, n=50))
           for metric in ('frechet', 'recall') for arm, own in values.items()
           for seed, value in enumerate(own)]
  found += [(comparison.Cell('vae', 'blur', seed, 'near_share', share), found[0][1])
            for seed, share in enumerate((.001, .02))]
  pace = {'vanilla': .1, 'gaussian': .1005, 'blur': .102}
  scores = {'vanilla': (-3., -1.), 'gaussian': (-2., -.5), 'blur': (-9., -2.)}
  for arm in values:
    place = tmp_path / 'vae' / arm / '0'
    place.mkdir(parents=True)
    (place / 'seconds.json').write_text(json.dumps(
      {'quiet_update': pace[arm], 'training': 600 * pace[arm], 'measuring': 12.1}))
    (place / 'curve.jsonl').write_text(''.join(json.dumps(
      {'step': step, 'valid/log_likelihood': score}) + '\n'
      for step, score in zip((50, 100), scores[arm])))
  said = list(image_findings.sentences(found, image_table.rows([c for c, _ in found]), tmp_path))
  assert said == [
    'gaussian: Of 2 comparisons, mollified training is better in 1, worse in 1, and 0 are '
    'undecided at 95 % with so few seeds; chance alone would decide 0.1.',
    'gaussian, all that is decided: better vae (frechet -1.00 ± 0.25), and worse vae (recall -1.00 '
    '± 0.25).',
    'gaussian, nearer to real images: vae (frechet -1.00 ± 0.25).',
    'gaussian, fewer modes: vae (recall -1.00 ± 0.25).',
    'gaussian, time of an update against vanilla training: vae +0.5% of 100 ms, 60 s a run '
    'against 60.',
    'gaussian, share of the updates after which clean validation data score what vanilla training '
    'ends with, to its standard error, by seed, of 2 looks: vae 100%.',
    'blur: Of 2 comparisons, mollified training is better in 1, worse in 1, and 0 are undecided at '
    '95 % with so few seeds; chance alone would decide 0.1.',
    'blur, all that is decided: better vae (recall +1.00 ± 0.25), and worse vae (frechet +1.00 ± '
    '0.25).',
    'blur, further from real images: vae (frechet +1.00 ± 0.25).',
    'blur, time of an update against vanilla training: vae +2.0% of 100 ms, 61 s a run '
    'against 60.',
    'blur, share of the updates after which clean validation data score what vanilla training ends '
    'with, to its standard error, by seed, of 2 looks: vae never.',
    'near copies of training images, of which test data have 1 %: 2.00% of the samples of a run at '
    'most.',
    'time: 1.2 minutes of a core a run (1.2 to 1.2), 0.1 hours in all; measuring takes 20% of the '
    'training, more than 20 % in 1 of 2 runs, and 20% of the training where it is looked at over '
    'the updates, more than 20 % in 1 of 1 runs.']


def test_one_seed_decides_nothing_and_few_comparisons_are_shown_with_their_intervals(tmp_path):
  cell = lambda arm, seed, value: (comparison.Cell('vae', arm, seed, 'fid@net', value),
                                   types.SimpleNamespace(extra={}, n=50))
  one = [cell('vanilla', 0, 50.), cell('gaussian', 0, 10.)]
  rows = image_table.rows([c for c, _ in one])
  assert image_table.difference(rows[0]) == '-40 (one seed)'
  assert list(image_findings.sentences(one, rows, tmp_path)) == [
    'gaussian: one seed an arm, which decides nothing.']
  two = [*one, cell('vanilla', 1, 50.), cell('gaussian', 1, 12.)]
  said = list(image_findings.sentences(two, image_table.rows([c for c, _ in two]), tmp_path))
  assert said[1:] == ['gaussian, all that is decided: better vae (fid in net -39 ± 13).',
                      'gaussian, nearer to real images: vae (fid in net -39 ± 13).']
  two[1] = cell('gaussian', 0, float('nan'))
  said = list(image_findings.sentences(two, image_table.rows([c for c, _ in two]), tmp_path))
  assert said[1:] == ['gaussian, no gain seen: vae (fid in net +nan ± nan).',
                      'Not finite: vae, gaussian.']


def test_catching_up_is_to_the_standard_error_of_the_goal(tmp_path):
  def run(name, *scores, error=0.):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'curve.jsonl').write_text(''.join(json.dumps(
      {'step': 10 * i, 'valid/log_likelihood': score, 'valid/log_likelihood_sem': error}) + '\n'
      for i, score in enumerate(scores, 1)))
    return tmp_path / name
  vanilla = run('vanilla', -3., -2., -1., -1., error=.2)
  assert image_findings.caught_up(vanilla, vanilla) == .75
  assert image_findings.caught_up(vanilla, run('a', -9., -1.1, 0., 0.)) == .5
  assert image_findings.caught_up(vanilla, run('b', -9., -9., -1.3, -1.3)) is None
  assert image_findings.caught_up(run('none'), vanilla) is None
