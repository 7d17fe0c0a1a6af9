"""The bench of the VAEs: every row has a tiny form, and our side of it runs without the extra."""
import json

import pytest

from experiments.bench import rows, vae


def test_every_measure_has_a_tiny_form():
  assert vae.SMOKE.keys() == vae.MEASURES.keys() == {'vae', 'iwae', 'vae_iaf', 'hvae', 'hvae_held'}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vae', 'hvae_held'])   # options alone, and joined to others
def test_our_side_of_a_tiny_form_runs(name, monkeypatch, capsys):
  monkeypatch.setattr(vae, '_library_step', lambda model, batch_size: lambda: None)
  assert rows.main(vae.MEASURES, '', ['--smoke', '--json', f'--only={name}'], smoke=vae.SMOKE) == 0
  row = json.loads(capsys.readouterr().out)
  assert row['name'] == f'{name}_step'
  assert row['reference'].startswith('pythae, batch 8, 1 pairs')
  assert row['value'] > 0
