"""Of every model on images: samples of the arms side by side, drawn from the same keys, and curves.

From the committed records and pictures of MODEL/ARM/SEED alone.
"""
import html
import json
import re

from experiments import image_cells, image_runs, names, over_training, page_charts, page_text
from mollification.evaluation import records

WORDS = (
  'Samples are of the last update of the first seed; those at the same place are drawn from the '
  'same key in every arm. Curves are means over seeds with a band of one standard error; distances '
  'over the updates are of one seed, and have none. The dotted line is where the level of the '
  'mollified arms reaches 0: from there on all arms train on clean data. The axis of a likelihood '
  'ends a little below the lower quartile of its lowest curve. How many samples are not finite '
  'stands below the pictures: what in them is no number is black, as in many tiles of GLOW.')
NEAREST = (
  'Nearest to training images, in the features of the data set, of all samples that were measured; '
  'the image is below its sample:')


def of_dataset(folder):
  """HTML of all models below `folder` that have samples or curves; '' for none."""
  found = [(model.name, inside) for model in sorted(folder.glob('*')) if model.is_dir()
           if (inside := _of_model(model))]
  if not found:
    return ''
  return f'<p>{html.escape(WORDS)}</p>\n' + '\n'.join(
    f'<h3>{html.escape(names.MODELS.get(name, name))}</h3>\n{inside}' for name, inside in found)


def _of_model(folder):
  """Samples of each arm from the first seed, and curves of all seeds; '' where there are none."""
  arms = [arm for arm in image_cells.ARMS if (folder / arm).is_dir()]
  grids = ''.join(_of_arm(folder / arm / image_cells.WATCHED, 'measured') for arm in arms)
  nearest = ''.join(_of_arm(folder / arm / image_cells.WATCHED, 'nearest') for arm in arms)
  charts = ''.join(page_charts.of_model(folder, arms))
  if not (grids or charts):
    return ''
  return '\n'.join(part for part in (
    f'<p>{html.escape(_runs(folder, arms))}</p>',
    grids and f'<div class="arms">{grids}</div>',
    charts and f'<div class="charts">{charts}</div>',
    nearest and f'<p>{NEAREST}</p>\n<div class="arms">{nearest}</div>') if part)


def _runs(folder, arms):
  """How long and how many the runs of a model are, in words."""
  places = [place for arm in arms for place in sorted((folder / arm).glob('[0-9]*'))
            if image_runs.scored_to_its_end(place)]
  said = [f'{len({place.name for place in places})} seeds of {", ".join(arms)}']
  totals = {json.loads(path.read_text())['total_steps'] for place in places
            if (path := place / 'config.json').exists()}
  said += [f'{total:,} updates' for total in sorted(totals)]
  ends = {over_training.end_of_noise(place) for place in places} - {0}
  said += [f'level 0 from update {end:,} on' for end in sorted(ends)]
  return '; '.join(said) + '.'


def _of_arm(place, kind):
  """The last picture of a run that is called KIND-PARAMS-STEP.png, with its caption; '' for none.

  'measured' is a grid of samples, 'nearest' that of `experiments.nearest`.
  """
  paths = sorted((place / 'samples').glob(f'{kind}-*.png'))
  if not paths:
    return ''
  step = int(re.search(r'-(\d+)\.png$', paths[-1].name)[1])
  words = '' if kind == 'nearest' else _nonfinite(place, step)
  what = 'Nearest to training images: ' if kind == 'nearest' else ''
  dataset, model = place.parts[-4:-2]
  return page_text.figure(
    paths[-1], f'{what}{names.MODELS.get(model, model)} on {names.DATASETS.get(dataset, dataset)}, '
    f'{place.parent.name}, seed {place.name}, {step:,} updates{words}')


def _nonfinite(place, step):
  """How many of the samples of a run are not finite, of the most that were looked at."""
  counts = [(r.n, r.extra['nonfinite_samples']) for r in records.read_all(place / 'records')
            if r.step == step and 'nonfinite_samples' in r.extra]
  n, count = max(counts, default=(0, 0))
  return f'; {count:,} of {n:,} samples are not finite' if count else ''
