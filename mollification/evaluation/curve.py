"""The figure of a metric against the step, from records alone."""
import pathlib

from mollification import files


def draw(records, folder):
  """A PNG in `folder` for each figure with records at two or more steps; returns their paths.

  `records` are those of one workdir; `Record.figure` tells figures apart. Error bars are one
  standard error.
  """
  figures = {}
  for record in records:
    figures.setdefault(record.figure, {})[record.step] = record
  return [_draw(by_step, pathlib.Path(folder) / f'{name}.png')
          for name, by_step in sorted(figures.items()) if len(by_step) > 1]


def _draw(by_step, path):
  from matplotlib.figure import Figure  # of no global state, a backend least of all
  steps = sorted(by_step)
  found = [by_step[step] for step in steps]
  figure = Figure(figsize=(5.2, 3.8))
  ax = figure.subplots()
  ax.errorbar(steps, [record.value for record in found],
              yerr=[record.standard_error or 0 for record in found], marker='o', ms=3, capsize=2)
  net = f" ({found[-1].features['net']})" if found[-1].features else ''
  ax.set(xlabel='updates', ylabel=f'{found[-1].metric}{net}', title=(
    f"{found[-1].reference['dataset']}/{found[-1].reference['split']}, n = {found[-1].n:,}"))
  ax.spines[['top', 'right']].set_visible(False)
  figure.tight_layout()
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as part:
    figure.savefig(part, dpi=130, format='png')
  return path
