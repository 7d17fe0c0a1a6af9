"""Promise 5 and the loop's rules: resume, rows, best, early stopping, pre-emption, divergence."""
import dataclasses
import json
import time

import jax
import numpy as np
import pytest

from mollification import metrics
from mollification.training import checkpoint, loop, preemption, workdir
from mollification.training.outputs import Outputs
from mollification.training.state import is_finite
from tests.training import tiny

pytestmark = pytest.mark.usefixtures('no_key_reuse_check')


def _asked_in(run, call):
  """(`run`, its stop): in its `call`-th call, from 1, it is asked to save and leave."""
  stop = preemption.Stop()

  def batch(first, count):
    stop.requested = first >= (call - 1) * count
    return run.batch(first, count)
  return dataclasses.replace(run, batch=batch), stop


def _assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _crash_at(run, step):
  """`run` that dies on the batch of the call from `step` on: what was saved before is all there is.

  The checkpoint before is being written meanwhile.
  """
  def batch(first, count):
    if first >= step:
      raise KeyboardInterrupt
    return run.batch(first, count)
  return dataclasses.replace(run, batch=batch)


@pytest.mark.parametrize('family, crash, changes', [
  ('vae', False, {'ema_decay': .9}), ('flow', True, {}),
  ('flow', False, {'steps_per_call': 2, 'log.every': 2, 'data.remainder': 'pad'}),
  *(pytest.param(family, True, {}, marks=pytest.mark.slow)
    for family in ('conv', 'iwae', 'iaf', 'hvae', 'nvae', 'glow', 'maf'))],
  ids=['vae', 'flow', 'scanned', 'conv', 'iwae', 'iaf', 'hvae', 'nvae', 'glow', 'maf'])
def test_a_cut_run_equals_the_straight_one(tmp_path, family, crash, changes):
  changes = {key.replace('.', '__'): value for key, value in changes.items()}
  run = tiny.run(family, **changes)
  straight = loop.train(run, tmp_path / 'straight')
  assert straight.reason == 'finished'

  if crash:
    with pytest.raises(KeyboardInterrupt):
      loop.train(_crash_at(run, 5), tmp_path / 'cut')
    assert (tmp_path / 'cut' / 'checkpoints' / '4').is_dir()
  else:
    asked, stop = _asked_in(run, 3)
    cut = loop.train(asked, tmp_path / 'cut', stop=stop)
    assert cut.reason == 'preempted'
    assert int(cut.state.step) == 3 * run.steps_per_call
  # What a crash after the last save leaves behind: rows that were not trained to.
  with (tmp_path / 'cut' / 'metrics.jsonl').open('a') as file:
    file.write(json.dumps({'step': 7, 'train/loss': 1.}) + '\n{"step": 8, ')
  resumed = loop.train(tiny.run(family, **changes), tmp_path / 'cut')

  _assert_same(straight.state, resumed.state)
  assert tiny.rows(tmp_path / 'straight') == tiny.rows(tmp_path / 'cut')
  steps = [row['step'] for row in tiny.rows(tmp_path / 'cut')]
  assert steps == list(range(run.steps_per_call, 9, run.steps_per_call))
  again = loop.train(run, tmp_path / 'cut')   # a finished run stays as it is
  assert again.reason == 'finished'
  _assert_same(straight.state, again.state)
  assert tiny.rows(tmp_path / 'straight') == tiny.rows(tmp_path / 'cut')


@pytest.mark.parametrize('scores, best, log_every', [
  ((-3., -2., -4.), 8, 4), ((-3., -4., -5.), 4, 2)], ids=['later', 'earlier'])
def test_a_run_that_was_made_longer_equals_the_long_one(tmp_path, scores, best, log_every):
  """Also where the shorter one ended between two evaluations, or rows, and had its best there."""
  changes = dict(mollify__steps=2, log__every=log_every, eval__every=4, checkpoint__every=4,
                 eval__best_metric='log_likelihood')
  short, long = (dataclasses.replace(
    tiny.run(total_steps=steps, **changes), sample_every=4,
    sample=lambda state: ({}, {'nonfinite_share': 0.})) for steps in (6, 12))
  loop.train(_with_scores(short, [scores[0], 0.]), tmp_path / 'grown')
  assert [row['step'] for row in tiny.rows(tmp_path / 'grown') if 'valid/log_likelihood' in row
          and 'sample/nonfinite_share' in row] == [4, 6]
  assert max(_best(tmp_path / 'grown')) == 6
  grown = loop.train(_with_scores(long, scores[1:]), tmp_path / 'grown')
  straight = loop.train(_with_scores(long, scores), tmp_path / 'straight')
  _assert_same(straight.state, grown.state)
  assert tiny.rows(tmp_path / 'straight') == tiny.rows(tmp_path / 'grown')
  assert _best(tmp_path / 'straight') == _best(tmp_path / 'grown') == [best]


@pytest.mark.parametrize('every, scored', [(4, [3, 6, 8, 12]), (0, [3, 6])])
@pytest.mark.parametrize('first, best', [(-3., [6]), (float('nan'), [6]), (1., [3])],
                         ids=['best', 'first', 'second'])
def test_the_best_state_stays_where_intervals_are_changed(tmp_path, every, scored, first, best):
  """Evaluated every 3 updates, then every 4, or never, from 6 on: what 6 had stays, too.

  Also where it was the best there is, or the first.
  """
  changes = dict(total_steps=12, mollify__steps=2, eval__best_metric='log_likelihood')
  before = tiny.run(log__every=3, eval__every=3, checkpoint__every=3, **changes)
  with pytest.raises(KeyboardInterrupt):
    loop.train(_crash_at(_with_scores(before, [first, 0.]), 6), tmp_path)
  assert _best(tmp_path) == best
  after = tiny.run(log__every=4, eval__every=every, **changes)
  loop.train(_with_scores(after, [-1., -2.]), tmp_path)
  assert _best(tmp_path) == best
  assert [row['step'] for row in tiny.rows(tmp_path) if 'valid/log_likelihood' in row] == scored


@pytest.mark.parametrize('every, scored', [(4, [8, 12]), (3, [6, 9, 12]), (0, [6])])
def test_what_a_run_found_since_it_ended_is_of_runs_of_its_length(
    tmp_path, capsys, every, scored):
  """Its last update was the first evaluation, off its interval of 4; a longer run goes on from it.

  That run has it where its own intervals bring it there, or where it evaluates nothing at all.
  """
  changes = dict(mollify__steps=2, checkpoint__every=4, eval__best_metric='log_likelihood')
  short = tiny.run(total_steps=6, eval__every=4, log__stdout=True, **changes)
  loop.train(_with_scores(short, [float('nan'), -1.]), tmp_path)
  assert tiny.rows(tmp_path)[-1]['end/valid'] == 1
  assert 'end/' not in capsys.readouterr().out   # for the next run, not for people
  assert _best(tmp_path) == [6]
  loop.train(_with_scores(short, []), tmp_path)   # a finished run stays as it is
  assert _best(tmp_path) == [6]
  long = tiny.run(total_steps=12, eval__every=every, **changes)
  loop.train(_with_scores(long, [-2., -3.]), tmp_path)
  assert [row['step'] for row in tiny.rows(tmp_path) if row['step'] > 4
          and 'valid/log_likelihood' in row] == scored
  assert not any(name.startswith('end/') for row in tiny.rows(tmp_path) for name in row)
  assert _best(tmp_path) == scored[:1]


@pytest.mark.parametrize('between', [3, 0, 6])
def test_the_best_state_outlives_a_finished_run_that_is_started_again(tmp_path, between):
  """With intervals that its last update, the best, lies on; of a longer run the one before is."""
  changes = dict(mollify__steps=2, checkpoint__every=4, eval__best_metric='log_likelihood')
  for total, every, scores in ((6, 4, [-2., -1.]), (6, between, []), (12, 4, [-3., -4.])):
    loop.train(_with_scores(tiny.run(total_steps=total, eval__every=every, **changes), scores),
               tmp_path)
  assert _best(tmp_path) == [4]


@pytest.mark.filterwarnings('ignore:checkpoint 8 in:UserWarning')
def test_the_best_state_outlives_a_damaged_checkpoint(tmp_path):
  """It goes with what came after the one before, which was the best until then."""
  changes = dict(mollify__steps=2, checkpoint__every=4, eval__best_metric='log_likelihood')
  run = tiny.run(total_steps=12, eval__every=4, **changes)
  with pytest.raises(KeyboardInterrupt):
    loop.train(_crash_at(_with_scores(run, [-2., -1.]), 8), tmp_path)
  assert _best(tmp_path) == [8]
  (tmp_path / 'checkpoints' / '8' / 'sha256' / 'sha256').write_text('0')
  run = tiny.run(total_steps=12, eval__every=6, **changes)
  loop.train(_with_scores(run, [-3., -4.]), tmp_path)
  assert _best(tmp_path) == [4]


def _best(folder):
  """Steps of the best states in a workdir."""
  with checkpoint.manager(folder / 'best', read_only=True) as manager:
    return sorted(manager.all_steps())


def test_the_device_has_its_next_call_before_the_metrics_of_the_last_are_fetched(
    tmp_path, monkeypatch):
  """Training never waits for the device inside a step."""
  run, order = tiny.run(log__every=1, eval__every=8, checkpoint__every=8), []
  compiled = loop.compiled_update(run)

  def call(state, step):
    order.append(('call', step + 1))
    return compiled(state, step)

  take = loop.Journal.take
  monkeypatch.setattr(loop, 'compiled_update', lambda run: call)
  monkeypatch.setattr(loop.Journal, 'take', lambda self, step, *args: (
    order.append(('fetch', step)), take(self, step, *args)))
  loop.train(run, tmp_path)
  for step in range(1, 7):
    assert order.index(('fetch', step)) > order.index(('call', step + 1))
  assert order[-1] == ('fetch', 8)


def test_both_arms_start_alike_and_see_the_same_batches():
  vanilla, mollified = tiny.run(mollify__fraction=0.), tiny.run(mollify__fraction=.5)
  _assert_same(vanilla.create_state(), mollified.create_state())
  _assert_same(vanilla.batch(3, 2)[0], mollified.batch(3, 2)[0])
  assert float(vanilla.schedule(0)) == 0
  assert float(mollified.schedule(0)) == 1
  assert float(mollified.schedule(4)) == 0


def test_checkpoints_kept(tmp_path):
  run = tiny.run(checkpoint__keep=1, checkpoint__keep_every=4, checkpoint__every=2)
  loop.train(run, tmp_path)
  kept = sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir() if p.name.isdecimal())
  assert kept == [4, 8]


def _with_scores(run, scores):
  """`run` whose evaluations return the listed scores in turn."""
  values = iter(scores)
  return dataclasses.replace(run, evaluate=lambda state: {'log_likelihood': next(values)})


def test_best_and_early_stopping_wait_for_the_end_of_the_mollified_phase(tmp_path):
  run = tiny.run(eval__every=1, eval__patience=2, eval__best_metric='log_likelihood',
                 mollify__fraction=.5)
  # The best of all comes while mollified; of the clean phase (from 4 on) it is update 5.
  scores = [-9., -8., 0., -7., -5., -6., -5.]
  outcome = loop.train(_with_scores(run, scores), tmp_path)
  assert outcome.reason == 'early'
  assert int(outcome.state.step) == 7
  with checkpoint.manager(tmp_path / 'best', read_only=True) as manager:
    assert manager.all_steps() == [5]
  with checkpoint.manager(tmp_path / 'checkpoints', read_only=True) as manager:
    assert manager.latest_step() == 7   # nothing is lost by stopping
  again = loop.train(_with_scores(run, []), tmp_path)
  assert again.reason == 'early'
  assert int(again.state.step) == 7
  assert workdir.has_ended(tmp_path)   # nobody waits for update 8, until patience is more
  patient = dataclasses.replace(run, patience=3)
  assert loop.train(_with_scores(patient, [-4.]), tmp_path).reason == 'finished'
  assert not workdir.has_ended(tmp_path)


def test_the_best_is_on_disk_before_rows_that_name_it_are_final(tmp_path):
  """A crash right after a save must not leave a checkpoint whose rows name a best not there."""
  run = tiny.run(eval__best_metric='log_likelihood')
  state = run.create_state()
  committed = []
  with Outputs(run, tmp_path) as outputs:
    start = outputs._checkpoints.save
    outputs._checkpoints.save = lambda *args, **kwargs: (
      committed.append((tmp_path / 'best' / '4').is_dir()), start(*args, **kwargs))
    outputs.save_best(4, state)
    outputs.save(4, state)
  assert committed == [True]


def test_a_crash_never_leaves_rows_without_their_best(tmp_path):
  """Best at 2 and 5, checkpoints at 4 and 6, dead before the second: the run is back at 4."""
  run = tiny.run(eval__best_metric='log_likelihood')
  state = run.create_state()
  at = lambda step: state.replace(step=state.step + step)
  kept = lambda: sorted(int(p.name) for p in (tmp_path / 'best').iterdir() if p.name.isdecimal())
  with Outputs(run, tmp_path) as outputs:
    outputs.save_best(2, at(2))
    outputs.save(4, at(4))
    outputs.save_best(5, at(5))
  assert kept() == [2, 5]
  with Outputs(run, tmp_path) as outputs:
    assert int(outputs.restore(state).step) == 4
    assert kept() == [2]
    outputs.save_best(5, at(5))
    outputs.save(6, at(6))
    assert kept() == [2, 5]
  assert kept() == [5]   # what is final once 6 is there


def test_a_nan_score_is_never_the_best(tmp_path):
  run = tiny.run(eval__every=2, eval__best_metric='log_likelihood', mollify__fraction=0.)
  loop.train(_with_scores(run, [float('nan'), -3., float('nan'), -4.]), tmp_path)
  with checkpoint.manager(tmp_path / 'best', read_only=True) as manager:
    assert manager.all_steps() == [4]


def test_without_a_finite_score_there_is_no_best(tmp_path):
  run = tiny.run(eval__every=4, eval__best_metric='log_likelihood', mollify__fraction=0.)
  loop.train(_with_scores(run, [float('nan'), -float('inf')]), tmp_path)
  with checkpoint.manager(tmp_path / 'best', read_only=True) as manager:
    assert not manager.all_steps()


def test_patience_counts_evaluations_without_a_better_one():
  scores = list(enumerate([-3., -1., -2., -1.]))
  assert not loop.early_stop(scores[:3], 2)
  assert loop.early_stop(scores, 2)   # as good is not better
  assert not loop.early_stop([*scores, (4, 0.)], 2)
  assert not loop.early_stop(scores, 0)
  assert loop.is_best(scores[:2], 1)
  assert not loop.is_best(scores, 3)
  assert not loop.is_best(scores[:2], 2)   # an evaluation of an earlier update


def test_non_finite_updates_stop_the_run(tmp_path):
  run = tiny.run(max_nonfinite=3, optimizer__learning_rate=1e30, total_steps=8)
  with pytest.raises(loop.Diverged, match=r'3 updates in a row up to update \d.*clip_norm'):
    loop.train(run, tmp_path)
  assert workdir.has_ended(tmp_path)
  rows = tiny.rows(tmp_path)
  assert max(row['train/skipped_in_row'] for row in rows) <= 3
  assert all(row['train/skipped_in_row'] <= row['step'] for row in rows)


@pytest.mark.parametrize('asked', [False, True], ids=['due', 'pre-empted'])
def test_a_state_that_an_update_made_overflow_is_never_saved(tmp_path, asked):
  """Loss and gradient are finite, their product with the rate is not; the checkpoint before stays.
  """
  loop.train(tiny.run(optimizer__name='sgd', total_steps=4, eval__every=0), tmp_path)
  run = tiny.run(optimizer__name='sgd', optimizer__learning_rate=3e38, eval__every=0)
  run, stop = _asked_in(run, 5) if asked else (run, None)
  with pytest.raises(loop.Diverged, match=f'not finite after update {5 if asked else 8}'
                     ': an update overflowed .*nothing has been saved since; lower .*clip_norm'):
    loop.train(run, tmp_path, stop=stop)
  with checkpoint.manager(tmp_path / 'checkpoints', read_only=True) as manager:
    assert manager.latest_step() == 4
    _, state = checkpoint.restore(manager, run.create_state())
  assert is_finite(state)
  row = tiny.rows(tmp_path)[4]   # of update 5: it was not skipped
  assert row['train/skipped'] == 0
  assert np.isfinite([row['train/loss'], row['train/grad_norm']]).all()


def test_non_finite_samples_spoil_a_picture_and_are_counted_but_the_run_goes_on(tmp_path):
  """There is a row to count them in wherever pictures are drawn, also between logged ones."""
  run = tiny.run('flow', optimizer__name='sgd', optimizer__learning_rate=1e6, eval__every=0,
                 eval__sample_every=6, log__every=8, max_nonfinite=1000)
  outcome = loop.train(run, tmp_path)
  assert outcome.reason == 'finished'
  rows = tiny.rows(tmp_path)
  assert [row['step'] for row in rows] == [6, 8]
  assert all(0 < row['sample/nonfinite_share'] <= 1 for row in rows)
  assert (tmp_path / 'checkpoints' / '8').is_dir()
  assert (tmp_path / 'samples' / '00000008.png').exists()


def test_the_time_of_evaluations_is_that_of_all_of_them(tmp_path):
  """Two, each 0.2 s longer than it is; none without them."""
  run = tiny.run()
  def slow(state):
    time.sleep(.2)
    return run.evaluate(state)
  outcome = loop.train(dataclasses.replace(run, evaluate=slow), tmp_path / 'a')
  assert outcome.evaluating > .4
  assert loop.train(tiny.run(eval__every=0), tmp_path / 'b').evaluating == 0


def test_rows_say_what_was_done(tmp_path):
  run = tiny.run(eval__sample_every=8)
  loop.train(run, tmp_path)
  rows = metrics.read_rows(tmp_path / 'metrics.jsonl')
  assert all(10 < row['memory/host_peak_mb'] < 1e5 for row in rows)
  assert rows[0]['train/level'] == 1
  assert rows[-1]['train/level'] == 0
  assert {'train/loss', 'train/kl', 'train/reconstruction', 'train/grad_norm', 'train/skipped',
          'valid/log_likelihood', 'valid/bits_per_dim'} <= rows[-1].keys()
  assert rows[-1]['sample/nonfinite_share'] == 0
  assert not {'valid/log_likelihood', 'sample/nonfinite_share'} & rows[0].keys()
  for folder in ('samples', 'reconstructions', 'interpolations'):
    assert (tmp_path / folder / '00000008.png').stat().st_size > 0


def test_tensorboard_gets_rows_and_samples(tmp_path):
  run = tiny.run(log__tensorboard=True, eval__sample_every=8)
  loop.train(run, tmp_path)
  events = list((tmp_path / 'tensorboard').iterdir())
  content = b''.join(path.read_bytes() for path in events)
  assert content.count(b'train/loss') == 8   # what a row is completed by goes there alone
  assert b'sample/nonfinite_share' in content
  assert b'valid/log_likelihood' in content
  assert b'samples' in content
