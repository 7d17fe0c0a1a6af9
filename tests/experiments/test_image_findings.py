"""What a table of images says in words: what is decided, copies, hours, what is not finite."""
import json
import types

from experiments import comparison, image_findings, image_runs, image_table, image_verdicts


def test_samples_that_are_not_finite_count_once_among_those_of_all_seeds():
  """Features in another network are of the first of the same samples."""
  counts = {('vanilla', 0, 50): 0, ('vanilla', 1, 50): 0, ('gaussian', 0, 50): 3,
            ('gaussian', 0, 20): 2, ('gaussian', 1, 50): 0}
  found = [(comparison.Cell('vae', arm, seed, 'frechet', 1.),
            types.SimpleNamespace(extra={'nonfinite_samples': count}, n=n))
           for (arm, seed, n), count in counts.items()]
  assert list(image_findings.nonfinite(found)) == [
    'VAE, gaussian: 3 of 100 samples (6.00%, 0.00% by seed) are not finite and count as the images '
    'that they become.']


def test_what_an_arm_decides_copies_and_hours_are_said(tmp_path):
  """The vanilla run was cut: of its training the pace is known. Another model's is no part."""
  values = {'vanilla': (5., 6., 7.), 'gaussian': (4., 5.1, 5.9), 'blur': (6., 7.1, 7.9)}
  found = [(comparison.Cell('vae', arm, seed, metric, value), types.SimpleNamespace(extra={}, n=50))
           for metric in ('frechet', 'recall') for arm, own in values.items()
           for seed, value in enumerate(own)]
  found += [(comparison.Cell('vae', 'blur', seed, 'near_share', share), found[0][1])
            for seed, share in enumerate((.001, .02))]
  for name, training in (('vae/vanilla/0', None), ('vae/gaussian/0', 60.3), ('vae/blur/0', 61.2),
                         ('other/vanilla/0', 9e9)):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'config.json').write_text('{"total_steps": 600}')
    (tmp_path / name / 'seconds.json').write_text(json.dumps(
      {'update': .1, 'quiet_update': .05, 'training': training, 'measuring': 12.1,
       **({'looking': 6.} if training is None else {'looking': 15.3} if 'blur' in name else {})}))
  said = list(image_findings.sentences(found, image_table.rows([c for c, _ in found]), tmp_path))
  assert said == [
    'gaussian: Of 2 comparisons, mollified training is better in 1, worse in 1, and 0 are '
    'undecided at 95 % with so few seeds; chance alone would decide 0.1. Better: VAE (Fréchet '
    'distance). Worse: VAE (recall).',
    'blur: Of 2 comparisons, mollified training is better in 1, worse in 1, and 0 are undecided at '
    '95 % with so few seeds; chance alone would decide 0.1. Better: VAE (recall). Worse: VAE '
    '(Fréchet distance).',
    'near copies of training images, of which test data have 1 %: 2.00% of the samples of a run at '
    'most.',
    'time: 1.2 minutes of a core a run (1.2 to 1.2), 0.06 hours in all, of 3 of 9 runs, 1 of which '
    'were cut and their training estimated.',
    'of 2 runs evaluations inside training were not timed apart: measuring after it takes 20% (20% '
    'to 20%) of the training, and with all of that which was no update (compiling, loading and '
    'saving, too) evaluation takes 21% (21% to 22%) of the updates at most, more than 20 % in 2 of '
    '2 runs.',
    'looks at what runs keep of their training (2 of them), for the figure over it alone, take '
    'another 10% to 25% of the training, and are not in these figures.']


def test_of_runs_that_timed_their_evaluations_all_of_it_counts(tmp_path):
  found = []
  for seed, evaluating in enumerate((5., 20.)):
    place = tmp_path / 'vae' / 'vanilla' / str(seed)
    place.mkdir(parents=True)
    (place / 'config.json').write_text('{"total_steps": 600}')
    (place / 'seconds.json').write_text(json.dumps(
      {'update': .1, 'training': 100., 'measuring': 10., 'evaluating': evaluating,
       'reference': 50. * seed}))
    found.append((comparison.Cell('vae', 'vanilla', seed, 'fid', 1.), None))
  assert list(image_findings._taken(found, tmp_path))[1:] == [
    'evaluation, inside training and after it, takes 27% (16% to 38%) of the rest of the training, '
    'more than 20 % in 1 of 2 runs.',
    'of 1 runs that timed it apart, what is measured of data alone, and kept for all, took 50 s at '
    'most; it is in their minutes, and no part of their evaluation.']
  assert [image_runs.time_of(place).whole for place in sorted(tmp_path.glob('*/*/*'))] == [110, 160]


def test_what_runs_were_is_said_by_model(tmp_path):
  for model, valid in (('vae', 0), ('hvae', 1000)):
    place = tmp_path / model / 'vanilla' / '0'
    place.mkdir(parents=True)
    (place / 'config.json').write_text(json.dumps(
      {'total_steps': 4000, 'batch_size': 32, 'eval': {'valid_examples': valid}}))
  found = [(comparison.Cell(model, 'vanilla', 0, 'fid', 1.), None) for model in ('vae', 'hvae')]
  line, = image_findings._sizes(image_findings.places_of(found, tmp_path))
  assert line.endswith('HVAE 4,000 of 32 (scored on 1,000), VAE 4,000 of 32.')


def test_one_seed_decides_nothing(tmp_path):
  cell = lambda arm, seed, value: (comparison.Cell('vae', arm, seed, 'fid@net', value),
                                   types.SimpleNamespace(extra={}, n=50))
  one = [cell('vanilla', 0, 50.), cell('gaussian', 0, 10.)]
  rows = image_table.rows([c for c, _ in one])
  assert image_table.difference(rows[0]) == '-40 (one seed)'
  assert image_verdicts.lines(one, rows, tmp_path)[2][2:4] == ('one seed', '-40 (one seed)')
  assert list(image_findings.sentences(one, rows, tmp_path)) == [
    'gaussian: one seed an arm, which decides nothing.']
  two = [*one, cell('vanilla', 1, 50.), cell('gaussian', 1, 12.)]
  lines = image_verdicts.lines(two, image_table.rows([c for c, _ in two]), tmp_path)
  assert lines[2][2:4] == ('better', '-39 ± 13')
  two[1] = cell('gaussian', 0, float('nan'))
  rows = image_table.rows([c for c, _ in two])
  assert image_verdicts.lines(two, rows, tmp_path)[2][2:4] == ('undecided', '+nan ± nan')
  assert list(image_findings.sentences(two, rows, tmp_path))[1:] == ['Not finite: vae, gaussian.']
