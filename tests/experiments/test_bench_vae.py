"""The bench of the VAEs: every row has a tiny form, and our side of it runs without the extra."""
import json

import pytest

from experiments.bench import rows, vae


def test_every_measure_has_a_tiny_form():
  assert vae.SMOKE.keys() == vae.MEASURES.keys() == {'vae', 'iwae', 'vae_iaf', 'hvae', 'hvae_held'}


@pytest.mark.parametrize('cores, clock', [({3}, rows.processor_seconds_of),
                                          ({0, 1}, rows.seconds_of)])
def test_what_others_take_of_the_only_core_does_not_count(cores, clock, monkeypatch):
  """Of several, threads that wait would count as well: then it is the clock's time."""
  for name in '_library_step', '_our_step':
    monkeypatch.setattr(vae, name, lambda *_: lambda: None)
  monkeypatch.setattr(vae.os, 'sched_getaffinity', lambda _: cores)
  clocks = []

  def interleaved(*_, clock, **__):
    clocks.append(clock)
    return rows.Comparison(2., 1., 2., 1., 5, (2., 2.))
  monkeypatch.setattr(rows, 'interleaved', interleaved)
  row, = vae.hvae()
  assert clocks == [clock]
  assert row.ratio == 2.


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vae', 'hvae_held'])   # options alone, and joined to others
def test_our_side_of_a_tiny_form_runs(name, monkeypatch, capsys):
  monkeypatch.setattr(vae, '_library_step', lambda model, batch_size: lambda: None)
  assert rows.main(vae.MEASURES, '', ['--smoke', '--json', f'--only={name}'], smoke=vae.SMOKE) == 0
  row = json.loads(capsys.readouterr().out)
  assert row['name'] == f'{name}_step'
  assert row['reference'].startswith('pythae, batch 8, 1 pairs')
  assert row['value'] > 0
